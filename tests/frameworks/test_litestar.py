"""Litestar: the middleware wraps any ASGI app, whatever wrote it."""

from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get, post
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as OtherMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from asgi_redis_session import SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..support.internals import forget_warnings
from ..support.serving import serve
from ..support.sessions import PLAIN


@get("/")
async def visit(request: Request[Any, Any, Any]) -> dict[str, int]:
    session = await request.scope["session"].load()  # type: ignore[union-attr]
    session["visits"] = session.get("visits", 0) + 1
    return dict(session)


def test_litestar_apps_have_sessions(sessions: SessionKit) -> None:
    """Counted over three requests through a real uvicorn, and stored as a hash."""
    app = SessionMiddleware(Litestar([visit]), store=sessions.store, cookie=PLAIN)
    with serve(app) as url, httpx.Client(base_url=url) as client:
        assert [client.get("/").json()["visits"] for _ in range(3)] == [1, 2, 3]
        cookies = dict(client.cookies)
    assert sessions.read(cookies, cookie=PLAIN) == {"visits": 3}


@post("/set")
async def set_session(request: Request[Any, Any, Any]) -> None:
    request.set_session({"user": "ada"})


@post("/clear")
async def clear_session(request: Request[Any, Any, Any]) -> None:
    request.clear_session()


@pytest.mark.parametrize("autoload", [False, True])
def test_litestars_own_verbs_work(sessions: SessionKit, *, autoload: bool) -> None:
    """`set_session()` replaces the data, `clear_session()` ends the session."""
    app = SessionMiddleware(
        Litestar([visit, set_session, clear_session]),
        store=sessions.store,
        cookie=PLAIN,
        autoload=autoload,
    )
    with serve(app) as url, httpx.Client(base_url=url) as client:
        client.get("/")
        cookies = dict(client.cookies)
        client.post("/set")
        assert sessions.read(cookies, cookie=PLAIN) == {"user": "ada"}
        client.post("/clear")
        assert sessions.keys() == []
        assert not client.cookies
        client.post("/set")
        assert sessions.read(dict(client.cookies), cookie=PLAIN) == {"user": "ada"}


def test_a_mounted_apps_own_session_is_left_alone(
    sessions: SessionKit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps its data under its own cookie; one warning names both."""
    forget_warnings(monkeypatch)

    def page(request: StarletteRequest) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    admin = Starlette(
        routes=[Route("/", page)],
        middleware=[Middleware(OtherMiddleware, secret_key="x" * 16, session_cookie="admin")],
    )
    app = Starlette(routes=[Route("/", page), Mount("/admin", admin)])
    wrapped = SessionMiddleware(app, store=sessions.store, cookie=PLAIN, autoload=True)
    with TestClient(wrapped) as client:
        assert [client.get("/admin/").text for _ in "123"] == ["1", "2", "3"]
        assert [client.get("/").text for _ in "12"] == ["1", "2"]
        assert [client.get("/admin/").text for _ in "1"] == ["4"]
    warnings = [r.getMessage() for r in caplog.records if "Another session middleware" in r.msg]
    assert len(warnings) == 1
    assert "starlette.middleware.sessions.Session" in warnings[0]
