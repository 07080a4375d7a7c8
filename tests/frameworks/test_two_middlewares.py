"""Two session middlewares around one app: one of ours twice, or ours and another one."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.testing import SessionKit

from ..support.internals import forget_warnings
from ..support.sessions import PLAIN

ADMIN = CookiePolicy(name="admin", secure=False)


def show(request: Request) -> Response:
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(dict(request.session))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(dict(websocket.session))
    await websocket.close()


def with_admin(outer: Middleware, inner: Middleware) -> Starlette:
    """An app in which another one, with a middleware of its own, is mounted."""
    routes = [Route("/", show), WebSocketRoute("/socket", socket)]
    admin = Starlette(routes=routes, middleware=[inner])
    return Starlette(routes=[*routes, Mount("/admin", admin)], middleware=[outer])


@pytest.mark.parametrize("is_autoloaded", [False, True])
def test_an_inner_one_with_another_store_is_refused(
    sessions: SessionKit, is_autoloaded: bool
) -> None:
    """Its app would see the outer one's session, so the sentence says what to do instead."""
    app = with_admin(
        Middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN, autoload=is_autoloaded),
        Middleware(SessionMiddleware, store=sessions.url, cookie=ADMIN, autoload=True),
    )
    with TestClient(app) as client:
        sentence = "different stores.* Remove the inner one"
        with pytest.raises(RuntimeError, match=sentence):
            client.get("/admin/")
        with pytest.raises(RuntimeError, match=sentence):
            with client.websocket_connect("/admin/socket"):
                pass
    assert sessions.keys() == []


def test_different_cookies_of_one_name_are_refused(sessions: SessionKit) -> None:
    """Each would undo the other's; so it is with ours and the drop-in, either way round."""
    drop_in = Middleware(DropIn, secret_key="a secret, long enough", store=sessions.store)
    ours = Middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    for app in (with_admin(drop_in, ours), with_admin(ours, drop_in)):
        with TestClient(app) as client:
            with pytest.raises(RuntimeError, match="different policies for the cookie 'session'"):
                client.get("/admin/")


def test_an_inner_one_with_another_cookie_has_sessions_of_its_own(sessions: SessionKit) -> None:
    """Two cookies, two sessions, in one store."""
    app = with_admin(
        Middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN, autoload=True),
        Middleware(SessionMiddleware, store=sessions.store, cookie=ADMIN, autoload=True),
    )
    with TestClient(app) as client:
        assert [client.get("/admin/").json()["n"] for _ in "123"] == [1, 2, 3]
        assert [client.get("/").json()["n"] for _ in "12"] == [1, 2]
        with client.websocket_connect("/admin/socket") as connected:
            assert connected.receive_json() == {"n": 3}
        cookies = dict(client.cookies)
    assert sessions.read(cookies, cookie=ADMIN) == {"n": 3}
    assert sessions.read(cookies, cookie=PLAIN) == {"n": 2}


def test_an_inner_one_may_load_the_session(sessions: SessionKit) -> None:
    """The same store and cookie: one session, and the mounted app finds it loaded, as it asked."""
    options: dict[str, Any] = {"store": sessions.store, "cookie": PLAIN}
    app = with_admin(
        Middleware(SessionMiddleware, **options),
        Middleware(SessionMiddleware, **options, autoload=lambda scope: True),
    )
    with TestClient(app) as client:
        assert [client.get("/admin/").json()["n"] for _ in "12"] == [1, 2]
        with client.websocket_connect("/admin/socket") as connected:
            assert connected.receive_json() == {"n": 2}
    assert len(sessions.keys()) == 1


def test_another_libraries_outside_is_left_alone(
    sessions: SessionKit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cookie gets nothing of ours, not even where ours is a dict; one warning names both."""
    forget_warnings(monkeypatch)
    theirs = Middleware(StarlettesMiddleware, secret_key="x" * 16, session_cookie="theirs")
    for ours in (
        Middleware(SessionMiddleware, store=sessions.store, cookie=ADMIN, autoload=True),
        Middleware(DropIn, "x" * 16, "drop_in", store=sessions.store),
    ):
        with TestClient(with_admin(theirs, ours)) as client:
            assert [client.get("/admin/").json()["n"] for _ in "123"] == [1, 2, 3]
            assert "theirs" not in client.cookies
            assert [client.get("/").json()["n"] for _ in "12"] == [1, 2]
            assert [client.get("/admin/").json()["n"] for _ in "1"] == [4]
    (warning,) = [r.getMessage() for r in caplog.records if "session middleware" in r.msg]
    assert "outside of the one of asgi_redis_session" in warning
    assert "starlette.middleware.sessions.Session" in warning
