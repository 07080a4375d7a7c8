"""
What the settings do that docs/performance.md advises.

    python -m benchmarks.advice [refresh_after] [listpack] [workers]

The first two count and weigh what Redis does, and need nothing but this package and its test
tools. The third puts load on uvicorn, as `make bench` does, and needs what that needs.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from asgi_redis_session import Lifetime, SessionStore
from asgi_redis_session.devserver import DevServer

from . import fill, load
from .contenders import BY_NAME
from .contenders.shop import CART
from .counts import FIELDS, REQUESTS, Meter, fetch, make_sessions, read, write
from .figures import table

ROUNDS = 20


def refresh_after(rounds: int) -> str:
    """Reads of sessions that were used less than a minute ago; Redis keeps an append-only file."""
    lines = []
    with DevServer(search=False, options={"appendonly": "yes"}) as server:
        for seconds in (0, 60):
            lifetime = Lifetime(refresh_after=seconds)
            counted = asyncio.run(_reads(server, lifetime, rounds))
            lines.append([f"`refresh_after={seconds}`", *(f"{value:.1f}" for value in counted)])
    return table(["", "writes per read", "AOF bytes per read", "Redis CPU µs per read"], lines)


async def _reads(server: DevServer, lifetime: Lifetime, rounds: int) -> tuple[float, float, float]:
    prefix = f"refresh{lifetime.refresh_after_ms}"
    async with SessionStore.from_url(server.url, prefix=prefix, lifetime=lifetime) as store:
        cookies = [*await make_sessions(store, 50, FIELDS)]
        with Redis.from_url(server.url) as redis:
            before = _state(redis)
            for _ in range(rounds):
                await Meter(store, read).drive(cycle(cookies), 50)
            after = _state(redis)
    writes, written, spent = (
        (now - then) / rounds / REQUESTS for now, then in zip(after, before, strict=True)
    )
    return writes, written, spent * 1e6


def _state(redis: Redis) -> tuple[float, float, float]:
    """Expiries that were set, bytes of the append-only file, seconds of CPU."""
    every: Any = redis.info("everything")
    slid = every.get("cmdstat_pexpireat", {"calls": 0})["calls"]
    return slid, every.get("aof_current_size", 0), every["used_cpu_user"] + every["used_cpu_sys"]


def listpack(rounds: int) -> str:
    """A session whose cart is 1 KB of JSON, stored spread out and compactly."""
    lines = []
    for size in (64, 2048):
        # Redis 6.2 knows it by this name only, later ones by both.
        with DevServer(search=False, options={"hash-max-ziplist-value": size}) as server:
            weighed = asyncio.run(_carts(server, rounds))
        each, *spent = weighed
        cells = [f"{each:,.0f}", *(f"{value:.1f}" for value in spent)]
        lines.append([f"`hash-max-listpack-value {size}`", *cells])
    head = ["", "bytes per session", "Redis CPU µs: read", "write one field", "fetch one field"]
    return table(head, lines)


async def _carts(server: DevServer, rounds: int) -> list[float]:
    result = []
    async with SessionStore.from_url(server.url) as store:
        with Redis.from_url(server.url) as redis:
            cookies = [*await make_sessions(store, 50, CART)]
            clone = BY_NAME["ours"].clone
            assert clone is not None
            dump, before = redis.dump(redis.randomkey()), fill.used(redis)
            fill.copy(redis, clone, dump, 500 * rounds)
            result.append((fill.used(redis) - before) / (500 * rounds))
            for kind in (read, write, fetch):
                spent = _state(redis)[2]
                for _ in range(rounds):
                    await Meter(store, kind).drive(cycle(cookies), 50)
                result.append((_state(redis)[2] - spent) / rounds / REQUESTS * 1e6)
    return result


def workers(rounds: int) -> str:
    """Reads at 64 connections, by the number of uvicorn's workers; all share all processors."""
    load.require()
    numbers = (1, 2, 3)
    taken: dict[int, list[tuple[float, ...]]] = {number: [] for number in numbers}
    with DevServer(search=False) as server, TemporaryDirectory() as folder:
        cookies = Path(folder, "cookies")
        for _ in range(max(1, rounds // 4)):
            for number in numbers:
                with _served(server, number, cookies) as target:
                    taken[number].append(_loaded(server, target, cookies))
    lines = []
    for number, samples in taken.items():
        rate, p99, own, redis, share = map(median, zip(*samples, strict=True))
        cells = [f"{number}", f"{rate:,.0f}", f"{p99:.1f}", f"{own:.0f}", f"{redis:.0f}"]
        lines.append([*cells, f"{share:.0%}", f"{own / redis:.1f}"])
    head = ["workers", "requests/s", "p99 ms", "workers' CPU µs per request", "Redis' CPU µs"]
    head += ["share of a core that Redis takes", "busy workers that one Redis can serve"]
    return table(head, lines)


@contextmanager
def _served(server: DevServer, number: int, cookies: Path) -> Iterator[load.Worker]:
    with (
        Redis.from_url(server.url) as redis,
        load.worker(BY_NAME["ours"], server.url, workers=number) as target,
    ):
        target.ready(cpus=load.WORKER_CPUS | load.OTHER_CPUS)
        load.settle({f"worker {pid}": pid for pid in load.family(target.pid)})
        redis.flushall()
        found = fill.fill(target, redis, {"small": 10_000})["small"]
        cookies.write_text("\n".join(found) + "\n")
        yield target


def _loaded(server: DevServer, target: load.Worker, cookies: Path) -> tuple[float, ...]:
    pids = load.family(target.pid)
    own, redis = sum(map(load.cpu_ns, pids)), load.cpu_ns(server.pid)
    row = load.closed(target, "read", cookies, connections=64, seconds=2)
    load.settle({f"worker {pid}": pid for pid in pids})
    own, redis = sum(map(load.cpu_ns, pids)) - own, load.cpu_ns(server.pid) - redis
    handled, share = row["handled"] * 1000, redis / row["seconds"] / 1e9
    return row["rate"], row["latency"]["99"] / 1000, own / handled, redis / handled, share


PARTS = {"refresh_after": refresh_after, "listpack": listpack, "workers": workers}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="less is quicker, and rougher")
    chosen = parser.parse_args()
    for name in chosen.part or PARTS:
        print(f"{PARTS[name].__doc__}\n\n{PARTS[name](chosen.rounds)}\n", flush=True)


if __name__ == "__main__":
    main()
