"""
A master dies, or hands over, while browsers are at work on a Cluster or behind Sentinels.

`python -m tests.faults.failover` prints what each kind of failover has lost, *rounds* of them each.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal, Self

import redis

from asgi_redis_session import Durability, SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.servers import SOON_MS, Cluster, Sentinels, ask, client_of, wait_for
from .journal import Journal, Tally
from .servers import BINARY

#: A master that crashes; one whose replicas were cut off before; one that ends in order (SIGTERM);
#: one that is told to hand over (SENTINEL FAILOVER, CLUSTER FAILOVER).
Fault = Literal["crash", "cut off", "shutdown", "planned"]
FAULTS: tuple[Fault, ...] = ("crash", "cut off", "shutdown", "planned")
#: How long the replicas are cut off before their master crashes, in seconds.
CUT_OFF = 0.5


class Deployment(ABC):
    """Several servers, one of which is the master whose failure is looked at."""

    url: str

    @property
    @abstractmethod
    def master(self) -> DevServer:
        """The master that is going to fail."""

    @abstractmethod
    def client(self) -> Any:
        """A plain client that sees what the deployment holds now."""

    @abstractmethod
    def hand_over(self) -> None:
        """Let a replica take over, and return when it has."""

    @abstractmethod
    def await_successor(self) -> None:
        """Return when another server has taken over by itself."""

    def end(self, how: signal.Signals) -> None:
        """End the master, and return when a successor has taken over."""
        self._failed = self.master
        os.kill(self._failed.pid, how)
        self._failed.wait()
        self.await_successor()

    def cut_off(self) -> None:
        """Take the replicas of the master away from it: they keep what they have."""
        ask(self.master, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        ask(self.master, "CLIENT", "KILL", "TYPE", "replica")

    _failed: DevServer
    _stack: ExitStack

    def __exit__(self, *_error: object) -> None:
        self._stack.close()


class Watched(Deployment):
    """A master with two replicas, and three Sentinels."""

    options: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._sentinels = stack.enter_context(
                Sentinels(options=self.options, binary=BINARY, dead_after_ms=SOON_MS)
            )
            self._sentinels.await_replicas()
            self._stack = stack.pop_all()
        self.url = self._sentinels.url
        return self

    @property
    def master(self) -> DevServer:
        return self._sentinels.master

    def client(self) -> Any:
        return client_of(self.master)

    def hand_over(self) -> None:
        self._failed = self.master
        ask(self._sentinels.sentinels[0], "SENTINEL", "FAILOVER", Sentinels.SERVICE)
        self.await_successor()

    def await_successor(self) -> None:
        self._sentinels.await_master(not_at=self._failed)

    @property
    def servers(self) -> list[DevServer]:
        """The master and its replicas."""
        return self._sentinels.servers

    @property
    def sentinels(self) -> list[DevServer]:
        """Those who watch."""
        return self._sentinels.sentinels


class Guarded(Watched):
    """The same, and whoever has no replica takes no writes."""

    options: Mapping[str, Any] = {"min-replicas-to-write": 1, "min-replicas-max-lag": 10}


class Sharded(Deployment):
    """A Cluster of three masters, each with a replica."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._cluster = stack.enter_context(Cluster(3, 1, binary=BINARY, dead_after_ms=SOON_MS))
            self._stack = stack.pop_all()
        self.url = self._cluster.url
        self._first, self._replica = self._cluster.nodes[0], self._cluster.nodes[3]
        return self

    @property
    def master(self) -> DevServer:
        return self._first

    def client(self) -> Any:
        return self.client_of(self._cluster)

    @staticmethod
    def client_of(cluster: Cluster) -> Any:
        """A plain client of a whole Cluster."""
        return redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[2].port)

    def hand_over(self) -> None:
        self._failed = self.master
        ask(self._replica, "CLUSTER", "FAILOVER")
        self.await_successor()

    def await_successor(self) -> None:
        wait_for(lambda: ask(self._replica, "ROLE")[0] == b"master")

    def end(self, how: signal.Signals) -> None:
        super().end(how)
        # As an operator would: else nothing can reach a second server any more.
        self._cluster.add_replica(self._replica)
        self._cluster.await_healthy()


KINDS: dict[str, Callable[[], Any]] = {
    "sentinel": Watched,
    "sentinel, min-replicas-to-write": Guarded,
    "cluster": Sharded,
}


async def fail_over(deployment: Deployment, fault: Fault, **options: Any) -> Tally:
    """One round: browsers work, the master fails, they go on with its successor."""
    prefix = f"test-{secrets.token_hex(4)}"
    async with SessionStore.from_url(deployment.url, prefix=prefix, timeout=1, **options) as store:
        journal = Journal(store, None)
        async with journal.at_work():
            await journal.acknowledges(500)
            if fault == "cut off":
                await asyncio.to_thread(deployment.cut_off)
                await asyncio.sleep(CUT_OFF)
            journal.strike()
            if fault == "planned":
                await asyncio.to_thread(deployment.hand_over)
            else:
                how = signal.SIGTERM if fault == "shutdown" else signal.SIGKILL
                await asyncio.to_thread(deployment.end, how)
            await journal.acknowledges(100)
            await journal.is_calm(1.5)
        with deployment.client() as journal.redis:
            tally = journal.tally()
    tally.recoveries = [journal.since(journal.fault_at)]
    return tally


async def failovers(kind: str, fault: Fault, rounds: int, **options: Any) -> Tally:
    """So many rounds, each on servers of its own; *options* are those of the store."""
    total = Tally()
    for _ in range(rounds):
        with KINDS[kind]() as deployment:
            total += await fail_over(deployment, fault, **options)
    return total


def replicated(count: int) -> dict[str, Durability]:
    """Options of a store whose writes and ends are acknowledged when so many replicas have them."""
    if not count:
        return {}
    level = Durability(replicas=count, timeout=0.5)
    return {"durability": level, "end_durability": level}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: each")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="default: each")
    parser.add_argument("--replicas", type=int, default=0, help="to wait for (WAIT)")
    chosen = parser.parse_args()
    logging.disable()
    for kind in chosen.kind or KINDS:
        for fault in chosen.fault or FAULTS:
            rounds = failovers(kind, fault, chosen.rounds, **replicated(chosen.replicas))
            print(f"{kind}, {fault}: {asyncio.run(rounds)}")


if __name__ == "__main__":
    main()
