"""Every kind of deployment of docs/deployment.md, as it is written there."""

import logging
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import Durability, SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.deployment import DOCUMENT, STORES, advice, conf, documented, problems
from ..support.documents import blocks
from ..support.servers import QUICK, Cluster, Sentinels, ask, frozen, replicated, wait_for
from ..support.sessions import PLAIN, create, works
from ..support.shards import shards

# --- One server ---


async def test_one_server(prefix: str) -> None:
    """AOF, noeviction, room for values: nothing to advise."""
    with DevServer(options=conf(0), search=False) as server:
        place = server.url.removeprefix("redis://")
        async with documented(0, {"localhost:6379/0": place}, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
    assert report.is_ok
    assert report.of("advice") == report.of("unseen") == ()
    assert "AOF is on (appendfsync everysec)." in [found.message for found in report.findings]


async def test_a_unix_socket(prefix: str) -> None:
    """The same on a socket."""
    with DevServer(unix=True, search=False) as server:
        place = {"/run/redis/redis.sock": str(server.socket)}
        async with documented(1, place, prefix=prefix) as store:
            await works(store, await create(store, n=0))


def test_doctor(tmp_path: Path) -> None:
    """It prints what it finds; the exit code tells whether there is a problem."""
    command, *_ = blocks(DOCUMENT, "console")[0].splitlines()
    words = shlex.split(command.removeprefix("$ "))
    assert words[2:] == ["--redis", "redis://localhost:6379/0"]
    program = str(Path(sys.executable).parent / words[0])

    def run(url: str, *more: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, words[1], "--redis", url, *more],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
            timeout=200,
        )
        return done.returncode, done.stdout + done.stderr

    with DevServer(options={"requirepass": "hunter2"}, search=False) as server:
        status, said = run(server.url)
        assert status == 0, said
        assert "AOF is off" in said
        assert "advice" in said
        status, said = run(server.url, "--fsync", "--replicas", "1", "--prefix", "shop")
        assert status == 1
        assert "set `appendonly yes`" in said
        assert "0 are connected" in said
    status, said = run(server.url)
    assert status == 1
    assert "can't be reached" in said
    status, nonsense = run("reddis://:hunter2@localhost")
    assert status == 2
    assert "not a Redis URL" in " ".join(nonsense.replace("│", " ").split())
    assert "hunter2" not in said + nonsense


async def test_the_report_can_be_logged(
    session_redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The block that logs problems does."""
    code = next(block for block in blocks(DOCUMENT, "python") if block.startswith("report"))
    async with SessionStore.from_url(session_redis_url, durability=Durability(replicas=3)) as store:
        body = "\n".join(f"    {line}" for line in code.splitlines())
        namespace: dict[str, Any] = {"logger": logging.getLogger("app"), "store": store}
        exec(f"async def main():\n{body}", namespace)
        await namespace["main"]()
    assert {record.getMessage().partition(":")[0] for record in caplog.records} == {"replicas"}


# --- Sentinel, Cluster, durability ---


async def test_sentinel(prefix: str) -> None:
    """The documented settings; the doctor asks the Sentinels, too."""
    assert conf(3).keys() == {
        f"sentinel {name}" for name in ("monitor", "down-after-milliseconds", "failover-timeout")
    }
    with Sentinels(3, 1, options=conf(2)) as watched:
        hosts = watched.url.removeprefix("redis+sentinel://").partition("/")[0]
        replace = {"10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379": hosts}
        watched.await_replicas()
        wait_for(lambda: ask(watched.master, "INFO", "replication")["min_slaves_good_slaves"] >= 1)
        async with documented(4, replace, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
            assert problems(report) == []
            assert [found.name for found in report.findings].count("sentinel") == 3
            with frozen(watched.sentinels[0]):
                report = await store.check()
            assert {finding.name for finding in report.of("problem")} == {"sentinel"}


async def test_cluster(prefix: str) -> None:
    """The documented settings: the doctor looks at each node, and misses replicas only."""
    with Cluster(3, options={**conf(4), "cluster-node-timeout": 1000}) as cluster:
        hosts = cluster.url.removeprefix("redis+cluster://")
        replace = {"10.0.0.1:6379,10.0.0.2:6379,10.0.0.3:6379": hosts}
        async with documented(5, replace, prefix=prefix, timeout=3) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
            assert problems(report) == []
            assert len({finding.server for finding in report.findings}) == 3
            # How long a round trip takes depends on what else this machine does.
            assert advice(report) - {"latency"} == {"cluster", "memory"}
            hung = cluster.nodes[0]
            with frozen(hung):
                report = await store.check()
            (problem, *_) = report.of("problem")
            assert problem.name == "reach"
            assert f":{hung.port}" in (problem.server or "")
            assert len({finding.server for finding in report.findings}) == 3


async def test_one_address_for_several_servers(prefix: str) -> None:
    """A proxy that runs a script where its first key is."""
    with shards(apart="unnoticed") as found:
        place = {"redis://proxy.example.com:6379/0": found.url}
        async with documented(6, place, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            assert (await store.check(write=True)).is_ok


def test_durability(prefix: str) -> None:
    """The store waits for disks and replicas, and the endpoint for two of them."""
    options: dict[str, str | int] = {**QUICK, "appendonly": "yes"}
    with ExitStack() as stack:
        server = stack.enter_context(DevServer(options=options, search=False))
        follow = {"replicaof": f"127.0.0.1 {server.port}", "appendonly": "yes"}
        for _ in range(2):
            stack.enter_context(DevServer(options=follow, search=False))
        replicated(server, 2)
        namespace: dict[str, Any] = {
            "SessionStore": SessionStore,
            "Durability": Durability,
            "timedelta": timedelta,
            "JSONResponse": JSONResponse,
        }
        code = STORES[7].replace("redis://localhost:6379/0", server.url)
        # A replica on a busy machine may need more than the default of a second.
        code = code.replace("replicas=2)", "replicas=2, timeout=60)")
        exec(code.replace("fsync=True)", "fsync=True, timeout=60)"), namespace)
        store = namespace["store"]
        app = Starlette(routes=[Route("/", namespace["pay"])])
        with TestClient(SessionMiddleware(app, store=store, cookie=PLAIN)) as client:
            assert client.get("/").json() == {"paid": True}
        calls = ask(server, "INFO", "commandstats")
        assert "cmdstat_wait" in calls
