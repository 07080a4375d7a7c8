"""An app of Starlette's own sessions: how it may be built."""

from typing import Any

import pytest
import redis
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from fastapi.testclient import TestClient as FastAPITestClient
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.keyspace import session_keys
from ..support.sessions import PLAIN
from .conftest import ROUTES, browser, set_cookies

pytestmark = pytest.mark.on_cluster

# --- How apps are built ---


class Counter(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return JSONResponse(request.session["n"])


def test_class_based_endpoints(store: SessionStore) -> None:
    """An `HTTPEndpoint` uses the session like a function."""
    with browser(Starlette(routes=[Route("/", Counter)]), store) as client:
        assert [client.get("/").json() for _ in range(3)] == [1, 2, 3]


def test_sync_endpoints_run_in_a_thread(store: SessionStore) -> None:
    """A plain `def` endpoint, which Starlette runs in a thread, reads and writes the session."""

    def act(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        request.session.setdefault("list", []).append(request.session["n"])
        return JSONResponse(dict(request.session))

    with browser(Starlette(routes=[Route("/", act)]), store) as client:
        client.get("/")
        assert client.get("/").json() == {"n": 2, "list": [1, 2]}


def test_mounted_apps_share_the_session(store: SessionStore) -> None:
    """`request.session` is the same in the app, in mounted apps, and in apps mounted there."""
    inner = Starlette(routes=ROUTES)
    middle = Starlette(routes=[*ROUTES, Mount("/inner", inner)])
    app = Starlette(routes=[*ROUTES, Mount("/middle", middle)])
    with browser(app, store) as client:
        client.post("/middle/inner/update", json={"inner": 1})
        client.post("/middle/update", json={"middle": 2})
        client.post("/update", json={"outer": 3})
        for path in ("/view", "/middle/view", "/middle/inner/view"):
            assert client.get(path).json() == {"session": {"inner": 1, "middle": 2, "outer": 3}}


@pytest.mark.parametrize("path", ["/update", "/sub/update"])
def test_installed_twice_it_works_once(
    store: SessionStore, sessions: SessionKit, path: str
) -> None:
    """Twice around an app, or again in a mounted one: one load, one commit, one Set-Cookie."""
    options: dict[str, Any] = {"store": store, "autoload": True, "cookie": PLAIN}
    sub = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, **options)])
    app = Starlette(
        routes=[*ROUTES, Mount("/sub", sub)],
        middleware=[Middleware(SessionMiddleware, **options)] * 2,
    )
    with browser(app, store) as client:
        client.post("/update", json={"warm": "up"})
        client.get("/view")
        client.cookies.clear()
        with sessions.count() as commands:
            response = client.post(path, json={"a": 1})
        assert len(set_cookies(response)) == 1
        assert response.headers.get_list("vary") == ["Cookie"]
        assert commands.names == ["EVALSHA"]
        with sessions.count() as commands:
            assert set_cookies(client.post(path, json={"a": 2})) == []
        assert commands.scripts == ["load", "commit"]
        assert client.get("/view").json() == {"session": {"a": 2}}


def test_base_http_middleware_in_between(store: SessionStore) -> None:
    """BaseHTTPMiddleware, inside or outside of ours, reads and writes the same session."""

    class Visits(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            request.session["visits"] = request.session.get("visits", 0) + 1
            response = await call_next(request)
            response.headers["X-User"] = str(request.session.get("user"))
            return response

    class Outside(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(Outside),
            Middleware(SessionMiddleware, store=store, autoload=True, cookie=PLAIN),
            Middleware(GZipMiddleware, minimum_size=1),
            Middleware(Visits),
        ],
    )
    with TestClient(app) as client:
        response = client.post("/update", json={"user": "ada"})
        assert response.headers["x-user"] == "ada"
        assert len(set_cookies(response)) == 1
        assert client.get("/view").json() == {"session": {"visits": 2, "user": "ada"}}
        assert client.get("/untouched").text == "untouched"
        assert client.get("/view").json()["session"]["visits"] == 4


def test_add_middleware_works_as_wrapping_does(store: SessionStore) -> None:
    """`app.add_middleware(SessionMiddleware, …)`, as Starlette's documentation installs its own."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(SessionMiddleware, store=store, autoload=True, cookie=PLAIN)
    with TestClient(app) as client:
        client.post("/update", json={"some": "data"})
        assert client.get("/view").json() == {"session": {"some": "data"}}


def test_a_url_is_enough_for_a_store(session_redis_url: str, admin: redis.Redis) -> None:
    """`store="redis://…"` makes a store with all defaults and closes it at shutdown."""
    others = session_keys(admin, "session")  # of tests that use the default prefix, too
    app = SessionMiddleware(
        Starlette(routes=ROUTES), store=session_redis_url, autoload=True, cookie=PLAIN
    )
    with TestClient(app) as client:
        client.post("/update", json={"some": "data"})
        assert client.get("/view").json() == {"session": {"some": "data"}}
        client.post("/clear")
    assert sorted(session_keys(admin, "session")) == sorted(others)


# --- WebSockets ---


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({"session": dict(websocket.session)})
    await websocket.close()


async def socket_that_writes(websocket: WebSocket) -> None:
    websocket.session["socket"] = websocket.session.get("socket", 0) + 1
    await websocket.accept()
    websocket.session["later"] = True
    await websocket.send_json({"session": dict(websocket.session)})
    await websocket.close()


SOCKETS: list[BaseRoute] = [
    WebSocketRoute("/socket", socket),
    WebSocketRoute("/writes", socket_that_writes),
]


def test_a_websocket_reads_the_session(store: SessionStore) -> None:
    """`websocket.session` holds what requests wrote; without a cookie it is empty."""
    with browser(Starlette(routes=[*ROUTES, *SOCKETS]), store) as client:
        with client.websocket_connect("/socket") as websocket:
            assert websocket.receive_json() == {"session": {}}
        client.post("/update", json={"some": "data"})
        with client.websocket_connect("/socket") as websocket:
            assert websocket.receive_json() == {"session": {"some": "data"}}


def test_a_websocket_writes_the_session(store: SessionStore) -> None:
    """What a socket writes, before and after it was accepted, is there in later requests."""
    with browser(Starlette(routes=[*ROUTES, *SOCKETS]), store) as client:
        client.post("/update", json={"some": "data"})
        with client.websocket_connect("/writes") as websocket:
            websocket.receive_json()
        expected = {"some": "data", "socket": 1, "later": True}
        assert client.get("/view").json() == {"session": expected}


def test_a_websocket_can_start_a_session(store: SessionStore, sessions: SessionKit) -> None:
    """A session that is written before `accept` gives its cookie with the handshake."""
    with browser(Starlette(routes=[*ROUTES, *SOCKETS]), store) as client:
        with client.websocket_connect("/writes") as websocket:
            headers: dict[bytes, bytes] = dict(websocket.extra_headers or [])
            websocket.receive_json()
        value = headers[b"set-cookie"].partition(b"=")[2].partition(b";")[0].decode()
        assert sessions.read({"session": value}, cookie=PLAIN) == {"socket": 1, "later": True}


# --- FastAPI ---


def current_user(request: FastAPIRequest) -> str:
    user = request.session.get("user")
    if not isinstance(user, str):
        raise HTTPException(401, "log in first")
    return user


def fastapi_app(store: SessionStore) -> FastAPI:
    router = APIRouter(prefix="/api")

    @router.get("/session")
    async def session_of(request: FastAPIRequest) -> dict[str, Any]:
        return dict(request.session)

    @router.get("/sync")
    def sync(request: FastAPIRequest) -> dict[str, Any]:
        return dict(request.session)

    @router.post("/login/{user}", status_code=201)
    async def login(request: FastAPIRequest, user: str) -> dict[str, str]:
        request.session["user"] = user
        return {"user": user}

    @router.get("/me")
    async def me(user: str = Depends(current_user)) -> str:  # noqa: FAST002  (the older way)
        return user

    @router.get("/strict")
    async def strict(request: FastAPIRequest, n: int) -> int:
        request.session["n"] = n
        return n

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(SessionMiddleware, store=store, autoload=True, cookie=PLAIN)
    return app


def test_fastapi_returns_the_session_as_a_dict(store: SessionStore) -> None:
    """Endpoints, `async def` and `def`, return `dict(request.session)` as JSON."""
    with FastAPITestClient(fastapi_app(store)) as client:
        assert client.get("/api/session").json() == {}
        assert client.post("/api/login/ada").status_code == 201
        assert client.get("/api/session").json() == {"user": "ada"}
        assert client.get("/api/sync").json() == {"user": "ada"}


def test_fastapi_dependencies_use_the_session(store: SessionStore) -> None:
    """A dependency reads `request.session`; its 401 sets no cookie."""
    with FastAPITestClient(fastapi_app(store)) as client:
        response = client.get("/api/me")
        assert response.status_code == 401
        assert set_cookies(response) == []
        client.post("/api/login/ada")
        assert client.get("/api/me").json() == "ada"


def test_fastapi_validation_errors_touch_nothing(store: SessionStore, sessions: SessionKit) -> None:
    """A 422 comes before the endpoint runs, so there is no session and no `Vary`."""
    with FastAPITestClient(fastapi_app(store)) as client:
        response = client.get("/api/strict?n=x")
        assert response.status_code == 422
        assert set_cookies(response) == []
        assert "vary" not in response.headers
    assert sessions.keys() == []
