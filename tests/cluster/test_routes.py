"""A store on a Redis Cluster: each session on its node's lane."""

import asyncio
import os
import signal
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.internals import key_of, lanes_of, open_session, refresh
from ..support.nodes import errors_of, on
from ..support.servers import SOON_MS, Cluster, frozen, replicated
from ..support.sessions import create, load, works


async def test_every_session_goes_straight_to_its_node(
    healthy: Cluster, store: SessionStore, admin: Any
) -> None:
    """Three masters, a lane for each, and nobody is ever sent on by MOVED."""
    ids = [await create(store, n=number) for number in range(30)]
    before = errors_of(healthy, "MOVED")
    assert [await load(store, one) for one in ids] == list(range(30))
    assert {healthy.owner(key_of(store, one)).port for one in ids} == {
        node.port for node in healthy.others()
    }
    assert len(lanes_of(store)) == 3
    assert errors_of(healthy, "MOVED") == before
    for session_id in ids[:3]:
        await works(store, session_id)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_either_protocol_will_do(healthy: Cluster, prefix: str, protocol: int) -> None:
    """The topology, every verb and the check, in RESP2 and RESP3."""
    url = f"{healthy.url}?protocol={protocol}"
    async with SessionStore.from_url(url, prefix=prefix) as store:
        await works(store, await create(store, n=0))
        report = await store.check()
        assert report.is_ok
        assert {finding.name for finding in report.findings} >= {"version", "cluster", "clock"}


async def test_writes_alone_find_a_new_master(prefix: str) -> None:
    """Nothing is ever loaded: a write that fails makes the next one look again."""
    with Cluster(3, 1, dead_after_ms=SOON_MS) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=3) as store:
            dead = cluster.owner("any")
            session = await open_session(store, await on(cluster, store, dead)).load()
            replicated(dead)
            os.kill(dead.pid, signal.SIGKILL)
            async with asyncio.timeout(100):
                for number in range(1, 1000):
                    session["n"] = number
                    try:
                        await session.save()
                    except SessionUnavailable:
                        await asyncio.sleep(0.05)
                    else:
                        break
            info = await store.get(session.handle or "")
            assert info is not None
            assert info.fields == {"n": number}


async def test_commands_of_all_callers_gather_for_each_node(store: SessionStore) -> None:
    """300 loads at once: a few batches for each of three nodes, not 300."""
    ids = [await create(store, n=0) for _ in range(30)]
    for one in ids:  # so that every node knows the script
        await load(store, one)
    before = store.stats
    await asyncio.gather(*[load(store, one) for one in ids * 10])
    await store.drain()
    assert store.stats.commands - before.commands >= 2 * 300  # each with its PEXPIREAT
    assert store.stats.batches - before.batches <= 30


async def test_a_client_that_is_handed_in_stays_unused(healthy: Cluster, prefix: str) -> None:
    """RedisCluster says where to start; it never connects, and is not closed."""
    client = RedisCluster(host="localhost", port=healthy.nodes[0].port)
    async with SessionStore(client, prefix=prefix) as store:
        await works(store, await create(store, n=0))
    assert client.get_nodes() == []


async def test_one_living_starting_node_is_enough(healthy: Cluster, prefix: str) -> None:
    """The others of the URL may be down or hang."""
    masters = healthy.others()
    hung = next(node for node in healthy.nodes if node not in masters)
    ports = [1, hung.port, masters[0].port]
    url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"
    with frozen(hung):
        async with SessionStore.from_url(url, prefix=prefix) as store:
            await works(store, await create(store, n=0))


async def test_no_node_answers(prefix: str) -> None:
    """One sentence that says so; the store is made all the same."""
    async with SessionStore.from_url("redis+cluster://127.0.0.1:1", prefix=prefix) as store:
        with pytest.raises(SessionUnavailable, match=r"127\.0\.0\.1:1 did not list its slots"):
            await create(store, n=0)
        refresh(store, "0" * 32)
        await store.drain()
        assert store.stats.errors == 2


async def test_a_server_that_is_no_cluster(prefix: str) -> None:
    """One sentence that names the server's own words."""
    with DevServer(search=False) as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        async with SessionStore.from_url(url, prefix=prefix) as store:
            with pytest.raises(SessionUnavailable, match="cluster support disabled"):
                await create(store, n=0)
