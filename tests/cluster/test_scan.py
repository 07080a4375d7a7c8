"""A pass over all keys of a Cluster while slots and masters change."""

from collections import Counter
from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.internals import handle_of, key_of
from ..support.nodes import on
from ..support.servers import Cluster, ask, wait_for
from ..support.sessions import create

pytestmark = pytest.mark.one_node


def held(node: DevServer, prefix: str) -> list[bytes]:
    """The keys that SCAN shows on this node."""
    keys: list[bytes] = ask(node, "SCAN", 0, "MATCH", f"{prefix}:*", "COUNT", 10_000)[1]
    return keys


async def in_order(cluster: Cluster, store: SessionStore) -> list[DevServer]:
    """The masters in the order of a pass, each with sessions of its own."""
    for node in cluster.others():
        for _ in range(3):
            await on(cluster, store, node)
    seen = [info.handle async for info in store.scan()]
    owners = [cluster.owner(f"{store.prefix}:{handle}") for handle in seen]
    return list(dict.fromkeys(owners))


async def test_a_session_that_moves_is_shown_once(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """Its slot moves to a master that the pass has still to look at."""
    first, *_, last = await in_order(healthy, store)
    mover = await on(healthy, store, first)
    key = key_of(store, mover)
    found: Counter[str] = Counter()
    async for info in store.scan():
        found[info.handle] += 1
        if info.handle == handle_of(store, mover):
            assert key.encode() in held(first, prefix)
            healthy.migrate(key, last).finish()
            assert key.encode() in held(last, prefix)
    assert found[handle_of(store, mover)] == 1
    assert set(found.values()) == {1}
    assert await store.count() == len(found)


async def test_another_master_makes_the_pass_fail(
    healthy: Cluster, store: SessionStore, admin: Any
) -> None:
    """What it was asked before may not be all: the operator begins again."""
    last = (await in_order(healthy, store))[-1]
    replica = healthy.replica_of(last)
    number = await store.count()
    with pytest.raises(SessionUnavailable, match="masters of the Redis Cluster have changed"):
        async for _ in store.scan():
            if replica in healthy.others():
                continue
            ask(replica, "CLUSTER", "FAILOVER")
            wait_for(lambda: replica in healthy.others())
    assert await store.count() == number
    await create(store, n=1)
