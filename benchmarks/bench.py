"""
One run: its Redis, its workers, and how a sample is taken.

A sample is one row: a contender, a workload, a number of connections or a rate, and what was
counted meanwhile in the worker and in Redis.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from asgi_redis_session.devserver import DevServer

from . import fill, load
from .contenders import Contender
from .figures import FOREIGN_LIMIT, Row
from .load import Worker
from .rates import Ladder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how often."""

    sessions: int
    big_sessions: int
    rounds: int
    seconds: float
    more_rounds: int
    connections: Sequence[int]
    rates: Ladder
    stored: Sequence[int]
    gc: Sequence[str]
    contenders: Sequence[Contender]
    #: Samples that may be taken again in one run, so that it ends on a busy machine, too.
    retakes: int


OPEN_CONNECTIONS = 512
#: A sample at a fixed rate has this many requests, and lasts this long (s), within these bounds.
OPEN_REQUESTS, OPEN_SECONDS = 1500, (1.5, 3.0)
#: A disturbed sample is taken so often, and the quietest kept.
AGAIN = 3


@dataclass
class Bench:
    """One run: its Redis, its workers, and the rows so far."""

    plan: Plan
    server: DevServer
    folder: Path
    stack: ExitStack
    workers: dict[str, Worker] = field(default_factory=dict)
    cookies: dict[tuple[str, str], Path] = field(default_factory=dict)
    databases: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    retakes: int = 0
    result: dict[str, Any] = field(default_factory=dict)

    # --- Setting up ---

    def add(self, contender: Contender, name: str = "", gc: str = "usual") -> None:
        """Begin to start a worker, on a database of its own."""
        name = name or contender.name
        self.databases[name] = len(self.databases)
        url = f"redis://127.0.0.1:{self.server.port}/{self.databases[name]}"
        self.workers[name] = self.stack.enter_context(load.worker(contender, url, gc=gc))

    @contextmanager
    def guests(self) -> Iterator[None]:
        """Workers that are added in here end with it, instead of idling beside later ones."""
        stack, workers = self.stack, dict(self.workers)
        try:
            with ExitStack() as self.stack:
                yield
        finally:
            self.stack, self.workers = stack, workers

    def redis(self, name: str) -> Redis:
        return Redis(port=self.server.port, db=self.databases[name])

    def fill(self, name: str, **sizes: int) -> None:
        """Store so many sessions of each size; their cookies are what the load sends."""
        with self.redis(name) as redis:
            filled = fill.fill(self.workers[name], redis, sizes)
        for size, cookies in filled.items():
            path = self.cookies[name, size] = self.folder / f"{name}.{size}"
            path.write_text("\n".join(cookies) + "\n")
        load.warm_up(self.workers[name], self.cookies[name, "small"])

    # --- Measuring ---

    def sample(self, name: str, load_it: Callable[[Worker], dict[str, Any]], **about: Any) -> Row:
        """One row; taken again, and the quietest kept, if others were busy meanwhile."""
        rows: list[Row] = []
        while len(rows) < AGAIN:
            rows.append(self._sample(name, load_it) | {"contender": name} | about)
            if rows[-1]["foreign"] <= FOREIGN_LIMIT or self.retakes == self.plan.retakes:
                break
            self.retakes += 1
        best = min(rows, key=lambda row: row["foreign"])
        best["taken"] = len(rows)
        self.rows.append(best)
        return best

    def _sample(self, name: str, load_it: Callable[[Worker], dict[str, Any]]) -> Row:
        """
        Begins and ends with everybody idle. So the CPU and the commands are those of all requests
        that were sent, those included whose answers came too late for the load to count them.
        """
        target = self.workers[name]
        with self.redis(name) as redis:
            self.settle()
            before, redis_before = load.cpu_ns(target.pid), load.redis_us(redis)
            commands = _processed(redis)
            own_before, machine_before = self._own_ns(target), load.machine_busy_ns()
            begun = time.monotonic_ns()
            row = load_it(target)
            elapsed = time.monotonic_ns() - begun
            own, machine = (
                self._own_ns(target) - own_before,
                load.machine_busy_ns() - machine_before,
            )
            clients: Any = redis.client_list()
            self.settle()
            handled = max(1, row["handled"])
            return row | {
                "cpu_us": (load.cpu_ns(target.pid) - before) / handled / 1000,
                "redis_us": (load.redis_us(redis) - redis_before) / handled,
                "redis_commands": (_processed(redis) - commands) / handled,
                "redis_connections": sum(
                    client["db"] == str(self.databases[name]) for client in clients
                )
                - 1,
                "foreign": max(0.0, (machine - own) / elapsed),
            }

    def settle(self) -> None:
        load.settle({"Redis": self.server.pid} | {n: w.pid for n, w in self.workers.items()})

    def _own_ns(self, target: Worker) -> int:
        """What a sample of this worker needs; the other workers are foreign to it."""
        return sum(map(load.cpu_ns, (os.getpid(), self.server.pid, target.pid))) + (
            load.children_ns()
        )

    def closed(
        self, name: str, workload: str, connections: int, seconds: float, **about: Any
    ) -> None:
        cookies = self.cookies[name, "big" if workload.startswith("big") else "small"]
        self.sample(
            name,
            lambda target: load.closed(
                target, workload, cookies, connections=connections, seconds=seconds
            ),
            mode="closed",
            workload=workload,
            connections=connections,
            **about,
        )

    def opened(self, name: str, workload: str, rate: int) -> None:
        least, most = OPEN_SECONDS
        self.sample(
            name,
            lambda target: load.opened(
                target,
                workload,
                self.cookies[name, "small"],
                rate=rate,
                seconds=min(most, max(least, OPEN_REQUESTS / rate)),
                connections=OPEN_CONNECTIONS,
            ),
            mode="open",
            workload=workload,
            offered=rate,
        )


def _processed(redis: Redis) -> int:
    stats: Any = redis.info("stats")
    return int(stats["total_commands_processed"])
