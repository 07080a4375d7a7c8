"""What the doctor says of data that another program has written to the keys of the store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.doctor import CheckReport, Finding

from ..support.internals import handle_of
from ..support.keyspace import index_key
from ..support.servers import Cluster, client_of
from ..support.sessions import create, log_in, opened

GARBAGE: dict[str, Callable[[Any, str, str], Any]] = {
    "no handle": lambda r, mine, index: r.zadd(index, {b"\xff\xfe": 1}),
    "a time beyond all": lambda r, mine, index: r.zadd(index, {"0" * 32: "inf"}),
    "a time before all": lambda r, mine, index: r.zadd(index, {"0" * 32: "-inf"}),
    "no list": lambda r, mine, index: (r.delete(index), r.set(index, "x")),
    "another layout": lambda r, mine, index: r.hset(mine, "@v", "2"),
    "damaged metadata": lambda r, mine, index: r.hset(mine, "@deadline", "soon"),
    "a value that is none": lambda r, mine, index: r.hset(mine, "cart", b"[\xff"),
    "no hash": lambda r, mine, index: (r.delete(mine), r.set(mine, "x")),
}


def contents(report: CheckReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.name == "contents"]


@pytest.fixture
def lone_admin(alone: DevServer) -> Iterator[Any]:
    """For the server whose few keys are all in the sample."""
    with client_of(alone) as client:
        yield client


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_found_and_left_as_it_is(
    alone: DevServer, lone_admin: Any, events: list[SessionEvent], prefix: str, kind: str
) -> None:
    """One finding that says of what kind it is, and of a session under which handle; no event."""
    async with opened(alone.url, prefix, on_event=events.append) as store:
        handle = handle_of(store, await log_in(store, "ann"))
        await create(store, cart=["apple"])
        (finding,) = contents(await store.check())
        assert finding.level == "ok"
        assert "2 sessions and 1 users' lists" in finding.message
        mine, index = f"{prefix}:{handle}", index_key(prefix, "ann")
        GARBAGE[kind](lone_admin, mine, index)
        before = {key: lone_admin.dump(key) for key in (mine, index)}
        events.clear()
        (finding,) = contents(await store.check())
        assert finding.level == "problem"
        is_list = "list" in kind or "time" in kind or kind == "no handle"
        what = "1 lists" if is_list else f"1 sessions, such as {handle},"
        assert f", {what} hold what this version does not write" in finding.message
        assert {key: lone_admin.dump(key) for key in (mine, index)} == before
        assert not events


async def test_what_was_passed_over_is_counted(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Each event `corrupt` of this process counts, also when the garbage itself is gone."""
    async with opened(session_redis_url, prefix) as store:
        index = index_key(prefix, "ann")
        admin.set(index, "x")
        assert await store.users.count("ann") == 0
        assert store.stats.corrupt == 1
        counted, sample = contents(await store.check())
        assert (counted.level, counted.server, sample.level) == ("advice", None, "ok")
        assert "1 times since the store was made" in counted.message
        admin.set(index, "x")
        assert await store.users.list("ann") == []
        assert store.stats.corrupt == 2


async def test_the_sample_is_small() -> None:
    """Of thousands of keys, about a thousand are passed and 100 read."""
    with DevServer(search=False) as server, client_of(server) as client:
        async with SessionStore.from_url(server.url, prefix="shop") as store:
            fill = client.pipeline()
            for number in range(5_000):
                fill.hset(f"shop:{number:032x}", mapping={"@v": "1", "@created": "1"})
                fill.set(f"other:{number}", "x")
            fill.execute()
            client.config_resetstat()
            (finding,) = contents(await store.check())
            calls = {name: row["calls"] for name, row in client.info("commandstats").items()}
    assert finding.message == "All of a sample of 100 sessions and 0 users' lists can be read."
    assert calls["cmdstat_scan"] <= 20
    assert calls["cmdstat_hgetall"] == 101  # one of them tries the right to it


async def test_the_sample_needs_a_right_of_its_own() -> None:
    """Without SCAN, the doctor says that it has not looked."""
    with DevServer(search=False) as server, client_of(server) as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "+@all", "-scan")
        url = f"redis://shop:secret@127.0.0.1:{server.port}"
        async with SessionStore.from_url(url) as store:
            report = await store.check()
    assert contents(report) == []
    (unseen,) = report.of("unseen")
    assert "may not run SCAN. Allow +scan to see more" in unseen.message


async def test_each_node_of_a_cluster_is_sampled() -> None:
    """The one that holds the garbage is named."""
    with Cluster(2) as cluster:
        async with SessionStore.from_url(cluster.url, timeout=10) as store:
            handle = handle_of(store, await log_in(store, "ann"))
            for node in cluster.nodes:
                with client_of(node) as client:
                    if client.keys(f"session:{handle}"):
                        client.hset(f"session:{handle}", "@v", "2")
            levels = sorted(finding.level for finding in contents(await store.check()))
    assert levels == ["ok", "problem"]
