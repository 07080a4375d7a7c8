"""Each command where Sentinels say which server is the master."""

from collections.abc import Iterator

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import handle_of
from ..support.servers import Sentinels, ask, replicated
from ..support.sessions import is_live, log_in
from .common import objects, rows, run
from .heard import hears_logins_and_ends

pytestmark = pytest.mark.anywhere


@pytest.fixture(scope="module")
def watched() -> Iterator[Sentinels]:
    """A master with a replica, and three Sentinels."""
    with Sentinels(replicas=1) as sentinels:
        sentinels.await_replicas()
        yield sentinels


async def test_sessions(watched: Sentinels, prefix: str) -> None:
    """They are created, counted, listed, shown and ended at the master."""
    at = ("--redis", watched.url, "--prefix", prefix)
    assert run("seed", "3", "--anonymous", "100", *at).stdout == "3 sessions were created.\n"
    async with SessionStore.from_url(watched.url, prefix=prefix, timeout=20) as store:
        session_id = await log_in(store, "ann", plan="gold")
        handle = handle_of(store, session_id)
        assert objects("count", *at) == [{"sessions": 4}]
        assert objects("count", "--by", "plan", *at)[1] == {"plan": "gold", "sessions": 1}
        for chosen in (("--user", "ann"), ("--where", "plan=gold")):
            (shown,) = objects("list", *chosen, *at)
            assert shown["handle"] == handle
        (shown,) = objects("show", handle, *at)
        assert (shown["user_id"], shown["fields"]) == ("ann", {"plan": "gold"})
        assert objects("revoke", handle, *at) == [{"ended": 1}]
        assert not await is_live(store, session_id)
    assert objects("revoke", "--idle-for", "0.001", "--yes", *at) == [{"ended": 3}]
    assert objects("count", *at) == [{"sessions": 0}]


async def test_watch(watched: Sentinels, prefix: str) -> None:
    """The figures of the master, and of no replica; it reports logins and ends."""
    ask(watched.master, "CONFIG", "SET", "notify-keyspace-events", "Kz")
    await hears_logins_and_ends(watched.url, prefix)
    (shown,) = objects("watch", "--redis", watched.url, "--every", "0.1", "--times", "1")
    assert shown["server"] == "the Redis master 'main'"
    assert shown["memory_mb"] > 0


def test_plain(watched: Sentinels, prefix: str) -> None:
    """It reads the sessions of the master."""
    at = ("--redis", watched.url, "--prefix", prefix)
    run("seed", "2", *at)
    done = run("plain", "--json", *at)
    assert (done.returncode, done.stdout) == (1, '{"not_encrypted": 2}\n')


def test_doctor(watched: Sentinels) -> None:
    """The master, and each Sentinel, whether it could agree on a failover."""
    shown = objects("doctor", "--redis", watched.url)
    assert [each["level"] for each in shown if each["name"] == "sentinel"] == ["ok"] * 3
    (write,) = [each for each in shown if each["name"] == "write"]
    assert (write["server"], write["level"]) == ("the Redis master 'main'", "ok")


def test_a_new_master_is_found(watched: Sentinels, prefix: str) -> None:
    """The next command goes to the server that took over, which has copied the sessions."""
    at = ("--redis", watched.url, "--prefix", prefix)
    run("seed", "5", *at)
    former = watched.master
    (successor,) = [server for server in watched.servers if server is not former]
    replicated(former)
    watched.appoint(successor)
    assert rows("count", *at) == [["5"]]
    run("seed", "1", *at)
    assert len(ask(successor, "KEYS", f"{prefix}:{'?' * 32}")) == 6
