"""What `store.check(write=True)` finds by doing what a request does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis

from asgi_redis_session import Durability, SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.deployment import problems
from ..support.servers import Cluster, ask, client_of


@contextmanager
def no_such_database(server: DevServer) -> Iterator[dict[str, Any]]:
    yield {"url": f"redis://127.0.0.1:{server.port}/99"}


@contextmanager
def full_memory(server: DevServer) -> Iterator[dict[str, Any]]:
    ask(server, "CONFIG SET", "maxmemory", "1")
    yield {}


@contextmanager
def no_replicas(server: DevServer) -> Iterator[dict[str, Any]]:
    ask(server, "CONFIG SET", "min-replicas-to-write", "1")
    yield {}


@contextmanager
def unreached_durability(server: DevServer) -> Iterator[dict[str, Any]]:
    yield {"durability": Durability(replicas=1, timeout=0.1)}


@contextmanager
def busy_script(server: DevServer) -> Iterator[dict[str, Any]]:
    ask(server, "CONFIG SET", "busy-reply-threshold", "1")
    with client_of(server) as client, client_of(server) as killer:
        pool = client.connection_pool
        connection = pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        while True:
            try:
                killer.ping()
            except Exception as error:  # noqa: BLE001  (BUSY, whatever redis-py makes of it)
                assert "BUSY" in str(error)  # noqa: PT017
                break
        try:
            yield {}
        finally:
            killer.script_kill()
            connection.disconnect()


#: What is wrong, and what the report says of it.
STATES = {
    no_such_database: "DB index is out of range",
    full_memory: "used memory > 'maxmemory'",
    no_replicas: "NOREPLICAS",
    unreached_durability: "A session was written, but: ",
    busy_script: "BUSY",
}


@pytest.mark.anywhere
@pytest.mark.parametrize("state", STATES)
async def test_the_doctor_tries_what_the_store_does(state: Any) -> None:
    """Each state in which writes fail is a problem, with its reason."""
    with DevServer(search=False, binary="stack") as server, state(server) as options:
        url = options.pop("url", server.url)
        async with SessionStore.from_url(url, timeout=20, **options) as store:
            report = await store.check(write=True)
    assert not report.is_ok
    assert any(STATES[state] in one for one in problems(report)), problems(report)
    assert not any("may not run" in one for one in problems(report))


@pytest.mark.anywhere
async def test_the_doctor_writes_reads_and_ends_a_session() -> None:
    """On a server in order: one finding more, and nothing is left behind, neither key nor event."""
    events: list[Any] = []
    with DevServer(search=False) as server:
        async with SessionStore.from_url(server.url, on_event=events.append) as store:
            before = await store.check()
            report = await store.check(write=True)
            more = [one for one in report.findings if one.name == "write"]
            assert len(report.findings) == len(before.findings) + 1
            assert [(one.level, one.message) for one in more] == [
                ("ok", "A session was written, read and ended.")
            ]
            assert ask(server, "DBSIZE") == 0
            assert events == []


@pytest.mark.anywhere
async def test_what_the_doctor_can_not_end_ends_by_itself() -> None:
    """Its session lives for ten seconds at most, even if Redis then refuses to delete it."""
    with DevServer(search=False) as server:
        ask(server, "ACL", "SETUSER", "default", "-del")
        async with SessionStore.from_url(server.url, timeout=20) as store:
            report = await store.check(write=True)
        assert any("could not be written, read and ended" in one for one in problems(report))
        with client_of(server) as client:
            (key,) = [key for key in client.keys("*") if client.hexists(key, "doctor")]
            assert 0 < client.pttl(key) <= 10_000
            assert not client.hexists(key, "@user")
            assert all(0 < client.pttl(key) <= 60_000 for key in client.keys("*"))  # and its probes


@pytest.mark.anywhere
async def test_the_doctor_tries_every_master() -> None:
    """Of three masters, the one whose memory is full is named."""
    with Cluster(3) as cluster:
        full = cluster.nodes[1]
        async with SessionStore.from_url(cluster.url, timeout=20) as store:
            assert (await store.check(write=True)).is_ok
            ask(full, "CONFIG SET", "maxmemory", "1")
            (found,) = (await store.check(write=True)).of("problem")
    assert found.name == "write"
    assert f":{full.port}" in (found.server or "")


@pytest.mark.anywhere
async def test_a_client_without_an_address_is_named_all_the_same() -> None:
    """redis-py connects to localhost:6379 then; no message says None:None."""
    for pool in (ConnectionPool(), ConnectionPool(host="localhost"), ConnectionPool(port=1)):
        client = Redis(connection_pool=pool)
        store = SessionStore(client, timeout=0.5)
        report = await asyncio.wait_for(store.check(write=True), 100)
        shown = " ".join(f"{one.server or ''} {one.message}" for one in report.findings)
        assert "None" not in shown
        assert "localhost:" in shown
        await store.aclose()
        await client.aclose()
