"""A user's index that another program has written to: nobody is kept out, or out of sight."""

import itertools
from collections.abc import Callable
from typing import Any

from asgi_redis_session import SessionEvent

from ..support.internals import handle_of
from ..support.keyspace import index_key
from ..support.sessions import is_live, log_in, opened
from .conftest import Cases

MEMBERS = [b"\xff\xfe", b"", b"x", b"0" * 31, "ü".encode(), b"A" * 32]
VERBS = ["login", "count", "list", "revoke", "revoke_all"]
SCORES = ["+inf", "-inf", "0", "-1", "1e300", "-1e300"]


async def test_garbage_in_an_index_stops_nobody(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """Members that are no handle, and scores that are no time: logins, lists and ends work."""
    events: list[SessionEvent] = []
    for score in SCORES:
        for member in [*MEMBERS, None]:  # None: the session's own place
            async with opened(
                session_redis_url, prefix, max_sessions_per_user=3, on_event=events.append
            ) as store:
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
                # The session's own place, with 0 or -1, is one that was reserved or very old.
                is_seen = member is not None or score not in {"0", "-1"}
                assert ("corrupt" in {event.name for event in events}) == is_seen, (member, score)
                events.clear()
            cases()


async def test_something_else_in_the_place_of_an_index(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """Another type of key: each verb works, as if the user had no session, and it is reported."""
    events: list[SessionEvent] = []
    key = index_key(prefix, "ann")
    plants: list[Callable[[], Any]] = [
        lambda: admin.set(key, "x"),
        lambda: admin.hset(key, "a", "b"),
        lambda: admin.rpush(key, "a"),
        lambda: admin.sadd(key, "a"),
    ]
    async with opened(session_redis_url, prefix, on_event=events.append) as store:
        for plant, verb in itertools.product(plants, VERBS):
            events.clear()
            plant()
            if verb == "login":
                await is_live(store, await log_in(store, "ann"))
                assert await store.users.revoke_all("ann") == 1
            elif verb == "list":
                assert await store.users.list("ann") == []
            elif verb == "revoke":
                assert await store.users.revoke("ann", "0" * 32) is False
            else:
                assert await getattr(store.users, verb)("ann") == 0
            await store.drain()
            assert [event.name for event in events].count("corrupt") == 1
            assert not admin.exists(key)
            cases()
