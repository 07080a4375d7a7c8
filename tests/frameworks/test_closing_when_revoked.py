"""Sockets whose session ends: `closing_when_revoked`."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.starlette import closing_when_revoked, load_session
from asgi_redis_session.testing import SessionKit

from ..support.gate import gates_to
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

pytestmark = pytest.mark.on_cluster


@dataclass
class Endpoints:
    """Socket endpoints under watch, and what became of them, from the server's side."""

    #: How often Redis is asked.
    every: float = 0.02
    left: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    @asynccontextmanager
    async def _watched(self, websocket: WebSocket, **options: Any) -> AsyncIterator[None]:
        session = await load_session(websocket)
        await websocket.accept()
        await websocket.send_text(session.handle or "")
        try:
            async with closing_when_revoked(websocket, **{"every": self.every, **options}):
                yield
                self.left.append("block")
            self.left.append("after")
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        finally:
            self.is_over.set()

    async def echo(self, websocket: WebSocket) -> None:
        """Reads until there is nobody to read from."""
        async with self._watched(websocket):
            async for text in websocket.iter_text():
                await websocket.send_text(text)

    async def deaf(self, websocket: WebSocket) -> None:
        """Never reads, so that it learns of nothing by itself."""
        async with self._watched(websocket, code=4001):
            await anyio.sleep_forever()

    async def receive(self, websocket: WebSocket) -> None:
        """Reads as FastAPI's documentation has it."""
        try:
            async with self._watched(websocket):
                while True:
                    await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            self.left.append("caught")

    async def failing(self, websocket: WebSocket) -> None:
        """Its own error is its own."""
        try:
            async with self._watched(websocket):
                fail(await websocket.receive_text())
        except LookupError:
            self.left.append("caught")

    async def hang_up(self, websocket: WebSocket) -> None:
        """Closes its socket, but stays in the block."""
        async with self._watched(websocket):
            await websocket.receive_text()
            await websocket.close(4000)
            await anyio.sleep_forever()


def fail(text: str) -> NoReturn:
    raise LookupError(text)


async def fill(request: Request) -> Response:
    (await load_session(request))["n"] = 1
    return Response()


async def renew(request: Request) -> Response:
    (await load_session(request)).renew()
    return Response()


async def log_in(request: Request) -> Response:
    await (await load_session(request)).login("ann")
    return Response()


async def log_out(request: Request) -> Response:
    await (await load_session(request)).logout()
    return Response()


async def tasks(request: Request) -> Response:
    """How many tasks this server has."""
    return JSONResponse(len(asyncio.all_tasks()))


@dataclass
class World:
    """A uvicorn with these endpoints, and a browser's session."""

    url: str
    endpoints: Endpoints
    cookies: dict[str, str] = field(default_factory=dict)

    def new_cookies(self) -> dict[str, str]:
        """Those of a session that was created just now."""
        return dict(httpx.get(f"{self.url}/fill", timeout=PATIENCE).cookies)

    @asynccontextmanager
    async def socket(self, name: str) -> AsyncIterator[tuple[ClientConnection, str]]:
        """A socket to this endpoint, and the handle of its session."""
        cookie = f"session={self.cookies['session']}" if self.cookies else "none=none"
        address = f"{self.url.replace('http', 'ws')}/{name}"
        async with connect(address, additional_headers={"cookie": cookie}) as connection:
            yield connection, str(await connection.recv())

    def over(self) -> list[str]:
        """How the endpoint's block was left, once it was."""
        assert self.endpoints.is_over.wait(10)
        return self.endpoints.left

    def tasks(self) -> int:
        return int(httpx.get(f"{self.url}/tasks", timeout=PATIENCE).json())


@contextmanager
def world_of(store: SessionStore, *, every: float = 0.02, **options: Any) -> Iterator[World]:
    endpoints = Endpoints(every)
    sockets: list[Callable[[WebSocket], Awaitable[None]]] = [
        *(endpoints.echo, endpoints.deaf, endpoints.receive, endpoints.failing),
        endpoints.hang_up,
    ]
    routes = [
        Route("/fill", fill),
        *[Route(f"/{verb.__name__}", verb) for verb in (renew, log_in, log_out)],
        Route("/tasks", tasks),
        *[WebSocketRoute(f"/{socket.__name__}", socket) for socket in sockets],
    ]
    app = SessionMiddleware(Starlette(routes=routes), store=store, cookie=PLAIN, **options)
    with serve(app) as url:
        world = World(url, endpoints)
        world.cookies = world.new_cookies()
        yield world


@pytest.fixture
def world(sessions: SessionKit) -> Iterator[World]:
    with world_of(sessions.store) as world:
        yield world


async def close_code(connection: ClientConnection) -> int | None:
    """With which code the server closes this socket."""
    return (await close_of(connection))[0]


async def close_of(connection: ClientConnection) -> tuple[int | None, str]:
    """With which code and reason the server closes this socket."""
    with anyio.fail_after(100), pytest.raises(ConnectionClosed) as closed:
        while True:
            await connection.recv()
    frame = closed.value.rcvd
    return (None, "") if frame is None else (frame.code, frame.reason)


async def works(connection: ClientConnection) -> bool:
    """Whether what is sent comes back."""
    await connection.send("ping")
    with anyio.fail_after(100):
        return await connection.recv() == "ping"


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(100):
        while not condition():
            await anyio.sleep(0.01)


async def test_a_revoked_session_closes_its_socket(world: World, sessions: SessionKit) -> None:
    """Ended from outside: 1008, the block is left, and the endpoint goes on behind it."""
    before = world.tasks()
    async with world.socket("echo") as (connection, handle):
        assert await works(connection)
        assert sessions.revoke(handle)
        assert await close_code(connection) == 1008
    assert world.over()[-1] == "after"
    await until(lambda: world.tasks() <= before)


async def test_a_revoked_session_closes_a_socket_that_never_reads(
    world: World, sessions: SessionKit
) -> None:
    """With the code that was asked for; what the block awaited is cancelled."""
    async with world.socket("deaf") as (connection, handle):
        assert sessions.revoke(handle)
        assert await close_code(connection) == 4001
    assert world.over() == ["after"]


async def test_a_revoked_session_closes_all_its_sockets_and_no_other(
    world: World, sessions: SessionKit
) -> None:
    """Sockets of another session, of the same process and browser, stay open."""
    other = World(world.url, world.endpoints, world.new_cookies())
    async with world.socket("echo") as (one, handle), world.socket("echo") as (two, same):
        async with other.socket("echo") as (three, another):
            assert handle == same != another
            assert sessions.revoke(handle)
            assert await close_code(one) == 1008
            assert await close_code(two) == 1008
            assert await works(three)


async def test_an_expired_session_closes_its_socket(
    world: World, sessions: SessionKit, admin: Any
) -> None:
    """Nobody used it for too long, or its deadline has passed: both are an end."""
    async with world.socket("echo") as (connection, handle):
        admin.pexpire(f"{sessions.prefix}:{handle}", 1)
        assert await close_code(connection) == 1008
    world.cookies = world.new_cookies()
    async with world.socket("echo") as (connection, handle):
        admin.hset(f"{sessions.prefix}:{handle}", "@deadline", 1)
        assert await close_code(connection) == 1008


async def test_a_socket_without_a_session_is_closed(world: World) -> None:
    """There is none that could be valid."""
    world.cookies = {}
    async with world.socket("echo") as (connection, handle):
        assert handle == ""
        assert await close_code(connection) == 1008
    assert world.over()[-1] == "after"


@pytest.mark.parametrize(
    ("verb", "reason"), [("renew", "replaced"), ("log_in", "replaced"), ("log_out", "logged_out")]
)
async def test_the_close_says_why(world: World, verb: str, reason: str) -> None:
    """A new id in another tab is no logout: a script may connect again, with the new cookie."""
    async with world.socket("echo") as (connection, _):
        async with httpx.AsyncClient(cookies=world.cookies, timeout=PATIENCE) as browser:
            await browser.get(f"{world.url}/{verb}")
        assert await close_of(connection) == (1008, reason)


async def test_asking_does_not_keep_a_session_alive(
    world: World, sessions: SessionKit, admin: Any
) -> None:
    """Many questions later the socket is open, and the TTL is no longer than it was set."""
    async with world.socket("echo") as (connection, handle):
        key = f"{sessions.prefix}:{handle}"
        assert admin.pexpire(key, 60_000)
        with sessions.count() as commands:
            await until(lambda: len(commands) >= 20)
        assert 0 < admin.pttl(key) <= 60_000
        assert set(commands.names) == {"EVALSHA"}
        assert await works(connection)


async def test_while_redis_is_away_the_socket_stays_open(sessions: SessionKit) -> None:
    """It works on; when Redis is back, a session that was revoked meanwhile closes it."""
    with gates_to(sessions.url) as gate:
        store = gate.store(prefix=sessions.prefix)
        with world_of(store) as world:
            async with world.socket("echo") as (connection, handle):
                gate.shut()
                errors = store.stats.errors
                await until(lambda: store.stats.errors >= errors + 5)
                assert await works(connection)
                gate.open()
                assert await works(connection)
                gate.shut()
                assert sessions.revoke(handle)
                assert await works(connection)
                gate.open()
                assert await close_code(connection) == 1008
            assert world.over()[-1] == "after"


async def test_a_client_that_leaves_leaves_no_task_behind(
    world: World, sessions: SessionKit
) -> None:
    """The block ends by itself, and nobody asks for that session any more."""
    before = world.tasks()
    async with world.socket("echo") as (connection, handle):
        assert await works(connection)
        assert world.tasks() > before
    assert world.over() == ["block", "after"]
    await until(lambda: world.tasks() <= before)
    assert sessions.info(handle)


async def test_a_client_that_left_unnoticed_is_no_error(world: World, sessions: SessionKit) -> None:
    """A block that never reads ends with the session, though there is nobody left to tell."""
    async with world.socket("deaf") as (_, handle):
        pass
    assert sessions.revoke(handle)
    assert world.over() == ["after"]


async def test_a_socket_that_was_closed_by_the_app_is_not_closed_again(
    world: World, sessions: SessionKit
) -> None:
    """The client sees the app's code; the end of the session still ends the block."""
    async with world.socket("hang_up") as (connection, handle):
        await connection.send("bye")
        assert await close_code(connection) == 4000
    assert sessions.revoke(handle)
    assert world.over() == ["after"]


async def test_a_disconnect_leaves_the_block_as_itself(world: World) -> None:
    """`except WebSocketDisconnect` around the block catches what `receive_text` raises."""
    async with world.socket("receive") as (connection, _):
        assert await works(connection)
    assert world.over()[0] == "WebSocketDisconnect"
    await until(lambda: len(world.endpoints.left) == 2)
    assert world.endpoints.left == ["WebSocketDisconnect", "caught"]


async def test_a_revoked_session_is_no_error_in_a_block_that_receives(
    world: World, sessions: SessionKit
) -> None:
    """Our own close is not reported to the block as a disconnect."""
    async with world.socket("receive") as (connection, handle):
        assert sessions.revoke(handle)
        assert await close_code(connection) == 1008
    assert world.over() == ["after"]


async def test_an_error_leaves_the_block_as_itself(world: World) -> None:
    """Not in a group: handlers outside of the block know it by its type."""
    async with world.socket("failing") as (connection, _):
        await connection.send("x")
        await close_code(connection)
    assert world.over()[0] == "LookupError"
    await until(lambda: len(world.endpoints.left) == 2)
    assert world.endpoints.left == ["LookupError", "caught"]


async def test_redis_away_inside_the_block_is_left_to_the_middleware(
    sessions: SessionKit,
) -> None:
    """As without the block: the socket is closed with 1011, for the client to try again later."""

    async def save(websocket: WebSocket) -> None:
        session = await load_session(websocket)
        await websocket.accept()
        async with closing_when_revoked(websocket):
            session["text"] = await websocket.receive_text()
            await session.save()

    with gates_to(sessions.url) as gate:
        store = gate.store(prefix=sessions.prefix)
        app = Starlette(routes=[WebSocketRoute("/", save)])
        cookie = f"session={sessions.cookies({'n': 1}, cookie=PLAIN)['session']}"
        with serve(SessionMiddleware(app, store=store, cookie=PLAIN)) as url:
            address = url.replace("http", "ws")
            async with connect(address, additional_headers={"cookie": cookie}) as connection:
                gate.shut()
                await connection.send("x")
                assert await close_code(connection) == 1011
