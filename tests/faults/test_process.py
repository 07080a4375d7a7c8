"""Rows 15 and 31 to 34: the app is told to end, is killed, forks, or gives up on its requests."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.internals import open_session
from ..support.servers import wait_for
from ..support.sessions import create
from .conftest import World
from .servers import Server
from .shop import OK


class App:
    """The shop, in a process of its own."""

    def __init__(self, world: World) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.shop", world.server.url, world.prefix],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def client(self, connections: int) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
        return httpx.AsyncClient(base_url=self.url, limits=limits, timeout=100)


@contextmanager
def _running(world: World) -> Iterator[App]:
    app = App(world)
    try:
        yield app
    finally:
        app.process.kill()
        app.process.wait()
        if app.process.stdout is not None:
            app.process.stdout.close()


async def _ask(client: httpx.AsyncClient, path: str, session_id: str) -> int | None:
    """The status; None if no answer came."""
    try:
        response = await client.get(path, headers={"cookie": f"session={session_id}"})
    except httpx.HTTPError:
        return None
    return response.status_code


async def _writers(world: World, count: int) -> list[str]:
    """So many sessions with the first pair of fields."""
    return [await world.create(a0=0, b0=0) for _ in range(count)]


def _pairs(fields: dict[str, Any]) -> set[str]:
    """The writes that are there; each has to be whole."""
    pairs = {name[1:] for name in fields}
    assert {f"{side}{write}" for side in "ab" for write in pairs} == set(fields)
    return pairs


async def test_sigterm_with_200_requests_in_flight(world: World) -> None:
    """All 200 are answered, and what they acknowledged is in Redis when the app has ended."""
    ids = await _writers(world, 200)
    with _running(world) as app:
        async with app.client(210) as client:
            slow = [asyncio.create_task(_ask(client, "/slow/1", i)) for i in ids]
            await _until_all_wait(client)
            app.process.send_signal(signal.SIGTERM)
            statuses = await asyncio.gather(*slow)
        assert await asyncio.to_thread(app.process.wait, 100) in (0, -signal.SIGTERM)
    assert statuses == [OK] * 200
    for session_id in ids:
        assert _pairs(await world.fields(session_id)) == {"0", "1"}


async def _until_all_wait(client: httpx.AsyncClient) -> None:
    """All 200 have been read by the app, and not one is answered."""
    async with asyncio.timeout(100):
        while (await client.get("/hello")).text != "200":
            await asyncio.sleep(0.01)


async def _kill_during_writes(world: World, delay: float) -> tuple[int, int]:
    """
    SIGKILL while 50 browsers write, *delay* seconds after the first ten were acknowledged; how many
    writes were acknowledged, how many are there.
    """
    ids = await _writers(world, 50)
    acknowledged: dict[str, set[str]] = {session_id: {"0"} for session_id in ids}

    async def browse(client: httpx.AsyncClient, session_id: str) -> None:
        for write in range(1, 100):
            if await _ask(client, f"/add/{write}", session_id) != OK:
                return
            acknowledged[session_id].add(str(write))

    with _running(world) as app:
        async with app.client(50) as client:
            browsing = asyncio.gather(*[browse(client, session_id) for session_id in ids])
            async with asyncio.timeout(100):
                while sum(map(len, acknowledged.values())) < 60:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(delay)
            app.process.kill()
            await browsing
    there = 0
    for session_id in ids:
        pairs = _pairs(await world.fields(session_id))
        assert acknowledged[session_id] <= pairs
        there += len(pairs)
    assert all(world.admin.pttl(key) > 0 for key in world.admin.scan_iter(f"{world.prefix}:*"))
    return sum(map(len, acknowledged.values())), there


async def test_sigkill_of_the_app(world: World) -> None:
    """Each commit is there whole or not at all, acknowledged ones are; no key without TTL."""
    acknowledged, there = await _kill_during_writes(world, 0.3)
    assert there >= acknowledged >= 60


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_20_sigkills_of_the_app(world: World, figure: Callable[[str], None]) -> None:
    """The same, 20 times at different moments."""
    acknowledged = there = 0
    for number in range(20):
        one = await _kill_during_writes(world, number / 20)
        acknowledged, there = acknowledged + one[0], there + one[1]
    figure(
        f"SIGKILL of the app, 20 times: {acknowledged} writes acknowledged, all there; "
        f"{there - acknowledged} more were there whole; 0 half, 0 keys without TTL"
    )


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_10_sigterms_of_the_app(world: World, figure: Callable[[str], None]) -> None:
    """SIGTERM with 200 requests in flight, 10 times."""
    for _ in range(10):
        await test_sigterm_with_200_requests_in_flight(world)
    figure("SIGTERM with 200 requests in flight, 10 times: 2000 acknowledged, 2000 in Redis")


# --- Requests that are given up ---


async def test_cancelled_requests_on_a_stalled_way_leak_nothing(world: World) -> None:
    """500 requests cancelled while nothing gets through a pool of two: no leak, no mix-up."""
    ids = [await world.create(who=number) for number in range(50)]
    client = Redis.from_url(world.gate.url, max_connections=2)
    async with SessionStore(client, prefix=world.prefix, timeout=20) as store:
        await open_session(store, ids[0]).load()
        world.gate.hang()
        waiting = [asyncio.create_task(open_session(store, ids[n % 50]).load()) for n in range(500)]
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        world.gate.open()
        sessions = await asyncio.gather(
            *[open_session(store, session_id).load() for session_id in ids]
        )
        assert [session["who"] for session in sessions] == list(range(50))
        assert world.gate.connections == 1
    await client.aclose()


# --- Forks and loops ---


def _load_in_child(store: SessionStore, ids: list[str], count: int) -> int:
    """Fork; the child loads in a loop of its own and ends with 0 if every answer was right."""
    pid = os.fork()
    if pid:
        return pid
    try:  # pragma: no cover
        asyncio.run(_check(store, ids, count))
        os._exit(0)
    except BaseException:  # noqa: BLE001  (a child must not return into pytest)
        os._exit(1)


async def _check(store: SessionStore, ids: list[str], count: int) -> None:
    for start in range(0, count, 100):
        numbers = [(start + n) % len(ids) for n in range(100)]
        sessions = await asyncio.gather(*[open_session(store, ids[n]).load() for n in numbers])
        assert [session["who"] for session in sessions] == numbers


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_100000_requests_after_a_fork(
    server: Server, prefix: str, figure: Callable[[str], None]
) -> None:
    """Four workers forked from a process whose store was in use: 10^5 loads, none mixed up."""
    store = SessionStore.from_url(server.url, prefix=prefix)
    loop = asyncio.new_event_loop()
    ids = [loop.run_until_complete(create(store, who=number)) for number in range(100)]
    children = [_load_in_child(store, ids, 25_000) for _ in range(4)]
    loop.run_until_complete(_check(store, ids, 1000))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    loop.run_until_complete(store.aclose())
    loop.close()
    assert codes == [0] * 4
    figure("fork: 4 workers of a process in use, 100,000 loads: 0 mixed up")


def test_loops_that_come_and_go_during_an_outage(server: Server, prefix: str) -> None:
    """Loops in threads, some begun while Redis is away: each recovers by itself."""
    store = SessionStore.from_url(server.url, prefix=prefix, timeout=1)
    session_id = asyncio.run(create(store, n=0))
    failures: list[BaseException] = []
    refused: set[int] = set()

    async def work() -> None:
        me = threading.get_ident()
        while True:
            try:
                assert (await open_session(store, session_id).load())["n"] == 0
                if me in refused:
                    return
            except SessionUnavailable:
                refused.add(me)
            await asyncio.sleep(0.01)

    def run() -> None:
        try:
            asyncio.run(asyncio.wait_for(work(), 100))
        except BaseException as error:  # noqa: BLE001  (told to the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads[:2]:
        thread.start()
    time.sleep(0.2)
    with server.frozen():
        for thread in threads[2:]:
            thread.start()
        wait_for(lambda: len(refused) == 4)
    for thread in threads:
        thread.join()
    assert failures == []
