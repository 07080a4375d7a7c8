"""`SessionMiddleware(cookie=function)`: the cookie's attributes depend on the request."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN

pytestmark = pytest.mark.on_cluster

OVER_HTTPS = CookiePolicy()
TENANTS = {
    host: CookiePolicy(name="__Secure-session", domain=host)
    for host in ("shop.example.com", "shop.example.org")
}
SECRET = "a secret, long enough"


def _host(scope: Any) -> str:
    return str(dict(scope["headers"])[b"host"], "latin-1")


def by_tenant(scope: Any) -> CookiePolicy:
    return TENANTS[_host(scope)]


def by_scheme(scope: Any) -> CookiePolicy:
    return OVER_HTTPS if scope["scheme"] in ("https", "wss") else PLAIN


async def _visit(request: Request) -> JSONResponse:
    session: Any = request.session
    session["n"] = session.get("n", 0) + 1
    return JSONResponse(session["n"])


async def _leave(request: Request) -> JSONResponse:
    await request.scope["session"].logout()
    return JSONResponse(None)


async def _socket(websocket: WebSocket) -> None:
    websocket.session["n"] = 1
    await websocket.accept()
    await websocket.close()


ROUTES = [
    Route("/", _visit, methods=["GET", "POST"]),
    Route("/leave", _leave),
    WebSocketRoute("/socket", _socket),
]


def _app(store: SessionStore, cookie: Any, **options: Any) -> Any:
    options = {"store": store, "cookie": cookie, "autoload": True, **options}
    return SessionMiddleware(Starlette(routes=ROUTES), **options)


def _client(app: Any, url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url)


async def test_each_tenant_has_its_domain(store: SessionStore) -> None:
    """Set, read and forgotten under the policy of the request's host."""
    app = _app(store, by_tenant)
    for host in TENANTS:
        async with _client(app, f"https://{host}") as client:
            first = await client.get("/")
            assert f"Domain={host};" in first.headers["set-cookie"]
            assert (await client.get("/")).json() == 2
            left = await client.get("/leave")
            assert f"Domain={host};" in left.headers["set-cookie"]
            assert "Max-Age=0" in left.headers["set-cookie"]
            assert (await client.get("/")).json() == 1


async def test_secure_follows_the_scheme(store: SessionStore) -> None:
    """One app for development and production; each scheme has a cookie of its own."""
    app = _app(store, by_scheme)
    async with _client(app, "http://app") as client:
        assert "Secure" not in (await client.get("/")).headers["set-cookie"]
        assert (await client.get("/")).json() == 2
    async with _client(app, "https://app") as client:
        cookie = (await client.get("/")).headers["set-cookie"]
        assert cookie.startswith("__Host-session=")
        assert "Secure" in cookie
        assert (await client.get("/")).json() == 2


def test_sockets_get_the_cookie_of_their_scope(store: SessionStore) -> None:
    """With the message that accepts them."""
    with TestClient(_app(store, by_scheme)) as client:
        for scheme, start in (("ws", "session="), ("wss", "__Host-session=")):
            with client.websocket_connect(f"{scheme}://app/socket") as socket:
                headers: dict[bytes, bytes] = dict(socket.extra_headers or ())
            assert headers[b"set-cookie"].startswith(start.encode())


async def test_the_cross_origin_guard_knows_the_cookie(store: SessionStore) -> None:
    """The cookie of the request's own policy is what counts."""
    app = _app(store, by_scheme, cross_origin="refuse")
    for url, status in (("http://app", 403), ("https://app", 200)):
        async with _client(app, url) as client:
            headers = {"cookie": f"session={'i' * 43}", "sec-fetch-site": "cross-site"}
            assert (await client.post("/", headers=headers)).status_code == status


def test_two_middlewares_with_functions(sessions: SessionKit) -> None:
    """They share a session if their cookies are equal for the request."""

    def inner(cookie: Any) -> Starlette:
        options: Any = {"store": sessions.store, "autoload": True}
        admin = Starlette(
            routes=ROUTES, middleware=[Middleware(SessionMiddleware, cookie=cookie, **options)]
        )
        outer = Middleware(SessionMiddleware, cookie=by_scheme, **options)
        return Starlette(routes=[*ROUTES, Mount("/admin", admin)], middleware=[outer])

    for cookie, expected in (
        (by_scheme, [1, 2]),
        (PLAIN, [1, 2]),
        (lambda scope: CookiePolicy(name="session", secure=False), [1, 2]),
        (lambda scope: CookiePolicy(name="other", secure=False), [1, 1]),
    ):
        with TestClient(inner(cookie)) as client:
            assert [client.get(path).json() for path in ("/", "/admin/")] == expected
    with TestClient(
        inner(lambda scope: CookiePolicy(name="session", secure=False, path="/admin"))
    ) as client:
        with pytest.raises(RuntimeError, match="different policies for the cookie 'session'"):
            client.get("/admin/")


@pytest.mark.parametrize("returned", [None, "session", CookiePolicy])
async def test_a_function_that_returns_no_policy(store: SessionStore, returned: Any) -> None:
    """The request fails with a sentence, before anything is read or written."""
    async with _client(_app(store, lambda scope: returned), "http://app") as client:
        with pytest.raises(TypeError, match=r"cookie=\.\.\.\) returned .*: return a CookiePolicy"):
            await client.get("/")


async def _async(scope: Any) -> CookiePolicy:
    return PLAIN


def test_an_async_function_is_refused(store: SessionStore) -> None:
    """When the middleware is made: the cookie is needed before anything can be awaited."""
    with pytest.raises(TypeError, match="a plain function of the scope"):
        _app(store, _async)
    for option in ("domain", "https_only"):
        options: dict[str, Any] = {option: _async}
        with pytest.raises(
            TypeError, match=rf"SessionMiddleware\({option}\) takes a plain function"
        ):
            DropIn(Starlette(), SECRET, store=store, **options)


async def test_the_drop_ins_domain_and_scheme(store: SessionStore) -> None:
    """`domain=` and `https_only=` may be functions; the cookie is Starlette's else."""
    app = DropIn(
        Starlette(routes=ROUTES),
        SECRET,
        store=store,
        domain=lambda scope: _host(scope).removeprefix("www."),
        https_only=lambda scope: scope["scheme"] == "https",
    )
    for url, end in (
        ("http://www.example.com", "; domain=example.com"),
        ("https://www.example.org", "; secure; domain=example.org"),
        ("https://shop.example.com", "; secure; domain=shop.example.com"),
    ):
        async with _client(app, url) as client:
            cookie = (await client.get("/")).headers["set-cookie"]
            assert cookie.endswith(f"; path=/; httponly; samesite=lax{end}")
            assert (await client.get("/")).json() == 2


@pytest.mark.parametrize(
    ("option", "function"),
    [
        ("https_only", lambda scope: "yes"),
        ("domain", lambda scope: ["example.com"]),
        ("domain", lambda scope: "localhost"),
    ],
)
async def test_what_the_drop_ins_functions_may_not_return(
    store: SessionStore, option: str, function: Callable[[Any], Any]
) -> None:
    """One sentence that names the option."""
    options: dict[str, Any] = {option: function}
    app = DropIn(Starlette(routes=ROUTES), SECRET, store=store, **options)
    async with _client(app, "http://app") as client:
        with pytest.raises((TypeError, ValueError), match=option):
            await client.get("/")
