"""What counts as a URL of a store, and where a store can't run."""

from typing import Any

import pydantic
import pytest
import redis

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.dropin import SessionMiddleware as DropIn

from ..support.internals import open_session, refresh


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def test_a_dsn_of_pydantic_is_a_url() -> None:
    """As settings classes have it."""
    dsn = pydantic.TypeAdapter(pydantic.RedisDsn).validate_python("redis://localhost:6379/3")
    for middleware in (
        SessionMiddleware(app, store=dsn),  # type: ignore[arg-type]
        DropIn(app, "a secret of the app, long", store=dsn),  # type: ignore[arg-type]
    ):
        assert isinstance(middleware.store, SessionStore)


@pytest.mark.parametrize("client", [redis.Redis(), 7, None])
def test_what_is_no_url_is_refused(client: Any) -> None:
    """A client of redis-py is not turned into text."""
    with pytest.raises(TypeError, match="a SessionStore or a Redis URL"):
        SessionMiddleware(app, store=client)


@pytest.mark.parametrize("secret", [None, ["n" * 32, "o" * 32]])
def test_trio_gets_one_sentence(secret: Any) -> None:
    """Where no asyncio loop runs, the error says what is needed, and closing is no error."""
    store = SessionStore.from_url("redis://localhost:1/0", secret=secret)
    session = open_session(store, "x" * 43)
    with pytest.raises(RuntimeError, match="no connections for Trio"):
        session.load().send(None)
    with pytest.raises(RuntimeError, match="no connections for Trio"):
        refresh(store, "0" * 32)
    with pytest.raises(StopIteration):
        store.aclose().send(None)
