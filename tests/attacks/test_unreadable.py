"""Sessions that can't be read: they are in nobody's way, and never lost sight of."""

from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnreadable

from ..support.internals import handle_of, key_of
from ..support.keyspace import index_key, look
from ..support.sessions import is_live, log_in, opened
from .conftest import Cases

#: What a newer version, or another program, has made of a hash.
DAMAGE = [("@v", "2"), ("@deadline", "soon"), ("@idle", "0"), ("@idle", "9" * 20)]


async def test_an_unreadable_session_keeps_its_place(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """The others end, the error says how many are left, and no login is kept out or evicted."""
    for limit, on_limit in ((None, "evict"), (2, "evict"), (2, "reject")):
        for name, value in DAMAGE:
            for key in list(admin.scan_iter(f"{prefix}:*")):
                admin.delete(key)
            async with opened(
                session_redis_url, prefix, max_sessions_per_user=limit, on_limit=on_limit
            ) as store:
                bad = await log_in(store, "ann")
                admin.hset(key_of(store, bad), name, value)
                good = [await log_in(store, "ann") for _ in range(2)]
                await _check(store, bad, good)
                assert handle_of(store, bad) in look(admin, prefix).places[index_key(prefix, "ann")]
            cases()


async def _check(store: SessionStore, bad: str, good: list[str]) -> None:
    assert [await is_live(store, one) for one in good] == [True, True]
    assert await store.users.count("ann") == len(await store.users.list("ann")) == 2
    with pytest.raises(SessionUnreadable, match="1 of this user's") as error:
        await store.users.revoke_all("ann")
    assert error.value.number == 1
    assert [await is_live(store, one) for one in good] == [False, False]
    assert await store.users.count("ann") == len(await store.users.list("ann")) == 0
    with pytest.raises(SessionUnreadable):
        await store.users.revoke("ann", handle_of(store, bad))
