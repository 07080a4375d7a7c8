"""Rows 13 and 23 to 26: Redis dies, and comes back with what was on its disk."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServerError

from ..support.internals import open_session
from ..support.keyspace import session_keys
from ..support.sessions import create
from .disk import Death, deaths
from .servers import Server


async def test_kill_9_with_aof_always_loses_nothing() -> None:
    """Every acknowledged write is there after kill -9, and no ended session is back."""
    tally = await deaths("AOF always", "kill", 2, work=0.2)
    assert tally.writes > 100
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_20_kills_with_aof_always_lose_nothing(figure: Callable[[str], None]) -> None:
    """20 times kill -9 under load: no acknowledged write lost, no ended session back."""
    tally = await deaths("AOF always", "kill", 20)
    figure(f"AOF always, kill -9: {tally}")
    assert (tally.lost_writes, tally.back, tally.partial, tally.immortal) == (0, 0, 0, 0)
    assert tally.unlisted == 0
    assert max(tally.recoveries) < 10  # figure() has the real ones: a fraction of a second


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("death", ["kill", "stop"])
@pytest.mark.parametrize("kind", ["none", "RDB", "AOF everysec"])
async def test_other_disks_lose_what_the_documentation_says(
    kind: str, death: Death, figure: Callable[[str], None]
) -> None:
    """Less durable disks lose writes, never half a commit, and leave no session without TTL."""
    tally = await deaths(kind, death, 10)
    figure(f"{kind}, {'kill -9' if death == 'kill' else 'SIGTERM'}: {tally}")
    assert (tally.partial, tally.immortal) == (0, 0)
    assert max(tally.recoveries) < 10  # figure() has the real ones: a fraction of a second
    if death == "stop" and kind != "none":
        assert (tally.lost_writes, tally.back) == (0, 0)


# --- A cut AOF ---


def _log_of(disk: Path) -> Path:
    """The file that the last commands went to."""
    (log,) = [*disk.glob("appendonlydir/*.incr.aof"), *disk.glob("appendonly.aof")]
    return log


async def _writes_once(server: Server, prefix: str) -> tuple[str, bytes, bytes]:
    """A session, and the log before and after its one further commit."""
    async with SessionStore.from_url(server.url, prefix=prefix) as store:
        session_id = await create(store, n=1, twin=1, old="x")
        before = _log_of(server.disk).read_bytes()
        session = await open_session(store, session_id).load()
        session["n"] = session["twin"] = 2
        del session["old"]
        await session.save()
    return session_id, before, _log_of(server.disk).read_bytes()


async def _survives_cuts(server: Server, prefix: str, stride: int) -> int:
    """Cut the log within its last records, start on what is left, and look at the session."""
    session_id, before, after = await _writes_once(server, prefix)
    server.stop()
    log, offsets = _log_of(server.disk), range(len(before), len(after) + 1, stride)
    for offset in offsets:
        log.write_bytes(after[:offset])
        server.start()
        with server.admin as admin:
            (key,) = session_keys(admin, prefix)
            assert admin.pttl(key) > 0
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            found = dict(await open_session(store, session_id).load())
        assert found in ({"n": 1, "twin": 1, "old": "x"}, {"n": 2, "twin": 2})
        server.stop()
    return len(offsets)


async def test_a_cut_aof_holds_whole_commits(prefix: str) -> None:
    """The end of the log is missing: the last commit is there whole or not at all, with its TTL."""
    with Server(appendonly="yes", appendfsync="always") as server:
        assert await _survives_cuts(server, prefix, 53) > 5


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_an_aof_cut_at_every_byte_holds_whole_commits(
    prefix: str, figure: Callable[[str], None]
) -> None:
    """The same, at every byte of the last records."""
    with Server(appendonly="yes", appendfsync="always") as server:
        count = await _survives_cuts(server, prefix, 1)
    figure(f"AOF cut at {count} offsets within the last commit: 0 partial, 0 without TTL")


async def test_a_damaged_aof_stops_the_server_not_the_app(prefix: str) -> None:
    """Damage in the middle: Redis refuses to start; the app says 503 until it is repaired."""
    with Server(appendonly="yes", appendfsync="always") as server:
        session_id, _, after = await _writes_once(server, prefix)
        url = server.url
        server.stop()
        log = _log_of(server.disk)
        whole = log.with_suffix(".whole")
        shutil.copy(log, whole)
        log.write_bytes(after.replace(b"\r\n$", b"\r\n#"))
        with pytest.raises(DevServerError, match="Bad file format"):
            server.start()
        async with SessionStore.from_url(url, prefix=prefix) as store:
            with pytest.raises(SessionUnavailable):
                await open_session(store, session_id).load()
            whole.replace(log)
            server.start()
            assert (await open_session(store, session_id).load())["n"] == 2


# --- Loading ---


async def test_a_loading_server_is_no_empty_one(prefix: str) -> None:
    """While Redis reads its disk, requests are refused, never told that there is no session."""
    with Server(save="3600 1", rdbcompression="no") as server:
        async with SessionStore.from_url(server.url, prefix=prefix, timeout=1) as store:
            session_id = await create(store, n=1)
            with server.admin as admin:
                for number in range(400):
                    admin.set(f"filler:{number}", b"x" * 100_000)
            server.stop()
            server.options["key-load-delay"] = 6000  # microseconds; it answers every 2 MB
            starting = threading.Thread(target=server.start)
            starting.start()
            refusals: set[str] = set()
            async with asyncio.timeout(40):
                while True:
                    try:
                        assert (await open_session(store, session_id).load())["n"] == 1
                        break
                    except SessionUnavailable as refusal:
                        refusals.add(str(refusal))
                        await asyncio.sleep(0.01)
            starting.join()
    assert any("LOADING" in refusal.upper() for refusal in refusals), refusals
