"""Sessions in the store."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore

from ..support.internals import cookie_change, open_session


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


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
def store_with(session_redis_url: str, prefix: str) -> Any:
    def make(**options: Any) -> SessionStore:
        return SessionStore.from_url(session_redis_url, prefix=prefix, **options)

    return make
