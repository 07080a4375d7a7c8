"""Starlette: the typed session, its user as `request.user`, and sockets that end with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware as CookieSessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi_redis_session import Session, SessionMiddleware
from asgi_redis_session.starlette import SessionAuthBackend, SessionUser, load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of
from ..support.sessions import PLAIN

pytestmark = pytest.mark.on_cluster

NOTHING_LISTENS = "redis://127.0.0.1:1/0"


def described(connection: HTTPConnection) -> dict[str, Any]:
    """What Starlette's authentication says of this connection."""
    user = connection.user
    return {
        "user": user.display_name,
        "authenticated": user.is_authenticated,
        "scopes": connection.auth.scopes,
    }


async def whoami(request: Request) -> Response:
    return JSONResponse(described(request))


@requires("authenticated")
async def private(request: Request) -> Response:
    return JSONResponse(request.user.identity)


@requires("authenticated", redirect="whoami")
async def led_away(request: Request) -> Response:
    raise NotImplementedError


async def login(request: Request) -> Response:
    await (await load_session(request)).login(int(request.path_params["user"]))
    return JSONResponse(described(request))


async def logout(request: Request) -> Response:
    await (await load_session(request)).logout()
    return JSONResponse(described(request))


async def show(request: Request) -> Response:
    session = await load_session(request)
    again = await load_session(request)
    assert isinstance(session, Session)
    return JSONResponse([dict(session), session.loaded, again is session is request.session])


async def show_socket(websocket: WebSocket) -> None:
    session = await load_session(websocket)
    await websocket.accept()
    await websocket.send_json([dict(session), session.loaded])
    await websocket.close()


@requires("authenticated")
async def private_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.identity)
    await websocket.close()


ROUTES = [
    Route("/whoami", whoami, name="whoami"),
    Route("/private", private),
    Route("/led-away", led_away),
    Route("/login/{user}", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/show", show),
    WebSocketRoute("/show-socket", show_socket),
    WebSocketRoute("/private-socket", private_socket),
]


AUTHENTICATION = Middleware(AuthenticationMiddleware, backend=SessionAuthBackend())


@contextmanager
def browsing(*middleware: Middleware) -> Iterator[TestClient]:
    app = Starlette(routes=ROUTES, middleware=middleware)
    with TestClient(app, base_url="http://app", follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(sessions: SessionKit) -> Iterator[TestClient]:
    """A browser at an app with sessions and Starlette's authentication."""
    with browsing(
        Middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN), AUTHENTICATION
    ) as client:
        yield client


# --- SessionAuthBackend ---


ANONYMOUS = {"user": "", "authenticated": False, "scopes": []}


SEVEN = {"user": "7", "authenticated": True, "scopes": ["authenticated"]}


def test_nobody_is_anonymous(client: TestClient, sessions: SessionKit) -> None:
    """Without a cookie, with an unknown one, and with a session of nobody."""
    assert client.get("/whoami").json() == ANONYMOUS
    assert client.get("/private").status_code == 403
    assert client.get("/private", headers={"cookie": f"session={'A' * 43}"}).status_code == 403
    client.cookies.update(sessions.cookies({"user": "7", "user_id": 7}, cookie=PLAIN))
    assert client.get("/whoami").json() == ANONYMOUS
    assert client.get("/private").status_code == 403


def test_requires_may_lead_away(client: TestClient) -> None:
    """`redirect=` works as with every other backend."""
    response = client.get("/led-away")
    assert response.status_code == 303
    assert response.headers["location"].startswith("http://app/whoami")


def test_who_has_logged_in_is_the_requests_user(client: TestClient) -> None:
    """From the request after the login on: `request.user` was decided before the endpoint ran."""
    assert client.post("/login/7").json() == ANONYMOUS
    assert client.get("/whoami").json() == SEVEN
    assert client.get("/private").json() == "7"


def test_who_has_logged_out_is_anonymous(client: TestClient) -> None:
    """From the request after the log-out on."""
    client.post("/login/7")
    assert client.post("/logout").json() == SEVEN
    assert client.get("/whoami").json() == ANONYMOUS
    assert client.get("/private").status_code == 403


def test_who_was_revoked_is_anonymous(client: TestClient, sessions: SessionKit) -> None:
    """A session that ended elsewhere authenticates nobody."""
    client.post("/login/7")
    assert sessions.revoke(handle_of(sessions.store, client.cookies["session"]))
    assert client.get("/private").status_code == 403


def test_the_backend_asks_redis_once(client: TestClient, sessions: SessionKit) -> None:
    """What it has loaded is what the endpoint gets; without a cookie there is no question."""
    with sessions.count() as commands:
        client.get("/whoami")
        client.get("/show")
    assert commands.names == []
    client.cookies.update(sessions.cookies({"n": 1}, cookie=PLAIN))
    client.get("/show")
    with sessions.count() as commands:
        assert client.get("/show").json() == [{"n": 1}, True, True]
    assert commands.names == ["HGETALL"]


def test_sockets_have_a_user_too(client: TestClient) -> None:
    """`requires` refuses the handshake of nobody."""
    with pytest.raises(WebSocketDisconnect):
        with client.websocket_connect("ws://app/private-socket"):
            pass
    client.post("/login/7")
    with client.websocket_connect("ws://app/private-socket") as socket:
        assert socket.receive_text() == "7"


def test_while_redis_is_away_nobody_is_taken_for_anonymous() -> None:
    """503 for who sends a cookie; who sends none has no session anyway."""
    sessions = Middleware(SessionMiddleware, store=NOTHING_LISTENS, cookie=PLAIN)
    with browsing(sessions, AUTHENTICATION) as client:
        assert client.get("/whoami").json() == ANONYMOUS
        client.cookies["session"] = "A" * 43
        assert client.get("/whoami").status_code == 503


def test_a_session_user_is_what_starlette_expects() -> None:
    """All properties of `BaseUser` say the user id."""
    user = SessionUser("7")
    assert user.is_authenticated
    assert user.user_id == user.identity == user.display_name == "7"


# --- load_session ---


def test_load_session_gives_the_requests_session(client: TestClient, sessions: SessionKit) -> None:
    """Loaded, and the same object each time, in requests and WebSockets."""
    client.cookies.update(sessions.cookies({"n": 1}, cookie=PLAIN))
    assert client.get("/show").json() == [{"n": 1}, True, True]
    with client.websocket_connect("ws://app/show-socket") as socket:
        assert socket.receive_json() == [{"n": 1}, True]


@pytest.mark.parametrize(
    "middleware",
    [
        [],
        [Middleware(CookieSessionMiddleware, secret_key="x")],
        [AUTHENTICATION, Middleware(SessionMiddleware, store=NOTHING_LISTENS, cookie=PLAIN)],
    ],
    ids=["none", "Starlette's", "inside of the authentication"],
)
def test_without_our_middleware_the_error_names_the_cure(middleware: list[Middleware]) -> None:
    """The same RuntimeError without one, with somebody else's, and with ours in the wrong place."""
    with browsing(*middleware) as client, pytest.raises(RuntimeError) as raised:
        client.get("/show")
    assert "app.add_middleware(SessionMiddleware, store=...)" in str(raised.value)
