"""What a Cluster remembers of sessions that have ended: beside their keys, by a step of its own."""

from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import open_session
from ..support.servers import Cluster
from ..support.sessions import create, log_in

MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture
async def store(healthy: Cluster, prefix: str) -> Any:
    async with SessionStore.from_url(
        healthy.url, prefix=prefix, timeout=20, remember_ended=HOUR / 1000
    ) as store:
        yield store


async def remembered(store: SessionStore, admin: Any, handle: str | None) -> dict[bytes, int]:
    """The kinds of ends that a tombstone names, each with the time (ms) for which it does."""
    await store.drain()
    key = f"{store.prefix}:ended:{{{store.prefix}:{handle}}}"
    return {kind: admin.pttl(key) for kind in admin.zrange(key, 0, -1)}


async def test_a_logout_is_remembered_for_as_long_as_the_store_says(
    store: SessionStore, admin: Any
) -> None:
    """As an end by `revoke` is."""
    session = await open_session(store, await create(store, n=1)).load()
    handle = session.handle
    await session.logout()
    found = await remembered(store, admin, handle)
    assert list(found) == [b"logged_out"]
    assert HOUR / 2 < found[b"logged_out"] <= HOUR
    session = await open_session(store, await log_in(store, "ann")).load()
    assert await store.revoke(session.handle or "")
    assert list(await remembered(store, admin, session.handle)) == [b"revoked"]


@pytest.mark.parametrize("verb", ["renew", "login"])
async def test_a_move_is_remembered_for_a_minute(
    store: SessionStore, admin: Any, verb: str
) -> None:
    """Requests with the old id are under way for no longer."""
    session = await open_session(store, await create(store, n=1)).load()
    old = session.handle
    if verb == "renew":
        session.renew()
    else:
        await session.login("ann")
    await session.save()
    found = await remembered(store, admin, old)
    assert list(found) == [b"replaced"]
    assert MINUTE / 2 < found[b"replaced"] <= MINUTE


async def test_what_was_never_there_is_not_remembered(store: SessionStore, admin: Any) -> None:
    """An id that somebody has made up leaves nothing in Redis."""
    assert not await store.revoke("0" * 32)
    assert await remembered(store, admin, "0" * 32) == {}
