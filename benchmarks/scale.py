"""
What one Redis carries: processes that use the store directly, and Redis' own CPU.

On two processors the load takes one and Redis the other, so Redis is never fully busy. What is
measured is the CPU that Redis takes for a request (INFO cpu), and how many requests came in a
second. How many a whole core of Redis carries is one second divided by the former.

    python -m benchmarks.scale --drive URL ONE_IN AT_ONCE SECONDS IDS    one such process
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import uvloop
from redis import Redis

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer
from tests.support.internals import id_of, key_of, open_session
from tests.support.servers import Cluster, client_of

from . import fill, load
from .contenders import BY_NAME
from .figures import Row
from .machine import describe

PROCESSES = (1, 2, 4, 8)
SESSIONS, AT_ONCE = 10_000, 64
ROUNDS, SECONDS = 3, 2.0
FIELDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STORED = (1_000, 10_000, 100_000, 1_000_000)
MEMORY = ("f10", "f50", "f200")
#: Of every so many requests one writes; 0: none.
WRITES = {"read-only": 0, "20 % writes": 5}


# --- One process of load ---


async def drive(url: str, one_in: int, at_once: int, seconds: float, ids: Sequence[str]) -> int:
    """Load sessions, and commit one field of each so-many-th; returns how many requests."""
    done, turn, end = 0, 0, time.monotonic() + seconds
    async with SessionStore.from_url(url, timeout=30) as store:

        async def client() -> None:
            nonlocal done, turn
            while time.monotonic() < end:
                turn += 1
                number = turn
                session = await open_session(store, ids[number % len(ids)]).load()
                if one_in and number % one_in == 0:
                    session["n"] = number
                    await session.save()
                done += 1

        await asyncio.gather(*[client() for _ in range(at_once)])
    return done


def _load(url: str, processes: int, mix: str, at_once: int, ids: Path) -> int:
    """So many processes at once; returns the requests of all."""
    command = [sys.executable, "-m", "benchmarks.scale", "--drive", url]
    command += map(str, (WRITES[mix], at_once, SECONDS, ids))
    started = [
        subprocess.Popen(command, cwd=load.ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return sum(int(one.communicate()[0]) for one in started)


async def make_ids(url: str, count: int, fields: dict[str, Any]) -> list[str]:
    """Store so many sessions; returns their ids."""
    async with SessionStore.from_url(url, timeout=30) as store:

        async def one() -> str:
            session = await open_session(store).load()
            session.update(fields)
            await session.save()
            return id_of(session) or ""

        ids: list[str] = []
        while len(ids) < count:
            ids += await asyncio.gather(*[one() for _ in range(min(500, count - len(ids)))])
        return ids


def _fields(number: int) -> dict[str, Any]:
    """Fields of 16 bytes, one of which is a number that is written."""
    return {f"field{i:03}": f"value {i:03} {'x' * 6}" for i in range(number - 1)} | {"n": 1}


# --- Capacity ---


class Deployment(NamedTuple):
    """Where requests go, and with which loads: so many processes, so many requests at once each."""

    name: str
    url: str
    servers: Sequence[DevServer]
    loads: Sequence[tuple[int, int]]


def capacity(deployments: Sequence[Deployment]) -> list[Row]:
    """Requests a second, and each server's CPU for a request; the deployments take turns."""
    rows: list[Row] = []
    with TemporaryDirectory() as folder, ExitStack() as stack:
        clients = {}
        for one in deployments:
            ids = uvloop.run(make_ids(one.url, SESSIONS, _fields(10)))
            Path(folder, one.name).write_text("\n".join(ids))
            clients[one.name] = [stack.enter_context(client_of(each)) for each in one.servers]
        for number in range(ROUNDS):
            for mix, one in product(WRITES, deployments):
                for how in one.loads:
                    row = _sample(one, clients[one.name], mix, how, Path(folder, one.name))
                    rows.append({"where": one.name, "round": number} | row)
    return rows


def _sample(
    one: Deployment, clients: Sequence[Any], mix: str, how: tuple[int, int], ids: Path
) -> Row:
    processes, at_once = how
    before = [load.redis_us(client) for client in clients]
    done = _load(one.url, processes, mix, at_once, ids)
    after = [load.redis_us(client) for client in clients]
    return {
        "mix": mix,
        "processes": processes,
        "at_once": at_once,
        "rate": done / SECONDS,
        "redis_us": [(now - then) / done for now, then in zip(after, before, strict=True)],
    }


# --- Cost by fields and by number of sessions ---


async def _costs(server: DevServer, ids: Sequence[str], requests: int) -> tuple[float, float]:
    """Redis CPU µs of a load, and of a commit of one field."""
    with Redis.from_url(server.url) as redis:
        async with SessionStore.from_url(server.url, timeout=30) as store:

            async def each(number: int, *, commits: bool) -> None:
                session = await open_session(store, ids[number % len(ids)]).load()
                if commits:
                    session["n"] = number
                    await session.save()

            spent = []
            for commits in (False, True):
                begun = load.redis_us(redis)
                for start in range(0, requests, AT_ONCE):
                    turn = range(start, start + AT_ONCE)
                    await asyncio.gather(*[each(number, commits=commits) for number in turn])
                spent.append((load.redis_us(redis) - begun) / (-(-requests // AT_ONCE) * AT_ONCE))
            return spent[0], spent[1] - spent[0]


def by_fields(numbers: Sequence[int], rounds: int) -> list[Row]:
    rows: list[Row] = []
    with DevServer(search=False) as server:
        made = {n: uvloop.run(make_ids(server.url, 200, _fields(n))) for n in numbers}
        for _ in range(rounds):
            for number, ids in made.items():
                loaded, committed = uvloop.run(_costs(server, ids, 2000))
                rows.append({"fields": number, "load_us": loaded, "commit_us": committed})
    return rows


def by_sessions(numbers: Sequence[int], rounds: int) -> list[Row]:
    """Copies of one session under other ids are added until there are so many."""
    rows: list[Row] = []
    clone = BY_NAME["ours"].clone
    assert clone is not None
    with DevServer(search=False) as server, Redis.from_url(server.url) as redis:
        (first,) = uvloop.run(make_ids(server.url, 1, _fields(10)))
        dump = redis.dump(key_of(SessionStore.from_url(server.url), first))
        ids: list[str] = []
        for number in numbers:
            stored: Any = redis.dbsize()
            ids += fill.copy(redis, clone, dump, number - stored)
            for _ in range(rounds):
                step = max(1, len(ids) // 4000)
                loaded, committed = uvloop.run(_costs(server, ids[::step], 4000))
                rows.append({"sessions": number, "load_us": loaded, "commit_us": committed})
    return rows


# --- Memory ---


def memory() -> dict[str, dict[str, int]]:
    """Bytes that Redis needs for a session, by contender and number of fields."""
    found: dict[str, dict[str, int]] = {}
    names = [name for name, c in BY_NAME.items() if c.is_peer or name == "ours"]
    with DevServer(search=False) as server, Redis.from_url(server.url) as redis:
        for name in names:
            with load.worker(BY_NAME[name], server.url) as target:
                target.ready()
                redis.flushall()
                found[name] = {size: fill.bytes_each(target, redis, size, 5_000) for size in MEMORY}
    return found


def measure() -> dict[str, Any]:
    """All of docs/scale.md."""
    with DevServer(search=False) as server, Cluster(3) as cluster:
        result: dict[str, Any] = {"meta": describe(server.version)}
        loads = [(number, AT_ONCE) for number in PROCESSES]
        more = [(4, AT_ONCE), (4, 3 * AT_ONCE)]
        result["capacity"] = capacity(
            [
                Deployment("one", server.url, [server], loads),
                Deployment("cluster", cluster.url, cluster.nodes, more),
            ]
        )
    result["fields"] = by_fields(FIELDS, ROUNDS)
    result["sessions"] = by_sessions(STORED, ROUNDS)
    result["memory"] = memory()
    return result


def middle(rows: Sequence[Row], what: str, **which: Any) -> float:
    """The median over the rounds; of the sum, where there are several servers."""
    taken = [row[what] for row in rows if all(row[name] == value for name, value in which.items())]
    return median([sum(value) if isinstance(value, list) else value for value in taken])


def main() -> None:
    if sys.argv[1:2] != ["--drive"]:
        print(json.dumps(measure(), indent=1))
        return
    url, one_in, at_once, seconds, ids = sys.argv[2:]
    lines = Path(ids).read_text().splitlines()
    print(uvloop.run(drive(url, int(one_in), int(at_once), float(seconds), lines)))


if __name__ == "__main__":
    main()
