"""
The benchmark: every contender, interleaved, on one Redis.

    make bench          about 10 minutes; publishes benchmarks/README.md, plots, results/latest.json
    make bench-quick    about a minute; prints the short table

Each row of the result is one sample: a contender, a workload, a number of connections or a rate.
`report.py` turns rows into medians, tables and plots.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from asgi_redis_session.devserver import DevServer

from . import fill, load, report, verify
from .contenders import BY_NAME, CONTENDERS, Contender
from .load import Worker
from .rates import Ladder, by_rate

Row = dict[str, Any]


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


FULL = Plan(
    sessions=100_000,
    big_sessions=20_000,
    rounds=5,
    seconds=1,
    more_rounds=3,
    connections=(1, 8, 256, 1000),
    rates=Ladder(
        rates=(
            *(500, 600, 700, 850, 1000, 1200, 1400, 1700, 2000, 2400, 2800, 3400),
            *(4000, 4800, 5600, 6800, 8000, 9500, 11_000, 13_500, 16_000),
        ),
        stride=4,
        rounds=3,
        tries=5,
    ),
    stored=(1_000, 100_000, 1_000_000),
    gc=("usual", "freeze", "freeze+thresholds"),
    contenders=CONTENDERS,
    retakes=60,
)
QUICK = Plan(
    sessions=5_000,
    big_sessions=0,
    rounds=1,
    seconds=1,
    more_rounds=0,
    connections=(1000,),
    rates=Ladder(rates=(1000, 3000), stride=1, rounds=1, tries=1),
    stored=(),
    gc=(),
    contenders=[c for c in CONTENDERS if c.main or c.name == "fastapi_bare"],
    retakes=5,
)
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
            if rows[-1]["foreign"] <= report.FOREIGN_LIMIT or self.retakes == self.plan.retakes:
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
            before, redis_before = load.cpu_ns(target.pid), load.cpu_ns(self.server.pid)
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
                "redis_us": (load.cpu_ns(self.server.pid) - redis_before) / handled / 1000,
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


# --- The parts of a run ---


def prepare(bench: Bench) -> None:
    """Start, verify and fill every contender."""
    bench.result["verified"] = {}
    for contender in bench.plan.contenders:
        bench.add(contender)
    for contender in bench.plan.contenders:
        target = bench.workers[contender.name]
        target.ready()
        with bench.redis(contender.name) as redis:
            try:
                seen = verify.verify(target, redis)
            except verify.NotVerified as error:
                raise SystemExit(verify.describe(contender, error)) from None
            redis.flushdb()
        bench.result["verified"][contender.name] = seen
        sizes = {"small": bench.plan.sessions}
        if contender.main and contender.in_redis and bench.plan.big_sessions:
            sizes["big"] = bench.plan.big_sessions
        bench.fill(contender.name, **sizes)
        say(f"{contender.title}: does its work, {sum(sizes.values()):,} sessions stored")


def reads_and_writes(bench: Bench) -> None:
    for number, contender in rounds(bench.plan.rounds, bench.plan.contenders):
        for workload in ("read", "write"):
            bench.closed(contender.name, workload, 64, bench.plan.seconds, round=number)


def other_workloads(bench: Bench) -> None:
    main = [c for c in bench.plan.contenders if c.main and c.clone is not None]
    for number, contender in rounds(bench.plan.more_rounds, main):
        for workload in ("mixed", "untouched", "login_logout", "big_read", "big_write"):
            if contender.in_redis or not workload.startswith("big"):
                bench.closed(contender.name, workload, 64, 1, round=number)


def more_connections(bench: Bench) -> None:
    main = [c for c in bench.plan.contenders if c.main]
    for number, contender in rounds(max(1, bench.plan.more_rounds), main):
        for connections in bench.plan.connections:
            bench.closed(contender.name, "read", connections, 1, round=number)


def fixed_rates(bench: Bench) -> None:
    """A sample of each in turn, at the rate that says most, until all limits are known."""
    names = [c.name for c in bench.plan.contenders if c.main]
    while names:
        for name in list(names):
            taken = by_rate(r for r in bench.rows if (r["mode"], r["contender"]) == ("open", name))
            rate = bench.plan.rates.next_rate(taken)
            if rate is None:
                names.remove(name)
            else:
                bench.opened(name, "read", rate)


def collector(bench: Bench) -> None:
    """What gc.freeze() and higher thresholds do, to every contender alike."""
    names = [(base, gc, f"{base}@{gc}") for base in report.COLLECTED for gc in bench.plan.gc]
    with bench.guests():
        for base, gc, name in names:
            bench.add(BY_NAME[base], name, gc)
        for _, _, name in names:
            bench.workers[name].ready()
            bench.fill(name, small=bench.plan.sessions)
        for number, (_, _, name) in rounds(bench.plan.more_rounds, names):
            for workload in ("read", "write"):
                bench.closed(name, workload, 64, bench.plan.seconds, round=number)


def growth(bench: Bench) -> None:
    """Does a load take longer where many sessions are stored?"""
    names = [f"ours#{count}" for count in bench.plan.stored]
    with bench.guests():
        for name in names:
            bench.add(BY_NAME["ours"], name)
        for name, count in zip(names, bench.plan.stored, strict=True):
            bench.workers[name].ready()
            bench.fill(name, small=count)
        for number, name in rounds(bench.plan.rounds, names):
            for connections in (1, 64):
                bench.closed(name, "read", connections, 1, round=number, part="growth")


def memory(bench: Bench) -> None:
    """What Redis keeps of one session: 20,000 copies of what each contender has stored."""
    bench.result["memory"] = {}
    if not bench.plan.more_rounds:
        return
    for contender in bench.plan.contenders:
        if contender.in_redis:
            target = bench.workers[contender.name]
            with bench.redis(contender.name) as redis:
                bench.result["memory"][contender.name] = {
                    size: fill.bytes_each(target, redis, size, 20_000) for size in ("small", "cart")
                }


def run(plan: Plan) -> dict[str, Any]:
    started = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(
            DevServer(search=False, options={"databases": 64, "maxclients": 10_000})
        )
        load.pin(server.pid, load.OTHER_CPUS)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(plan, server, folder, stack)
        bench.result["meta"] = describe_run(server)
        for part in (
            prepare,
            reads_and_writes,
            other_workloads,
            more_connections,
            fixed_rates,
            collector,
            growth,
            memory,
        ):
            begun = time.monotonic()
            part(bench)
            say(f"{part.__name__}: {time.monotonic() - begun:.0f} s")
        bench.result["meta"]["load_average_after"] = os.getloadavg()
        bench.result["meta"]["seconds"] = round(time.monotonic() - started)
        return bench.result | {"rows": bench.rows}


# --- Helpers ---


def rounds(count: int, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Interleaved: all items once, then all items again, each time from another one on."""
    for number in range(count):
        shift = number % max(1, len(items))
        for item in [*items[shift:], *items[:shift]]:
            yield number, item


def _processed(redis: Redis) -> int:
    stats: Any = redis.info("stats")
    return int(stats["total_commands_processed"])


def describe_run(server: DevServer) -> dict[str, Any]:
    """With what, on what, when; nothing that tells where on the machine."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=load.ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis": server.version,
        "packages": {
            environment: _versions(load.ROOT / environment)
            for environment in sorted({contender.environment for contender in CONTENDERS})
        },
        "load_average_before": os.getloadavg(),
    }


PACKAGES = (
    *("starlette", "fastapi", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "msgspec"),
    *("starsessions", "fastapi-redis-sdk", "starlette-session", "asgi-redis-session"),
)


def _versions(environment: Path) -> dict[str, str]:
    folders = [str(path) for path in environment.glob("lib/python*/site-packages")]
    found = importlib.metadata.distributions(path=folders)
    versions = {
        distribution.name.lower().replace("_", "-"): distribution.version for distribution in found
    }
    return {name: versions[name] for name in PACKAGES if name in versions}


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="about a minute; publishes nothing")
    quick = parser.parse_args().quick
    load.require()
    result = run(QUICK if quick else FULL)
    if quick:
        print(report.quick(result))
    else:
        report.publish(result)


if __name__ == "__main__":
    main()
