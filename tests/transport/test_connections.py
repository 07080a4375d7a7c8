"""Connections that close, come back, fork, and belong to other loops."""

import asyncio
import gc
import os
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.gate import gate_to
from ..support.internals import handle_of, key_of, open_session, refresh
from ..support.sessions import connections, create

pytestmark = pytest.mark.on_cluster

#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


async def test_scripts_come_back_after_script_flush(store: SessionStore, admin: Any) -> None:
    """NOSCRIPT, at any time and for any verb, refreshes included, costs a round trip."""
    session_id = await create(store, n=1)
    handle = handle_of(store, session_id)
    admin.script_flush()
    assert (await open_session(store, session_id).load())["n"] == 1
    admin.script_flush()
    assert await open_session(store, session_id).increment("n") == 2
    session = await open_session(store, session_id).load()
    session["n"] = 3
    admin.script_flush()
    await session.save()
    admin.script_flush()
    admin.pexpire(f"{store.prefix}:{handle}", MINUTE)
    refresh(store, handle)
    while admin.pttl(f"{store.prefix}:{handle}") <= MINUTE:
        await store.drain()
        await asyncio.sleep(0.01)
    admin.script_flush()
    assert await store.revoke(handle)


@pytest.mark.one_node
async def test_a_load_that_is_tried_again_may_meet_a_server_without_scripts(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """A restarted server has cut the connection and knows no script: a load survives both."""
    with gate_to(session_redis_url) as gate:
        async with SessionStore.from_url(gate.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.script_flush()
            gate.cut("commands", 0)
            assert (await open_session(store, session_id).load())["n"] == 1
            await open_session(store, session_id).logout()


@pytest.mark.one_node
@pytest.mark.parametrize("made", ["pool", "blocking", "decoding", "default"])
async def test_any_client_is_made_safe(session_redis_url: str, prefix: str, made: str) -> None:
    """Whatever a handed-in client retries, decodes or times out, the store does not."""
    client = {
        "pool": lambda: Redis.from_url(session_redis_url, max_connections=1),
        "blocking": lambda: Redis(
            connection_pool=BlockingConnectionPool.from_url(session_redis_url, timeout=1)
        ),
        "decoding": lambda: Redis.from_url(session_redis_url, decode_responses=True),
        "default": lambda: Redis(
            port=urlsplit(session_redis_url).port or 0,
            socket_timeout=5,
        ),
    }[made]()
    async with SessionStore(client, prefix=prefix) as store:
        session_id = await create(store, text="é", raw="'")
        assert dict(await open_session(store, session_id).load()) == {"text": "é", "raw": "'"}
        assert await store.revoke(handle_of(store, session_id))
    assert await client.ping()  # not ours: still open
    await client.aclose(close_connection_pool=True)


async def test_unix_sockets_work(prefix: str) -> None:
    """unix:// URLs reach a server that listens on no port."""
    with DevServer(unix=True) as server:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            assert (await open_session(store, session_id).load())["n"] == 1


def test_several_event_loops_share_a_store(session_redis_url: str, prefix: str) -> None:
    """Loops in threads, and one after the other, each get their own connection."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    session_id = asyncio.run(create(store, n=0))

    async def work() -> None:
        for _ in range(50):
            await open_session(store, session_id).increment("n")
        await store.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def finish() -> int:
        async with store:
            n: int = (await open_session(store, session_id).load())["n"]
            await open_session(store, session_id).logout()
            return n

    assert asyncio.run(finish()) == 200


def test_a_loop_that_nobody_closed_leaves_no_connection(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """A lane closes with its event loop, without a warning (pytest turns those into errors)."""
    before = {client["id"] for client in admin.client_list()}
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    session_id = asyncio.run(create(store, n=0))
    asyncio.run(open_session(store, session_id).logout())
    gc.collect()
    assert connections(admin, before) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_workers_open_connections_of_their_own(session_redis_url: str, prefix: str) -> None:
    """A store that has been used before a fork works in parent and children, replies unmixed."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    loop = asyncio.new_event_loop()
    ids = [loop.run_until_complete(create(store, who=number)) for number in range(4)]

    async def check(number: int) -> None:
        for _ in range(200):
            assert (await open_session(store, ids[number]).load())["who"] == number

    children = []
    for number in range(1, 4):
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            try:
                asyncio.run(check(number))
                os._exit(0)
            except BaseException:  # noqa: BLE001  (a child must not return into pytest)
                os._exit(1)
        children.append(pid)
    loop.run_until_complete(check(0))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    for session_id in ids:
        loop.run_until_complete(open_session(store, session_id).logout())
    loop.run_until_complete(store.aclose())
    loop.close()


async def test_closing_waits_for_what_is_on_its_way(store: SessionStore, admin: Any) -> None:
    """Refreshes that nobody waits for are sent before the connection closes."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    refresh(store, handle_of(store, session_id))
    await store.aclose()
    assert admin.pttl(key) > MINUTE


async def test_a_closed_store_can_be_used_again(store: SessionStore) -> None:
    """`aclose` closes connections, not the store: the next command opens a new one."""
    session_id = await create(store, n=1)
    await store.aclose()
    assert (await open_session(store, session_id).load())["n"] == 1
