"""Litestar's plugin under a real uvicorn: middleware, lifespan, and the session as a parameter."""

import inspect
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.middleware import DefineMiddleware
from starlette.testclient import TestClient

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.litestar import SessionDep, SessionPlugin
from asgi_redis_session.testing import SessionKit

from ..support.internals import lanes_of
from ..support.serving import serve
from ..support.sessions import PLAIN


@get("/")
async def visit(session: SessionDep) -> dict[str, Any]:
    session["visits"] = session.get("visits", 0) + 1
    return {**session, "user": session.user_id}


@post("/login")
async def login(session: SessionDep) -> None:
    await session.login(7)


@post("/logout")
async def logout(session: SessionDep) -> None:
    await session.logout()


@websocket("/socket")
async def socket(socket: WebSocket[Any, Any, Any], session: SessionDep) -> None:
    await socket.accept()
    await socket.send_json(dict(session))
    await socket.close()


HANDLERS = [visit, login, logout, socket]


def test_the_plugin_gives_handlers_their_session(sessions: SessionKit) -> None:
    """Counted, logged in and logged out, over HTTP; nothing is left in Redis."""
    app = Litestar(HANDLERS, plugins=[SessionPlugin(store=sessions.store, cookie=PLAIN)])
    with serve(app) as url, httpx.Client(base_url=url) as client:
        assert [client.get("/").json()["visits"] for _ in range(2)] == [1, 2]
        before = client.cookies["session"]
        assert client.post("/login").status_code == 201
        assert client.cookies["session"] != before
        assert client.get("/").json() == {"visits": 3, "user": "7"}
        client.post("/logout")
        assert not client.cookies
    assert sessions.keys() == []


def test_the_plugin_serves_sockets(sessions: SessionKit) -> None:
    """The same parameter in a WebSocket handler."""
    app = Litestar(HANDLERS, plugins=[SessionPlugin(store=sessions.store, cookie=PLAIN)])
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    with TestClient(app, cookies=cookies) as client:  # type: ignore[arg-type]
        with client.websocket_connect("/socket") as connected:
            assert connected.receive_json() == {"n": 1}


def test_the_plugin_closes_the_store(sessions: SessionKit) -> None:
    """At the end of the lifespan no connection is left, so nothing warns about one."""
    plugin = SessionPlugin(store=sessions.url, cookie=PLAIN)
    assert isinstance(plugin.store, SessionStore)
    closed = []

    async def look() -> None:
        closed.append(list(lanes_of(plugin.store)))

    app = Litestar([visit], plugins=[plugin])
    app.on_shutdown.append(look)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    with serve(app) as url, httpx.Client(base_url=url, cookies=cookies) as client:
        assert client.get("/").status_code == 200
    assert closed == [[]]


def test_define_middleware_takes_ours(sessions: SessionKit) -> None:
    """Without the plugin, as Litestar's documentation adds a middleware."""

    @get("/")
    async def show(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return dict(await request.scope["session"].load())  # type: ignore[union-attr]

    middleware = DefineMiddleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    app = Litestar([show], middleware=[middleware])
    with serve(app) as url, httpx.Client(base_url=url, cookies=cookies) as client:
        assert client.get("/").json() == {"n": 1}


def test_the_plugin_refuses_wrong_arguments(sessions: SessionKit) -> None:
    """When it is made, in the sentence of the middleware."""
    with pytest.raises(TypeError, match=r"cookie=\.\.\.\) is a CookiePolicy"):
        SessionPlugin(store=sessions.store, cookie="sid")  # type: ignore[arg-type]


def test_the_plugin_takes_what_the_middleware_takes() -> None:
    """Each option of `SessionMiddleware` but the app, with the same default."""
    ours = inspect.signature(SessionPlugin).parameters
    for name, parameter in inspect.signature(SessionMiddleware).parameters.items():
        if name != "app":
            assert ours[name].default == parameter.default, name


def test_the_plugin_refuses_other_sites(sessions: SessionKit) -> None:
    """A form post that another site's page has sent is answered with 403, and changes nothing."""
    plugin = SessionPlugin(store=sessions.store, cookie=PLAIN, cross_origin="refuse")
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    with serve(Litestar(HANDLERS, plugins=[plugin])) as url:
        with httpx.Client(base_url=url, cookies=cookies) as client:
            answer = client.post("/login", headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.status_code == 403
            assert client.get("/").json() == {"n": 1, "user": None, "visits": 1}


def test_the_plugin_binds_sessions(sessions: SessionKit) -> None:
    """A session that is used from another browser family ends."""
    plugin = SessionPlugin(
        store=sessions.store,
        cookie=PLAIN,
        bind=lambda scope: dict(scope["headers"]).get(b"user-agent", b"").decode(),
    )
    with serve(Litestar(HANDLERS, plugins=[plugin])) as url, httpx.Client(base_url=url) as client:
        visits = [
            client.get("/", headers={"User-Agent": family}).json()["visits"]
            for family in ("Firefox", "Firefox", "Safari")
        ]
        assert visits == [1, 2, 1]
