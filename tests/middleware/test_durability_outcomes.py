"""The rows of docs/outcomes.md about durability, with the middleware in both places."""

import httpx
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import Durability, DurabilityNotReached
from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN
from .conftest import World
from .test_socket_outcomes import Socket, refused

pytestmark = pytest.mark.on_cluster

#: No server of the tests has so many replicas.
UNREACHABLE = Durability(replicas=9, timeout=0.01)


@pytest.fixture
def lossy(world: World) -> World:
    """A world in which no write is as durable as asked."""
    world.durability = UNREACHABLE
    return world


def assert_503_after_the_write(world: World, response: httpx.Response) -> None:
    """The middleware's own, and nothing reaches the server."""
    assert (response.status_code, response.text[:8]) == (503, "Sessions")
    assert int(response.headers["retry-after"]) >= 1
    assert world.raised == []


def test_a_commit_that_may_be_lost(lossy: World) -> None:
    """503 instead of the app's answer; the change is written, and the browser keeps its cookie."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = 2
        return PlainTextResponse("never")

    response = lossy.get(endpoint)
    assert_503_after_the_write(lossy, response)
    assert "set-cookie" not in response.headers
    assert lossy.fields() == {"n": 2}


@pytest.mark.parametrize("verb", ["create", "renew", "login"])
def test_a_commit_that_may_be_lost_has_its_cookie(lossy: World, verb: str) -> None:
    """The 503 carries a new id, and all of the commit is under it."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        if verb == "renew":
            session.renew()
        elif verb == "login":
            await session.login("ann")
        session["n"] = 2
        return PlainTextResponse("never")

    response = lossy.get(endpoint, new=verb == "create")
    assert_503_after_the_write(lossy, response)
    assert response.cookies["session"] != lossy.cookies["session"]
    assert lossy.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": 2}
    assert lossy.fields() == ({"n": 1} if verb == "create" else {})


@pytest.mark.parametrize("then", ["rises", "is answered"])
def test_a_save_that_may_be_lost(world: World, then: str) -> None:
    """503 if the app lets the error rise, else the app's own answer: both with the cookie."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        try:
            await session.save(durability=UNREACHABLE)
        except DurabilityNotReached:
            if then == "rises":
                raise
        return PlainTextResponse("the app's", 500)

    response = world.get(endpoint, new=True)
    if then == "rises":
        assert_503_after_the_write(world, response)
    assert response.status_code == (503 if then == "rises" else 500)
    assert world.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": 2}


@pytest.mark.parametrize("then", ["rises", "is answered"])
def test_a_logout_that_may_be_lost(lossy: World, then: str) -> None:
    """503 or the app's own answer, and the cookie is taken away; the session has ended."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        try:
            await session.logout()
        except DurabilityNotReached:
            if then == "rises":
                raise
        return PlainTextResponse("the app's", 502)

    response = lossy.get(endpoint)
    if then == "rises":
        assert_503_after_the_write(lossy, response)
    assert response.status_code == (503 if then == "rises" else 502)
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert lossy.kit.keys() == []


def test_a_late_commit_that_may_be_lost(lossy: World, caplog: pytest.LogCaptureFixture) -> None:
    """The app's answer and the change are kept; it is logged."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def later() -> None:
            session["late"] = True

        return PlainTextResponse("ok", background=BackgroundTask(later))

    response = lossy.get(endpoint)
    assert (response.status_code, response.text) == (200, "ok")
    assert "set-cookie" not in response.headers
    assert "may still be lost" in caplog.text
    assert lossy.fields() == {"n": 1, "late": True}


@pytest.mark.parametrize("new", [False, True])
def test_socket_accept_that_may_be_lost(lossy: World, new: bool) -> None:
    """The handshake is refused without a cookie; the commit is written."""

    async def endpoint(socket: WebSocket) -> None:
        (await load_session(socket))["n"] = 2
        await socket.accept()

    if new:
        lossy.cookies = {}
    assert refused(lossy, endpoint) == 403
    if new:
        assert len(lossy.kit.keys()) == 2  # it expires: nobody holds its id
    else:
        assert lossy.fields() == {"n": 2}


@pytest.mark.parametrize("at", ["close", "save"])
def test_socket_close_that_may_be_lost(lossy: World, at: str) -> None:
    """1011 at the app's close, and where it lets the error of a `save()` rise."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        session = await load_session(socket)
        session["n"] = 2
        if at == "save":
            await session.save()
        await socket.close(1000)

    with lossy.serving(WebSocketRoute("/", endpoint)) as url:
        assert Socket(url, lossy.cookies).close_code() == 1011
    assert lossy.fields() == {"n": 2}
