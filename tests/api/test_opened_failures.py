"""`store.open` where its commit fails."""

import asyncio
from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.internals import index_key_of
from ..support.keyspace import session_keys
from ..support.steps import Steps


@pytest.mark.parametrize("error", [SessionUnavailable("down"), asyncio.CancelledError()])
async def test_a_login_whose_commit_fails_gives_its_place_back(
    store: SessionStore, admin: Any, error: BaseException
) -> None:
    """No reserved place is left, which would count against the user's limit for a minute."""
    steps = Steps(store)
    with pytest.raises(type(error)):
        async with store.open(None) as opened:
            await opened.session.login("ann")
            assert admin.zcard(index_key_of(store, "ann")) == 1
            steps.fail_at(1, error, done=True)
    await store.drain()
    assert admin.zcard(index_key_of(store, "ann")) == 0
    assert session_keys(admin, store.prefix) == []
    assert opened.set_cookie is None
