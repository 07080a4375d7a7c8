"""
Rows 16 to 22 and 27: masters that fail, hand over, or lose their replicas; slots that move.

The short forms run one failover; `make faults` runs ten of each kind, with and without WAIT.
Case by case, tests/cluster and tests/transport/test_sentinel.py have what is answered while slots
move and nodes fail, and tests/engine/test_durability.py what a WAIT that falls short says.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import handle_of, open_session
from ..support.servers import SOON_MS, Cluster, ask, client_of, wait_for
from ..support.sessions import create
from .failover import Fault, Sharded, Watched, failovers, replicated
from .journal import Journal, Tally
from .servers import BINARY, Server


async def test_a_master_crashes_after_its_replicas_were_cut_off() -> None:
    """With WAIT nothing acknowledged is lost and nobody is back, even then; requests recover."""
    tally = await failovers("sentinel", "cut off", 1, **replicated(1))
    assert tally.writes > 50
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)


async def _ten(kind: str, fault: Fault, replicas: int, figure: Callable[[str], None]) -> Tally:
    tally = await failovers(kind, fault, 10, **replicated(replicas))
    figure(f"{kind}, {fault}{f', WAIT {replicas}' if replicas else ''}: {tally}")
    assert (tally.partial, tally.immortal) == (0, 0)
    assert max(tally.recoveries) < 60
    return tally


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "fault", "replicas"),
    [
        ("sentinel", "crash", 0),
        ("sentinel", "cut off", 0),
        ("sentinel", "planned", 0),
        # The replica that was waited for may be the one that is not promoted.
        ("sentinel", "planned", 1),
        ("sentinel, min-replicas-to-write", "cut off", 0),
        ("sentinel, min-replicas-to-write", "planned", 0),
        ("cluster", "crash", 0),
        ("cluster", "cut off", 0),
    ],
)
async def test_10_failovers_that_may_lose_writes(
    kind: str, fault: Fault, replicas: int, figure: Callable[[str], None]
) -> None:
    """What is lost, and how long requests are refused; nothing half, nothing without TTL."""
    await _ten(kind, fault, replicas, figure)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "fault", "replicas"),
    [
        ("sentinel", "crash", 1),
        ("sentinel", "cut off", 1),
        ("sentinel", "shutdown", 1),
        ("sentinel", "planned", 2),
        ("cluster", "crash", 1),
        ("cluster", "cut off", 1),
        ("cluster", "planned", 0),
        ("cluster", "planned", 1),
    ],
)
async def test_10_failovers_that_lose_nothing(
    kind: str, fault: Fault, replicas: int, figure: Callable[[str], None]
) -> None:
    """Every acknowledged write is there, and nobody is back."""
    tally = await _ten(kind, fault, replicas, figure)
    assert (tally.lost_writes, tally.back) == (0, 0)


# --- Sentinel ---


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


async def test_an_old_master_that_was_not_told_is_left(watched: Watched, prefix: str) -> None:
    """The old master takes writes for ten seconds more: ours go to the new one long before."""
    old = watched.master
    async with SessionStore.from_url(watched.url, prefix=prefix) as store:
        session_id = await create(store, n=0)
        key = f"{prefix}:{handle_of(store, session_id)}"
        wait_for(lambda: _everywhere(watched, key))
        await asyncio.to_thread(watched.hand_over)
        async with asyncio.timeout(100):
            while True:
                await open_session(store, session_id).increment("n")
                with client_of(watched.master) as new:
                    if new.hget(key, "n") != b"0":
                        break
                await asyncio.sleep(0.05)
        assert ask(old, "ROLE")[0] == b"master"


def _everywhere(watched: Watched, key: str) -> bool:
    return all(ask(server, "EXISTS", key) for server in watched.servers)


async def test_a_master_without_replicas_refuses(prefix: str) -> None:
    """min-replicas-to-write: a master that has lost its replicas stops taking writes."""
    with Server(min_replicas_to_write=1, repl_diskless_sync_delay=0) as master:
        place = f"127.0.0.1 {master.port}"
        with Server(replicaof=place) as replica:
            wait_for(lambda: ask(master.process, "ROLE")[2])
            async with SessionStore.from_url(master.url, prefix=prefix, timeout=2) as store:
                journal = Journal(store, None, browsers=10)
                async with journal.at_work():
                    await journal.acknowledges(50)
                    replica.stop()
                    await journal.refuses(20)


# --- Cluster ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, 1, binary=BINARY) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster: Cluster, prefix: str) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=1) as store:
        yield store


def _client(cluster: Cluster) -> Any:
    return Sharded.client_of(cluster)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_20_slots_move_under_load(
    cluster: Cluster, store: SessionStore, figure: Callable[[str], None]
) -> None:
    """Slots go to another node while browsers work (ASK, MOVED, TRYAGAIN): nobody notices."""
    journal = Journal(store, None)
    async with journal.at_work():
        await journal.acknowledges(100)
        for told in journal.kept()[:20]:
            key = f"{store.prefix}:{told.handle}"
            target = cluster.others(cluster.owner(key))[0]
            migration = await asyncio.to_thread(cluster.migrate, key, target)
            await journal.acknowledges(50)
            await asyncio.to_thread(migration.move_keys)
            await journal.acknowledges(50)
            await asyncio.to_thread(migration.finish)
            await journal.acknowledges(50)
    with _client(cluster) as journal.redis:
        tally = journal.tally()
    figure(f"Cluster, 20 slots moved under load: {tally}")
    assert journal.refused == 0
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)
    assert tally.unlisted == 0


@pytest.mark.long
async def test_a_cluster_without_majority(prefix: str, figure: Callable[[str], None]) -> None:
    """Two of three masters are gone: CLUSTERDOWN is 503, and ends when they are back."""
    with Cluster(3, binary=BINARY, dead_after_ms=SOON_MS) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=1) as store:
            journal = Journal(store, None, browsers=10)
            async with journal.at_work():
                await journal.acknowledges(50)
                for node in cluster.nodes[1:]:
                    os.kill(node.pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(4)
                    await journal.refuses()
                finally:
                    for node in cluster.nodes[1:]:
                        os.kill(node.pid, signal.SIGCONT)
                back_at = time.monotonic()
                await asyncio.to_thread(cluster.await_healthy)
                healthy_after = time.monotonic() - back_at
                await journal.acknowledges(50)
                await journal.is_calm(1.5)
            with _client(cluster) as journal.redis:
                tally = journal.tally()
    tally.recoveries = [journal.since(back_at)]
    figure(f"Cluster, 2 of 3 masters hung for 4 s (healthy after {healthy_after:.2f} s): {tally}")
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)
