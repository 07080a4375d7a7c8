"""Rows 29 and 30: the clock of Redis jumps, and the clock of the app."""

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asgi_redis_session import Lifetime, SessionStore

from ..support.internals import open_session
from ..support.keyspace import session_keys
from ..support.servers import wait_for
from ..support.sessions import create
from .servers import Server
from .shop import OK, Browser, app_of

LIFETIME = Lifetime(idle=timedelta(minutes=30), absolute=timedelta(hours=8))
MINUTE, HOUR = 60, 3600


class Clocked:
    """A store on a redis-server whose clock the test sets."""

    def __init__(self, store: SessionStore, admin: Any, set_clock: Callable[[int], None]) -> None:
        self.store = store
        self.admin = admin
        self.set_clock = set_clock

    def ttl(self) -> float:
        """How long the only session has, in seconds."""
        (key,) = session_keys(self.admin, self.store.prefix)
        return float(self.admin.pttl(key) / 1000)

    async def is_there(self, session_id: str) -> bool:
        return len(await open_session(self.store, session_id).load()) > 0


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts the clock of a process."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to make a clock that can be set")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
async def clocked(
    clock: Path, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Clocked]:
    file = tmp_path / "seconds"
    monkeypatch.setenv("LD_PRELOAD", str(clock))
    monkeypatch.setenv("CLOCK_FILE", str(file))
    file.write_text("0")

    with Server() as server, server.admin as admin:

        def shows(seconds: int) -> bool:
            return bool(abs(admin.time()[0] - time.time() - seconds) < MINUTE)

        def set_clock(seconds: int) -> None:
            (tmp_path / "next").write_text(str(seconds))
            (tmp_path / "next").replace(file)
            # Valkey 9 looks at the clock ten times a second.
            wait_for(lambda: shows(seconds))

        async with SessionStore.from_url(server.url, prefix=prefix, lifetime=LIFETIME) as store:
            yield Clocked(store, admin, set_clock)


async def test_the_clock_of_redis_jumps_forward(clocked: Clocked) -> None:
    """Past the idle time: logged out, which is the safe side. Less than that: nothing happens."""
    session_id = await create(clocked.store, n=1)
    clocked.set_clock(20 * MINUTE)
    assert await clocked.is_there(session_id)
    clocked.set_clock(20 * MINUTE + 31 * MINUTE)
    assert not await clocked.is_there(session_id)
    assert session_keys(clocked.admin, clocked.store.prefix) == []


async def test_the_clock_of_redis_jumps_back(clocked: Clocked) -> None:
    """A session idles longer by the jump at most; its first use puts that right again."""
    session_id = await create(clocked.store, n=1)
    clocked.set_clock(-5 * HOUR)
    assert clocked.ttl() > 5 * HOUR
    assert await clocked.is_there(session_id)
    await clocked.store.drain()
    assert clocked.ttl() <= 30 * MINUTE


async def test_the_deadline_stays_where_it_was(clocked: Clocked) -> None:
    """Whatever the clock does, the deadline is the instant that was fixed at the beginning."""
    session_id = await create(clocked.store, n=1)
    (key,) = session_keys(clocked.admin, clocked.store.prefix)
    deadline = clocked.admin.hget(key, "@deadline")
    clocked.set_clock(-HOUR)
    session = await open_session(clocked.store, session_id).load()
    session["n"] = 2
    await session.save()
    assert clocked.admin.hget(key, "@deadline") == deadline
    clocked.admin.persist(key)  # were there no TTL, the deadline would still hold
    clocked.set_clock(8 * HOUR + MINUTE)
    assert not await clocked.is_there(session_id)
    assert session_keys(clocked.admin, clocked.store.prefix) == []


@pytest.mark.parametrize("years", [-10, 10])
async def test_the_clock_of_the_app_jumps(
    session_redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """Only Redis' clock counts: nothing expires, and nothing lives longer."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, lifetime=LIFETIME) as store:
        browser = Browser(app_of(store))
        assert await browser.get("/login/ada") == OK
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + years * 365 * 24 * HOUR)
        assert await browser.get("/add/1") == OK
        (info,) = await store.users.list("ada")
        monkeypatch.undo()
        now = datetime.now(UTC)
        assert timedelta(minutes=29) < info.expires_at - now <= timedelta(minutes=30)
        assert await browser.get("/logout") == OK
