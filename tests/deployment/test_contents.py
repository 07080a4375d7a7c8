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


# --- What a sample says besides ---


def findings(report: CheckReport, name: str) -> list[tuple[str, str]]:
    return [(found.level, found.message) for found in report.findings if found.name == name]


async def test_round_trips_are_measured(session_redis_url: str, prefix: str) -> None:
    """Their median and p99; a share of the timeout is enough for them."""
    async with opened(session_redis_url, prefix) as store:
        for _, message in findings(await store.check(), "latency"):
            number = int(message.split()[0])
            assert 1 <= number <= 200
            assert "(p50)" in message


async def test_keys_without_a_ttl_are_found(alone: DevServer, lone_admin: Any, prefix: str) -> None:
    """A session or a list that another program has made immortal is a problem."""
    async with opened(alone.url, prefix) as store:
        handle = handle_of(store, await log_in(store, "ann"))
        assert findings(await store.check(), "expiry") == []
        lone_admin.persist(f"{prefix}:{handle}")
        lone_admin.persist(index_key(prefix, "ann"))
        ((level, message),) = findings(await store.check(), "expiry")
    assert level == "problem"
    assert f"2 keys of a sample have no TTL, such as {handle}" in message


async def test_places_without_a_session_are_counted(
    alone: DevServer, lone_admin: Any, prefix: str
) -> None:
    """A crash leaves such a place, and nothing has to be done."""
    async with opened(alone.url, prefix) as store:
        handles = [handle_of(store, await log_in(store, "ann")) for _ in range(3)]
        assert findings(await store.check(), "places") == []
        lone_admin.delete(f"{prefix}:{handles[1]}")
        ((level, message),) = findings(await store.check(), "places")
    assert level == "ok"
    assert "1 of a sample of 3 places" in message


async def test_large_sessions_are_counted(alone: DevServer, lone_admin: Any, prefix: str) -> None:
    """By the server's own limits of the compact encoding, as OBJECT ENCODING shows it."""
    lone_admin.config_set("hash-max-ziplist-entries", 128)  # its old name is known everywhere
    async with opened(alone.url, prefix) as store:
        small = await create(store, n=1)
        large = await create(store, text="x" * 3000)
        many = await create(store, **{f"field {number}": number for number in range(200)})
        encodings = [
            lone_admin.object("ENCODING", f"{prefix}:{handle_of(store, session_id)}")
            for session_id in (small, large, many)
        ]
        messages = [message for _, message in findings(await store.check(), "memory")]
    assert encodings.count(encodings[0]) == 1
    assert any("2 of a sample of 3 sessions are too large to be compact" in m for m in messages)


async def test_the_memory_that_is_left_is_forecast() -> None:
    """How many more keys of that size fit; above 80 % it is advice."""
    options = {"maxmemory": "100mb"}
    with DevServer(search=False, options=options) as server, client_of(server) as client:
        async with SessionStore.from_url(server.url) as store:
            fill = client.pipeline()
            for number in range(2_000):
                fill.set(f"other:{number}", "x" * 1000)
            fill.execute()
            before = findings(await store.check(), "memory")
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.9))
            after = findings(await store.check(), "memory")
    assert any(level == "ok" and "of 2,0" in text and "room for" in text for level, text in before)
    assert any(level == "advice" and "no session can be written" in text for level, text in after)
