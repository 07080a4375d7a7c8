"""A user's index that another program has written to: nobody is kept out, or out of sight."""

from typing import Any

from ..support.internals import handle_of
from ..support.keyspace import index_key
from ..support.sessions import is_live, log_in, opened
from .conftest import Cases

MEMBERS = [b"\xff\xfe", b"", b"x", b"0" * 31, "ü".encode(), b"A" * 32]
SCORES = ["+inf", "-inf", "0", "-1", "1e300", "-1e300"]


async def test_garbage_in_an_index_stops_nobody(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """Members that are no handle, and scores that are no time: logins, lists and ends work."""
    for score in SCORES:
        for member in [*MEMBERS, None]:  # None: the session's own place
            async with opened(session_redis_url, prefix, max_sessions_per_user=3) as store:
                key = index_key(prefix, "ann")
                first = await log_in(store, "ann")
                mine = handle_of(store, first)
                admin.zadd(key, {mine if member is None else member: score})
                second = await log_in(store, "ann")
                shown = {info.handle for info in await store.users.list("ann")}
                assert handle_of(store, second) in shown
                assert await store.users.count("ann") == 2
                assert await store.users.revoke_all("ann") == 2
                assert not await is_live(store, first)
                assert not await is_live(store, second)
                assert await store.users.count("ann") == 0
                admin.delete(key)
            cases()
