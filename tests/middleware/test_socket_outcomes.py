"""The WebSocket rows of docs/outcomes.md, with the middleware in both places."""

import asyncio

import anyio
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asgi_redis_session import SessionGone
from asgi_redis_session.starlette import load_session

from ..support.serving import PATIENCE
from ..support.sessions import PLAIN
from .conftest import SocketEndpoint, World

pytestmark = pytest.mark.on_cluster


class Socket:
    """A client's end of a WebSocket to an app of one endpoint."""

    def __init__(self, url: str, cookies: dict[str, str]) -> None:
        headers = {"cookie": f"session={cookies['session']}"} if cookies else {}
        opening = connect(
            url.replace("http", "ws"), additional_headers=headers, open_timeout=PATIENCE
        )
        self.connection: ClientConnection = opening.__enter__()

    def cookie(self) -> str | None:
        response = self.connection.response
        assert response is not None
        return response.headers.get("set-cookie")

    def close_code(self) -> int:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                self.connection.recv(timeout=PATIENCE)
        return 1006 if closed.value.rcvd is None else closed.value.rcvd.code


def refused(world: World, endpoint: SocketEndpoint) -> int:
    """The HTTP status that a refused handshake gets."""
    with world.serving(WebSocketRoute("/", endpoint)) as url:
        with pytest.raises(InvalidStatus) as refusal:
            Socket(url, world.cookies)
    response = refusal.value.response
    assert "set-cookie" not in response.headers
    return response.status_code


def test_socket_changed_before_accept(world: World) -> None:
    """Committed before the accept goes out, with the cookie of a new session on it."""

    async def endpoint(socket: WebSocket) -> None:
        (await load_session(socket))["n"] = 2
        await socket.accept()
        await socket.close(1000)

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        socket = Socket(url, {})
        cookie = socket.cookie()
        assert socket.close_code() == 1000
    assert cookie is not None
    value = cookie.partition(";")[0].partition("=")[2]
    assert world.kit.read({"session": value}, cookie=PLAIN) == {"n": 2}


def test_socket_new_session_after_accept(world: World) -> None:
    """The browser can't be given an id any more: SessionTooLate at the write."""

    async def endpoint(socket: WebSocket) -> None:
        session = await load_session(socket)
        await socket.accept()
        try:
            session["n"] = 2
        except RuntimeError as error:
            await socket.send_text(type(error).__name__)
        await socket.close()

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, {}).connection.recv(timeout=PATIENCE) == "SessionTooLate"
    assert len(world.kit.keys()) == 1


def test_socket_save(world: World) -> None:
    """`save()` writes at once, as often as it is called, and extends the TTL."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        session = await load_session(socket)
        for number in (2, 3):
            session["n"] = number
            await session.save()
            await socket.send_json(await asyncio.to_thread(world.fields))
        await socket.close(1000)

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        socket = Socket(url, world.cookies)
        assert [socket.connection.recv(timeout=PATIENCE) for _ in range(2)] == [
            '{"n":2}',
            '{"n":3}',
        ]


@pytest.mark.parametrize("ends", ["close", "return", "client", "client, uncaught"])
def test_socket_changed_after_accept(world: World, ends: str) -> None:
    """Committed at the end, whoever ends it."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        (await load_session(socket))["n"] = 2
        if ends == "close":
            await socket.close(1000)
        elif ends == "client":
            await socket.send_text("your turn")
            await socket.receive()
        elif ends == "client, uncaught":
            await socket.send_text("your turn")
            while True:
                await socket.receive_text()  # raises WebSocketDisconnect

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        socket = Socket(url, world.cookies)
        if ends.startswith("client"):
            socket.connection.recv(timeout=PATIENCE)
            socket.connection.close()
        else:
            socket.close_code()
            assert world.fields() == {"n": 2}  # before the close was sent
    assert world.fields() == {"n": 2}


def test_socket_session_gone_at_save(world: World) -> None:
    """An explicit `save()` raises SessionGone; nothing comes back."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        session = await load_session(socket)
        await asyncio.to_thread(world.kit.revoke, session.handle or "")
        session["n"] = 2
        try:
            await session.save()
        except SessionGone:
            await socket.send_text("gone")
        await socket.close()

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, world.cookies).connection.recv(timeout=PATIENCE) == "gone"
    assert world.kit.keys() == []


def test_socket_session_gone_at_close(world: World) -> None:
    """Closes with the app's code; a `gone` event tells."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        session = await load_session(socket)
        await asyncio.to_thread(world.kit.revoke, session.handle or "")
        session["n"] = 2
        await socket.close(3001)

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, world.cookies).close_code() == 3001
    assert world.events == ["gone"]
    assert world.kit.keys() == []


@pytest.mark.parametrize("how", ["close", "response", "raise"])
def test_socket_denied(world: World, how: str) -> None:
    """A handshake that is denied creates and changes nothing."""

    async def endpoint(socket: WebSocket) -> None:
        (await load_session(socket))["n"] = 2
        if how == "close":
            await socket.close(4403)
        elif how == "response":
            await socket.send_denial_response(PlainTextResponse("no", 403))
        else:
            raise ValueError("a bug")

    assert refused(world, endpoint) == (500 if how == "raise" else 403)
    assert world.fields() == {"n": 1}
    assert len(world.kit.keys()) == 1


@pytest.mark.parametrize("in_a_group", [False, True])
def test_socket_unavailable_before_accept(world: World, in_a_group: bool) -> None:
    """Redis away before the accept: close 1013, which refuses the handshake."""

    async def endpoint(socket: WebSocket) -> None:
        if in_a_group:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(load_session, socket)
        await load_session(socket)
        await socket.accept()

    world.gate.shut()
    assert refused(world, endpoint) == 403
    assert world.fields() == {"n": 1}


def test_socket_unavailable_after_accept(world: World) -> None:
    """Redis away after the accept, and nobody catches it: close 1011."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await asyncio.to_thread(world.gate.shut)
        await load_session(socket)

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, world.cookies).close_code() == 1011


def test_socket_commit_fails_at_accept(world: World) -> None:
    """The handshake is refused instead of accepted."""

    async def endpoint(socket: WebSocket) -> None:
        (await load_session(socket))["n"] = 2
        await asyncio.to_thread(world.gate.shut)
        await socket.accept()

    assert refused(world, endpoint) == 403
    assert world.fields() == {"n": 1}


def test_socket_commit_fails_at_close(world: World) -> None:
    """1011 instead of the code that would have said that all is well."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        (await load_session(socket))["n"] = 2
        await asyncio.to_thread(world.gate.shut)
        await socket.close(1000)

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, world.cookies).close_code() == 1011
    assert world.fields() == {"n": 1}


def test_socket_app_raises(world: World) -> None:
    """The server ends the connection in its own way; staged changes are dropped."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        (await load_session(socket))["n"] = 2
        raise ValueError("a bug")

    with world.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, world.cookies).close_code() in (1006, 1011)
    assert world.fields() == {"n": 1}
