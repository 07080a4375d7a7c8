"""A store, and a page that uses its sessions."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionEvent, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import load_scripts
from ..support.page import Page

Headers = list[tuple[bytes, bytes]]


def cookie(*values: bytes) -> Headers:
    return [(b"cookie", value) for value in values]


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


@pytest.fixture
def kit(sessions: SessionKit, admin: redis.Redis) -> SessionKit:
    """The server knows every script, so that a first EVAL does not count."""
    load_scripts(admin)
    return sessions


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page


def names_of(events: list[SessionEvent]) -> list[str]:
    return [event.name for event in events]
