"""A full server, and a user with very many sessions."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.internals import handle_of, open_session
from ..support.keyspace import Look, look, plant
from ..support.sessions import create, live_among, log_in, opened

pytestmark = pytest.mark.on_cluster


async def test_out_of_memory_everybody_can_still_be_logged_out() -> None:
    """A full Redis: logging in is refused and leaves nothing; every way of ending works."""
    with DevServer() as server, redis.Redis.from_url(server.url) as admin:
        async with opened(server.url, "app") as store:
            ids = [await log_in(store, "ann", n=1) for _ in range(6)]
            anonymous = await create(store, n=1)
            mine = await open_session(store, ids[0]).load()
            was = look(admin, "app")
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", 1)
            admin.script_flush()
            for old in (None, anonymous, ids[1]):
                with pytest.raises(SessionUnavailable):
                    await log_in(store, "ann", old)
            await store.drain()
            assert look(admin, "app") == was
            await (await open_session(store, ids[1]).load()).logout()
            assert await live_among(store, ids) == [ids[0], *ids[2:]]
            assert await store.users.revoke("ann", handle_of(store, ids[2])) is True
            assert await store.users.count("ann") == 4
            assert await store.users.revoke_others(mine) == 3
            assert await live_among(store, ids) == ids[:1]
            assert await store.users.revoke_all("ann") == 1
            assert look(admin, "app") == look_of(store, anonymous)


def look_of(store: SessionStore, anonymous: str) -> Look:
    return Look(users={handle_of(store, anonymous): ""})


async def test_10000_sessions_of_one_user(store: SessionStore, admin: Any, prefix: str) -> None:
    """A page, the count, a login and revoke_all: no step keeps the server busy for 5 ms."""
    ids = plant(admin, store, "ann", 10_000)
    slower = admin.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
    admin.config_set("slowlog-log-slower-than", 5_000)

    def held_up(of_each: int, of_pages: int) -> bool:
        slow = [entry["command"].decode() for entry in admin.slowlog_get(1000)]
        ours = [command for command in slow if prefix in command]
        pages = sum(f"{prefix}:user:" in command for command in ours)
        return pages > of_pages // 4 or len(ours) - pages > of_each // 100

    async def quickly(
        step: Callable[[], Awaitable[Any]], of_each: int = 0, of_pages: int = 0
    ) -> Any:
        # A busy machine may hold the server up for a moment, which looks the same as a command
        # that takes too long; but that would show each time, or in each of so many commands.
        for _ in range(10):
            admin.slowlog_reset()
            result = await step()
            if not held_up(of_each, of_pages):
                return result
        pytest.fail(f"a step of over 5 ms each time: {admin.slowlog_get(1)}")

    try:
        page = await quickly(lambda: store.users.list("ann", limit=100))
        newest = ids[:-101:-1]
        assert [info.handle for info in page] == [handle_of(store, one) for one in newest]
        assert len(await quickly(lambda: store.users.list("ann", offset=9_950))) == 50
        assert await quickly(lambda: store.users.count("ann"), 10_000, 20) == 10_000
        await quickly(lambda: log_in(store, "ann"))
        logins = await store.users.count("ann")
        assert await store.users.revoke("ann", page[50].handle) is True
        admin.slowlog_reset()
        assert await store.users.revoke_all("ann") == logins - 1
        assert not held_up(10_000, 40)
    finally:
        admin.config_set("slowlog-log-slower-than", slower)
    assert look(admin, prefix) == Look()
