"""What hosted services and proxies do, as their documents say, on servers that are set up so."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from asgi_redis_session import Durability, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.deployment import problems
from ..support.documents import ROOT
from ..support.internals import open_session
from ..support.namespaces import Names, unshare
from ..support.servers import (
    QUICK,
    SOON_MS,
    Cluster,
    Sentinels,
    ask,
    client_of,
    replicated,
    wait_for,
)
from ..support.serving import PATIENCE, serve_apart
from ..support.sessions import create, load, log_in, opened, works
from ..support.tls import free_port

pytestmark = pytest.mark.anywhere


@contextmanager
def without(*commands: str, **options: str) -> Iterator[DevServer]:
    """A server that does not have these commands."""
    renamed = {f"rename-command {name}": '""' for name in commands}
    with DevServer(options={**renamed, **options}, search=False) as server:
        yield server


# --- Commands that are refused ---


async def test_commands_of_administrators_are_refused(prefix: str) -> None:
    """Without CONFIG, MONITOR, SCRIPT and CLIENT all works; the doctor says what it can't see."""
    with without("CONFIG", "MONITOR", "SCRIPT", "CLIENT", "ACL", "DEBUG", "FLUSHALL") as server:
        async with opened(server.url, prefix) as store:
            await works(store, await create(store, n=0))
            report = await store.check(write=True)
            assert problems(report) == []
            (unseen,) = report.of("unseen")
            assert unseen.message == (
                "It does not have CONFIG GET, so what that shows is not known."
            )
            assert store.stats.errors == 0


async def test_a_service_without_scripts_is_named(prefix: str) -> None:
    """Where EVAL is missing, nothing can be stored: the doctor says so, and no right would help."""
    with without("EVAL", "EVALSHA") as server:
        async with opened(server.url, prefix) as store:
            found = [line for line in problems(await store.check()) if "permissions" in line]
            sentence = (
                "It does not have EVAL, EVALSHA, which the store needs: it can't hold sessions."
            )
            assert found == [f"permissions: {sentence}"]
            with pytest.raises(SessionUnavailable, match="unknown command 'EVAL"):
                await create(store, n=0)


async def test_scripts_touch_only_the_keys_that_they_declare(prefix: str) -> None:
    """Dragonfly refuses others, and a proxy would not know of them: seen by MONITOR."""
    with DevServer(search=False, binary="stack") as server, client_of(server) as client:
        async with opened(server.url, prefix, max_sessions_per_user=2) as store:

            async def everything() -> None:
                await works(store, await create(store, n=0))
                for _ in range(4):
                    await log_in(store, "bea", await create(store, n=0), n=1)
                await store.users.list("bea")
                await store.users.revoke_all("bea")
                await store.drain()

            await everything()  # from now on the server knows all scripts: MONITOR shows their keys
            with client.monitor() as monitor:
                await everything()
                ask(server, "ECHO", "the end")
                declared: list[str] = []
                touched = 0
                while (seen := monitor.next_command())["command"] != "ECHO the end":
                    name, *words = seen["command"].split(" ")
                    if name.upper() == "EVALSHA":
                        declared = words[2 : 2 + int(words[1])]
                    elif seen["client_type"] == "lua" and name.upper() != "TIME":
                        assert words[0] in declared, seen["command"]
                        touched += 1
        assert touched > 50


async def test_resp2_only(prefix: str) -> None:
    """HELLO is refused: with protocol=2 all works; without, the error and the doctor name it."""
    with without("HELLO", requirepass="hunter2") as server:
        async with opened(f"{server.url}?protocol=2", prefix) as store:
            await works(store, await create(store, n=0))
            assert problems(await store.check(write=True)) == []
        async with opened(server.url, prefix) as store:
            with pytest.raises(SessionUnavailable) as refusal:
                await create(store, n=0)
            report = str(await store.check())
    for text in (str(refusal.value), report):
        assert "it has no RESP3: set protocol=2 in its URL, or in the client" in text
        assert "hunter2" not in text


async def test_resp2_only_on_a_cluster_and_by_sentinel(prefix: str) -> None:
    """There, too, the sentence names the cure, and never the password that HELLO carries."""
    options = {"rename-command HELLO": '""', "requirepass": "hunter2", "masterauth": "hunter2"}
    with Cluster(3, options=options) as cluster:
        url = cluster.url.replace("://", "://:hunter2@")
        async with opened(f"{url}?protocol=2", prefix) as store:
            await works(store, await create(store, n=0))
        async with opened(url, prefix, timeout=2) as store:
            with pytest.raises(SessionUnavailable, match="set protocol=2") as refusal:
                await create(store, n=0)
            assert "hunter2" not in f"{refusal.value}{await store.check()}"


# --- A replica, and what comes after a failover ---


async def test_a_replica_as_endpoint(prefix: str) -> None:
    """A reader endpoint reads; writes get 503 with the reason; the doctor calls it a problem."""
    with DevServer(options=QUICK, search=False) as master:
        follow: dict[str, Any] = {**QUICK, "replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(options=follow, search=False) as replica:
            async with opened(master.url, prefix) as store:
                session_id = await create(store, n=1)
            replicated(master)
            async with opened(replica.url, prefix) as store:
                session = await open_session(store, session_id).load()
                assert session["n"] == 1
                session["n"] = 2
                with pytest.raises(SessionUnavailable, match=r"READONLY|read only"):
                    await session.save()
                assert any("It is a replica" in line for line in problems(await store.check()))
                assert await load(store, session_id) == 1


async def test_a_new_master_does_not_know_the_scripts(prefix: str) -> None:
    """Scripts are not replicated: after a failover each is sent in full once, and not noticed."""
    with Sentinels(1, 1, dead_after_ms=SOON_MS) as watched:
        async with opened(watched.url, prefix) as store:
            session_id = await log_in(store, "ann", n=1)
            await store.drain()
            old = watched.master
            (new,) = [server for server in watched.servers if server is not old]
            replicated(old)
            assert ask(new, "INFO", "memory")["number_of_cached_scripts"] == 0
            # A Sentinel promotes only whom it has heard of within its last ten seconds or so.
            await asyncio.to_thread(
                wait_for,
                lambda: ask(watched.sentinels[0], "SENTINEL FAILOVER", watched.SERVICE),
            )
            await asyncio.to_thread(watched.await_master, not_at=old)
            await asyncio.to_thread(wait_for, lambda: ask(old, "ROLE")[0] == b"slave")
            assert await load(store, session_id) == 1
            await works(store, session_id)
            assert ask(new, "INFO", "memory")["number_of_cached_scripts"] > 0
            assert store.stats.errors == 0


# --- DNS that changes ---


class Pair:
    """Two servers at one port of different addresses, and a name that leads to one of them."""

    NAME = "sessions.internal"

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.port = free_port()
        self.names = Names(folder)
        self.old, self.new = (
            stack.enter_context(
                # DevServer itself talks to it by the unix socket.
                DevServer(
                    unix=True,
                    search=False,
                    options={**QUICK, "port": self.port, "bind": address},
                )
            )
            for address in ("127.0.0.2", "127.0.0.3")
        )
        self.names.point(self.NAME, "127.0.0.2")
        ask(self.new, "REPLICAOF", "127.0.0.2", self.port)
        wait_for(lambda: ask(self.new, "INFO", "replication")["master_link_status"] == "up")

    def fail_over(self) -> None:
        """Promote the replica, and let the name lead to it."""
        replicated(self.old)
        ask(self.new, "REPLICAOF", "NO", "ONE")
        self.names.point(self.NAME, "127.0.0.3")


@pytest.mark.parametrize("the_old_one", ["ends", "becomes a replica"])
def test_a_name_that_leads_elsewhere(tmp_path: Path, prefix: str, the_old_one: str) -> None:
    """After a failover the name of the primary endpoint has another address: it is looked up."""
    with ExitStack() as stack:
        pair = Pair(stack, tmp_path)
        environment = {
            "REDIS_URL": f"redis://{pair.NAME}:{pair.port}/0",
            "SESSION_PREFIX": prefix,
            "SESSION_TIMEOUT": "20",
        }
        app = "tests.frameworks.served_app:app"
        url = stack.enter_context(
            serve_apart(
                app,
                *("--log-level", "critical"),
                environment=environment,
                inside=pair.names.inside,
            )
        )
        browser = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE))
        for number in (1, 2):
            assert browser.post("/visit").json() == number
        pair.fail_over()
        if the_old_one == "ends":
            pair.old.stop()
        else:
            ask(pair.old, "REPLICAOF", "127.0.0.3", pair.port)
            # The connection stays: it is the refused write that shows whose it is.
            assert browser.post("/visit").status_code == 503
        assert browser.post("/visit").json() == 3
        assert browser.get("/read").json() == {"visits": 3}
        assert ask(pair.new, "INFO", "commandstats")["cmdstat_evalsha"]["calls"] > 0


# --- Connections that end in silence ---


def test_what_the_network_has_dropped_is_noticed() -> None:
    """An idle connection that a NAT forgets: the system finds out, and no request notices."""
    command = [*unshare("--net"), sys.executable, "-m", "tests.deployment.silence"]
    # It ends itself earlier, and says where it hangs.
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=250
    )
    assert (done.returncode, done.stderr) == (0, "")


def keepalives(port: int) -> list[int]:
    """When the system will probe the connections to a port, in hundredths of a second."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    timers = [line[5].split(":") for line in lines if line[2].endswith(f":{port:04X}")]
    return [int(when, 16) for kind, when in timers if kind == "02"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("form", ["url", "client"])
async def test_keepalives_begin_after_30_seconds(prefix: str, form: str) -> None:
    """What the system is going to do with an idle connection of ours is what /proc says."""
    with DevServer(search=False) as server:
        client = Redis.from_url(server.url) if form == "client" else None
        store = SessionStore(client) if client else SessionStore.from_url(server.url)
        async with store:
            await create(store, n=1)
            ticks = keepalives(server.port)
        if client:
            await client.aclose()
    assert ticks
    assert all(0 < tick <= 3000 for tick in ticks)


# --- Few connections ---


def connections(server: DevServer) -> int:
    """How many there are beside the one that asks."""
    return len(ask(server, "CLIENT LIST")) - 1


async def test_how_many_connections_a_process_needs(prefix: str) -> None:
    """One for requests, however many; another for long lists, and for each write concern."""
    patient = Durability(fsync=True, timeout=20)
    with DevServer(options={"appendonly": "yes"}, search=False) as server:
        async with opened(server.url, prefix, end_durability=patient) as store:
            ids = await asyncio.gather(*[create(store, n=number) for number in range(100)])
            await asyncio.gather(*[open_session(store, one).increment("n") for one in ids])
            assert connections(server) == 1
            await log_in(store, "ann", n=1)
            await store.users.list("ann")
            assert connections(server) == 2
            await store.users.revoke_all("ann")
            assert connections(server) == 3


def test_ten_connections_are_enough_for_nine_loops(prefix: str) -> None:
    """A plan with ten connections: nine event loops serve 50 requests each at a time."""
    with DevServer(options={"maxclients": 10}, search=False) as server:
        store = SessionStore.from_url(server.url, prefix=prefix, timeout=20)
        met = threading.Barrier(9)

        async def work() -> None:
            ids = await asyncio.gather(*[create(store, n=number) for number in range(50)])
            await asyncio.to_thread(met.wait, PATIENCE)  # all are connected now
            await asyncio.gather(*[open_session(store, one).increment("n") for one in ids])
            await store.aclose()

        outcomes: list[Any] = []

        def run() -> None:
            outcomes.append(asyncio.run(work()))

        threads = [threading.Thread(target=run) for _ in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes == [None] * 9
        assert store.stats.errors == 0
        assert ask(server, "INFO", "stats")["rejected_connections"] == 0
