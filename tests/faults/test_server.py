"""Rows 1, 2, 4, 10, 11, 14, 28 and 38: one Redis that is away, hangs, is full, or forgets."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from statistics import median
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.gate import gate_to
from ..support.internals import handle_of, load_scripts, open_session, refresh
from ..support.keyspace import session_keys
from ..support.sessions import create
from .conftest import World
from .journal import Journal
from .servers import Server
from .shop import OK, UNAVAILABLE, Browser, app_of


@contextmanager
def configured(admin: Any, **options: str | int) -> Iterator[None]:
    """CONFIG SET while the block runs."""
    names = {name: name.replace("_", "-") for name in options}
    before = {name: admin.config_get(names[name])[names[name]] for name in options}
    for name, value in options.items():
        admin.config_set(names[name], value)
    try:
        yield
    finally:
        for name, value in before.items():
            admin.config_set(names[name], value)


# --- Away ---


async def test_the_app_starts_without_redis(prefix: str) -> None:
    """Nobody listens: who needs no session is served, others get 503; it recovers by itself."""
    with Server() as server:
        url = server.url
        server.stop()
        async with SessionStore.from_url(url, prefix=prefix, timeout=20) as store:
            browser = Browser(app_of(store), "A" * 43)
            assert await browser.get("/hello") == OK
            assert await browser.get("/read") == UNAVAILABLE
            assert browser.session_id == "A" * 43  # the cookie was left alone
            server.start()
            assert await browser.get("/login/ada") == OK
            assert await browser.get("/read") == OK


@pytest.mark.parametrize("moment", ["before load", "before commit", "after commit was sent"])
async def test_kill_9_during_a_request(prefix: str, moment: str) -> None:
    """503 and the cookie untouched; an acknowledged session is as it was, or has all of it."""
    with Server(appendonly="yes", appendfsync="always") as server, gate_to(server.url) as gate:
        with server.admin as admin:
            load_scripts(admin)
        async with SessionStore.from_url(gate.url, prefix=prefix, timeout=20) as store:

            async def fails(scope: Any, receive: Any, send: Any) -> None:
                if moment == "before load":
                    server.kill()
                session = await scope["session"].load()
                session["n"] = session["twin"] = 2
                if moment == "before commit":
                    server.kill()
                elif moment == "after commit was sent":
                    gate.hold_replies()
                    with server.admin as admin:
                        writing = asyncio.ensure_future(session.save())
                        while admin.hget(key, "n") != b"2":
                            await asyncio.sleep(0.005)
                    server.kill()
                    await writing
                await send({"type": "http.response.start", "status": OK, "headers": []})
                await send({"type": "http.response.body", "body": b""})

            session_id = await create(store, n=1, twin=1)
            key = f"{prefix}:{handle_of(store, session_id)}"
            app = app_of(store)
            app.app = fails
            browser = Browser(app, session_id)
            assert await browser.get("/") == UNAVAILABLE
            assert browser.session_id == session_id
            gate.open()
            server.start()
            found = dict(await open_session(store, session_id).load())
            expected = 2 if moment == "after commit was sent" else 1
            assert found == {"n": expected, "twin": expected}


async def test_it_recovers_without_a_restart(prefix: str) -> None:
    """Killed and started again three times under load: the same store goes on."""
    with Server(appendonly="yes") as server, server.admin as admin:
        async with SessionStore.from_url(server.url, prefix=prefix, timeout=1) as store:
            journal = Journal(store, admin, browsers=20)
            async with journal.at_work():
                for _ in range(3):
                    await journal.acknowledges(20)
                    await asyncio.to_thread(server.kill)
                    await asyncio.sleep(0.05)
                    await asyncio.to_thread(server.start)
                await journal.acknowledges(20)
            assert journal.refused > 0
            assert journal.tally().partial == 0


# --- Hangs ---


Hang = Callable[[World], Any]


@contextmanager
def _paused(world: World) -> Iterator[None]:
    world.admin.client_pause(5000)  # nobody can end that: CLIENT UNPAUSE would wait as well
    yield
    world.admin.ping()


@contextmanager
def _asleep(world: World) -> Iterator[None]:
    with redis.Redis.from_url(world.server.process.url, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("DEBUG", "SLEEP", "5")
        yield
        connection.read_response()
        client.connection_pool.release(connection)


HANGS: dict[str, Hang] = {
    "SIGSTOP": lambda world: world.server.frozen(),
    "CLIENT PAUSE": _paused,
    "DEBUG SLEEP": _asleep,
}


@pytest.mark.parametrize("how", HANGS)
async def test_a_hung_server(world: World, how: str) -> None:
    """Who waits gets 503 and keeps the cookie, others are served; then it goes on."""
    app = app_of(world.hasty)
    browsers = [Browser(app, await world.create(n=1)) for _ in range(20)]
    assert {*await asyncio.gather(*[b.get("/read") for b in browsers])} == {OK}
    with HANGS[how](world):
        await asyncio.sleep(0.1)
        waiting = asyncio.gather(*[b.get("/read") for b in browsers])
        await asyncio.sleep(0)
        for browser in browsers:
            assert await browser.get("/hello") == OK
        assert not waiting.done()  # nobody waited for those who wait
        assert {*await waiting} == {UNAVAILABLE}
    assert {*await asyncio.gather(*[b.get("/read") for b in browsers])} == {OK}
    assert {*await asyncio.gather(*[b.get("/add/1") for b in browsers])} == {OK}


@pytest.mark.long
@pytest.mark.parametrize("how", HANGS)
async def test_a_hung_server_is_given_up_in_time(
    world: World, how: str, figure: Callable[[str], None]
) -> None:
    """Each of 500 requests answers a timeout after it came; those that need no session at once."""
    app = app_of(world.hasty)
    browsers = [Browser(app, await world.create(n=1)) for _ in range(500)]
    assert {*await asyncio.gather(*[b.get("/read") for b in browsers])} == {OK}

    async def timed(browser: Browser, path: str, expected: int) -> float:
        start = time.monotonic()
        assert await browser.get(path) == expected
        return time.monotonic() - start

    waits: list[asyncio.Task[float]] = []
    unaffected: list[float] = []
    with HANGS[how](world):
        await asyncio.sleep(0.1)
        for number, browser in enumerate(browsers):  # they come one after another
            path = "/read" if number % 2 else "/add/1"
            waits.append(asyncio.create_task(timed(browser, path, UNAVAILABLE)))
            if number % 10 == 0:
                await asyncio.sleep(0.01)
                unaffected.append(await timed(browser, "/hello", OK))
        waited = await asyncio.gather(*waits)
    start = time.monotonic()
    async with asyncio.timeout(20):
        while await browsers[0].get("/read") != OK:
            await asyncio.sleep(0.01)
    recovered = time.monotonic() - start
    figure(
        f"hung ({how}), timeout 1 s: 500 requests answered after {min(waited):.3f} to "
        f"{max(waited):.3f} s; {len(unaffected)} that need no session within "
        f"{max(unaffected):.3f} s; recovered {recovered:.3f} s after it went on"
    )
    # What is asserted is what no busy machine makes of it; the figures are printed.
    assert max(waited) < 10
    assert median(unaffected) < min(waited) / 2


# --- Refuses ---


async def test_out_of_memory(world: World) -> None:
    """OOM: reads and both kinds of logout work, writes are 503 and leave nothing."""
    app = app_of(world.store)
    one, other = Browser(app), Browser(app)
    assert [await one.get("/login/ada"), await other.get("/login/ada")] == [OK, OK]
    before = await world.fields(one.session_id or "")
    with configured(world.admin, maxmemory=1):
        assert await one.get("/read") == OK
        assert await one.get("/add/1") == UNAVAILABLE
        assert await Browser(app).get("/login/eve") == UNAVAILABLE
        assert await world.fields(one.session_id or "") == before
        assert await other.get("/logout") == OK
        assert await one.get("/everywhere") == OK
    assert [key for key in session_keys(world.admin) if b":user:" not in key] == []


async def test_too_many_clients(world: World) -> None:
    """Redis accepts no further connection: 503, then it recovers."""
    session_id = await world.create(n=1)
    async with SessionStore.from_url(world.server.url, prefix=world.prefix, timeout=20) as late:
        with configured(world.admin, maxclients=world.connections() + 1):
            before = world.admin.info("stats")["rejected_connections"]
            # Redis says why and hangs up. If it does so before the client has written anything,
            # the client finds the connection closed, and the reason is not read.
            with pytest.raises(
                SessionUnavailable, match=r"max number of clients|[Cc]onnection (lost|closed|reset)"
            ):
                await open_session(late, session_id).load()
            assert world.admin.info("stats")["rejected_connections"] > before
        assert (await open_session(late, session_id).load())["n"] == 1


async def test_eviction_takes_whole_sessions(world: World) -> None:
    """Redis evicts under load: each session is whole or gone, lists heal, nothing lives forever."""
    admin, store = world.admin, world.direct
    with configured(admin, maxmemory_policy="allkeys-random", maxmemory=0):
        browsers = [Browser(app_of(store)) for _ in range(300)]
        await asyncio.gather(*[b.get(f"/login/user {n % 30}") for n, b in enumerate(browsers)])
        handles = [handle_of(store, browser.session_id or "") for browser in browsers]
        await asyncio.gather(*[browser.get("/read") for browser in browsers])
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 100_000)
        # Until enough is gone: when that is depends on what Redis allocates. Few at once: what is
        # in a connection's buffers counts as memory, too, and would drive out all that there is.
        shares = [browsers[start::15] for start in range(15)]
        for write, share in product(range(1, 100), shares):
            await asyncio.gather(*[browser.get(f"/add/{write}") for browser in share])
            if admin.info("stats")["evicted_keys"] >= 50:
                break
        whole = gone = 0
        for handle in handles:
            fields = admin.hgetall(f"{world.prefix}:{handle}")
            assert not fields or (b"@v" in fields and b"@deadline" in fields)
            ours = {name.decode() for name in fields if not name.startswith(b"@")}
            assert {name[1:] for name in ours if name[0] == "a"} == {
                name[1:] for name in ours if name[0] == "b"
            }
            whole, gone = whole + bool(fields), gone + (not fields)
        assert whole
        assert gone
        assert all(admin.pttl(key) != -1 for key in session_keys(admin, world.prefix))
        for number in range(30):
            for info in await store.users.list(f"user {number}"):
                assert info.handle in handles


async def test_scripts_are_flushed_under_load(world: World) -> None:
    """SCRIPT FLUSH again and again while browsers work: nobody notices."""
    journal = Journal(world.direct, world.admin, browsers=20)
    async with journal.at_work():
        for _ in range(50):
            world.admin.script_flush()
            await asyncio.sleep(0.01)
        await journal.acknowledges(300)
    tally = journal.tally()
    assert journal.refused == 0
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)
    assert tally.writes > 100


async def test_connections_are_killed_under_load(world: World) -> None:
    """CLIENT KILL again and again while browsers work: some 503, and all that was said is true."""
    journal = Journal(world.direct, world.admin, browsers=20)
    async with journal.at_work():
        for _ in range(30):
            world.admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.02)
        await journal.acknowledges(300)
    tally = journal.tally()
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)
    assert tally.unlisted == 0
    assert tally.writes > 100


async def test_flushall_under_load(world: World) -> None:
    """FLUSHALL while browsers work: all are anonymous, nobody gets an error, nothing is half."""
    journal = Journal(world.direct, world.admin, browsers=20)
    async with journal.at_work():
        for _ in range(5):
            await journal.acknowledges(20)
            world.admin.flushall()
        await journal.acknowledges(50)
    tally = journal.tally()
    assert journal.refused == 0
    assert (tally.back, tally.partial, tally.immortal) == (0, 0, 0)


async def test_another_prefix_or_database_is_empty(world: World) -> None:
    """A prefix or a database that nobody used: everyone is anonymous, no cookie is taken away."""
    session_id = await world.create(n=1)
    url = world.server.url.replace("/0?", "/1?")
    for place, prefix in ((url, world.prefix), (world.server.url, "x")):
        async with SessionStore.from_url(place, prefix=prefix) as store:
            browser = Browser(app_of(store), session_id)
            assert await browser.get("/read") == 410  # the shop's answer to a new session
            assert browser.session_id == session_id
    assert await world.fields(session_id) == {"n": 1}


# --- Ending ---


async def test_a_frozen_server_does_not_keep_the_app_from_ending(world: World) -> None:
    """Closing the store while Redis hangs ends with the timeout of what is on its way."""
    session_id = await world.create(n=1)
    store = SessionStore.from_url(world.gate.url, prefix=world.prefix, timeout=2)
    await open_session(store, session_id).load()
    with world.server.frozen():
        refresh(store, handle_of(store, session_id))
        async with asyncio.timeout(100):
            await store.aclose()
