"""A store, and sessions in it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from asgi_redis_session import Session, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import cookie_change, load_scripts, open_session
from ..support.page import Page


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


@pytest.fixture
def kit(sessions: SessionKit, admin: redis.Redis) -> SessionKit:
    """The server knows every script, so that a first EVAL does not count."""
    load_scripts(admin)
    return sessions


New = Callable[..., Awaitable[tuple[Session, str]]]


@pytest.fixture
def new(store: SessionStore) -> New:
    """A function that makes a session with these fields; returns another object of it, loaded."""

    async def make(**fields: Any) -> tuple[Session, str]:
        session = await open_session(store).load()
        session.update(fields)
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert change.session_id is not None
        return await open_session(store, change.session_id).load(), change.session_id

    return make


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page
