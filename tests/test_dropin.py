"""
Apps that were written for Starlette's own SessionMiddleware work unchanged with `autoload=True`.

Where ours differs on purpose, a test says so.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from fastapi.testclient import TestClient as FastAPITestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from asgi_redis_session import CookiePolicy, Lifetime, SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from .conftest import PLAIN

UNKNOWN = "A" * 43


def view(request: Request) -> Response:
    return JSONResponse({"session": dict(request.session)})


async def update(request: Request) -> Response:
    request.session.update(await request.json())
    return JSONResponse({"session": dict(request.session)})


async def clear(request: Request) -> Response:
    request.session.clear()
    return JSONResponse({"session": dict(request.session)})


def untouched(request: Request) -> Response:
    return PlainTextResponse("untouched")


ROUTES: list[BaseRoute] = [
    Route("/view", view),
    Route("/update", update, methods=["POST"]),
    Route("/clear", clear, methods=["POST"]),
    Route("/untouched", untouched),
]


@contextmanager
def browser(
    app: ASGIApp,
    store: SessionStore,
    cookie: CookiePolicy = PLAIN,
    base_url: str = "http://testserver",
    **options: Any,
) -> Iterator[TestClient]:
    wrapped = SessionMiddleware(app, store=store, autoload=True, cookie=cookie)
    with TestClient(wrapped, base_url=base_url, **options) as client:
        yield client


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    """The store of the test's kit, so that `sessions` shows what it wrote."""
    return sessions.store


@pytest.fixture
def client(store: SessionStore) -> Iterator[TestClient]:
    with browser(Starlette(routes=ROUTES), store) as client:
        yield client


def set_cookies(response: httpx.Response) -> list[str]:
    return response.headers.get_list("set-cookie")


# --- The life of a session ---


def test_a_session_is_empty_at_first(client: TestClient) -> None:
    """A first request finds an empty session, and reading it sets no cookie."""
    response = client.get("/view")
    assert response.json() == {"session": {}}
    assert set_cookies(response) == []


def test_an_update_is_seen_at_once_and_later(client: TestClient) -> None:
    """What a request writes is in its own session, and in that of the next."""
    response = client.post("/update", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    assert client.get("/view").json() == {"session": {"some": "data"}}


def test_the_cookie_lives_as_long_as_the_session(client: TestClient) -> None:
    """Max-Age is the time until the session's deadline: a week by default."""
    (written,) = set_cookies(client.post("/update", json={"some": "data"}))
    assert re.fullmatch(
        r"session=[A-Za-z0-9_-]{43}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax", written
    )


def test_clear_ends_the_session_and_removes_the_cookie(
    client: TestClient, sessions: SessionKit
) -> None:
    """After `clear()`, the browser has no cookie, Redis no key, and later requests are empty."""
    client.post("/update", json={"some": "data"})
    stolen = client.cookies["session"]
    response = client.post("/clear")
    assert response.json() == {"session": {}}
    assert set_cookies(response) == [PLAIN.render_deletion().decode()]
    assert "session" not in client.cookies
    assert sessions.keys() == []
    assert client.get("/view").json() == {"session": {}}
    client.cookies.set("session", stolen)
    assert client.get("/view").json() == {"session": {}}


def test_clearing_an_empty_session_sets_no_cookie(client: TestClient) -> None:
    """There is nothing to end and nothing to forget."""
    assert set_cookies(client.post("/clear")) == []
    client.cookies.set("session", UNKNOWN)
    assert set_cookies(client.post("/clear")) == []


def test_reading_sets_no_cookie(client: TestClient) -> None:
    """Only a new session needs a cookie; Starlette's would send one with each change."""
    client.post("/update", json={"some": "data"})
    assert set_cookies(client.get("/view")) == []
    assert set_cookies(client.post("/update", json={"more": "data"})) == []
    assert client.get("/view").json() == {"session": {"some": "data", "more": "data"}}


@pytest.mark.parametrize("value", ["invalid", "", UNKNOWN, "null", "e30=.x.y", '"quoted"'])
def test_an_invalid_cookie_is_an_empty_session(client: TestClient, value: str) -> None:
    """A bogus, empty, unknown or foreign cookie is no error; a write starts a new session."""
    for _ in range(2):
        response = client.get("/view", headers={"cookie": f"session={value}"})
        assert response.status_code == 200
        assert response.json() == {"session": {}}
        assert set_cookies(response) == []
    response = client.post("/update", json={"a": 1}, headers={"cookie": f"session={value}"})
    assert response.cookies["session"] != value


def test_a_cookie_of_starlettes_middleware_is_an_empty_session(client: TestClient) -> None:
    """While a site changes over, old signed cookies are harmless."""
    old = "eyJzb21lIjogImRhdGEifQ==.aPh0Xg.0Jb3bJx6c5UuJ0K6HqY1Z0w9b3A"
    assert client.get("/view", headers={"cookie": f"session={old}"}).json() == {"session": {}}


def test_an_expired_session_is_empty(sessions: SessionKit, session_redis_url: str) -> None:
    """A session past its deadline is gone, although the browser still sends its cookie."""
    store = SessionStore.from_url(
        session_redis_url, prefix=sessions.prefix, lifetime=Lifetime(idle=0.001, absolute=0.001)
    )
    with browser(Starlette(routes=ROUTES), store) as client:
        response = client.post("/update", json={"some": "data"})
        value = set_cookies(response)[0].partition("session=")[2].partition(";")[0]
        assert "Max-Age=0;" in set_cookies(response)[0]
        assert client.get("/view", headers={"cookie": f"session={value}"}).json() == {"session": {}}


# --- Attributes of the cookie ---


def test_a_secure_cookie_is_for_https_only(store: SessionStore) -> None:
    """With the default policy a browser keeps the session over HTTPS, and not over HTTP."""
    app = Starlette(routes=ROUTES)
    with browser(app, store, CookiePolicy(), "http://testserver") as insecure:
        response = insecure.post("/update", json={"some": "data"})
        assert response.json() == {"session": {"some": "data"}}
        assert "; Secure" in set_cookies(response)[0]
        assert insecure.get("/view").json() == {"session": {}}
    with browser(app, store, CookiePolicy(), "https://testserver") as secure:
        assert secure.get("/view").json() == {"session": {}}
        secure.post("/update", json={"some": "data"})
        assert secure.get("/view").json() == {"session": {"some": "data"}}
        assert secure.post("/clear").json() == {"session": {}}
        assert secure.get("/view").json() == {"session": {}}
        assert "__Host-session" not in secure.cookies


@pytest.mark.parametrize(
    ("policy", "attribute"),
    [
        (CookiePolicy(name="s"), "Path=/"),
        (CookiePolicy(name="s", path="/second"), "Path=/second"),
        (CookiePolicy(name="s", domain=".example.com"), "Domain=.example.com"),
        (CookiePolicy(name="s", same_site="strict"), "SameSite=Strict"),
        (CookiePolicy(name="s", same_site="lax"), "SameSite=Lax"),
        (CookiePolicy(name="s", same_site="none"), "SameSite=None"),
        (CookiePolicy(name="s", same_site="none", partitioned=True), "Partitioned"),
        (CookiePolicy(name="s"), "Secure"),
        (CookiePolicy(name="s"), "HttpOnly"),
    ],
)
def test_attributes_are_written_and_written_again_at_the_end(
    store: SessionStore, policy: CookiePolicy, attribute: str
) -> None:
    """Each option is in the cookie, and in its deletion too, else browsers would not remove it."""
    with browser(Starlette(routes=ROUTES), store, policy, "https://www.example.com") as client:
        response = client.post("/update", json={"some": "data"})
        (written,) = set_cookies(response)
        assert attribute in written.split("; ")
        value = written.partition("=")[2].partition(";")[0]
        (deleted,) = set_cookies(client.post("/clear", headers={"cookie": f"s={value}"}))
        assert attribute in deleted.split("; ")
        assert "Max-Age=0" in deleted.split("; ")


@pytest.mark.parametrize(
    ("policy", "attribute"),
    [(PLAIN, "Secure"), (PLAIN, "Domain"), (PLAIN, "Partitioned")],
)
def test_attributes_that_were_not_asked_for_are_absent(
    store: SessionStore, policy: CookiePolicy, attribute: str
) -> None:
    """An option that is off leaves nothing in the header."""
    with browser(Starlette(routes=ROUTES), store, policy) as client:
        (written,) = set_cookies(client.post("/update", json={"some": "data"}))
    assert attribute not in written


def test_a_path_keeps_the_session_of_a_mounted_app_to_itself(store: SessionStore) -> None:
    """A sub-app with a cookie path of its own: browsers send the cookie there only."""
    policy = CookiePolicy(name="session", secure=False, path="/second")
    second = Starlette(
        routes=ROUTES,
        middleware=[Middleware(SessionMiddleware, store=store, autoload=True, cookie=policy)],
    )
    app = Starlette(routes=[Mount("/second", second), Route("/cookies", cookies_of)])
    with TestClient(app) as client:
        (written,) = set_cookies(client.post("/second/update", json={"some": "data"}))
        assert "Path=/second" in written.split("; ")
        assert client.get("/second/view").json() == {"session": {"some": "data"}}
        assert client.get("/cookies").json() == []


def cookies_of(request: Request) -> Response:
    return JSONResponse(list(request.cookies))


def test_a_browser_session_cookie_has_no_max_age(store: SessionStore) -> None:
    """`max_age="session"`: the browser drops the cookie when it closes."""
    policy = CookiePolicy(name="session", secure=False, max_age="session")
    with browser(Starlette(routes=ROUTES), store, policy) as client:
        (written,) = set_cookies(client.post("/update", json={"some": "data"}))
        assert "Max-Age" not in written
        assert "Expires" not in written
        assert client.get("/view").json() == {"session": {"some": "data"}}
        client.cookies.delete("session")
        assert client.get("/view").json() == {"session": {}}


# --- Headers that caches look at ---


def vary(*values: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        response = PlainTextResponse(str(len(request.session)))
        for value in values:
            response.headers.append("vary", value)
        return response

    return endpoint


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((), ["Cookie"]),
        (("Accept",), ["Accept, Cookie"]),
        (("Accept, Origin",), ["Accept, Origin, Cookie"]),
        (("Cookie",), ["Cookie"]),
        (("cookie",), ["cookie"]),
        (("Accept-Encoding,COOKIE , x",), ["Accept-Encoding,COOKIE , x"]),
        (("*",), ["*"]),
        (("X-Cookie",), ["X-Cookie, Cookie"]),
        (("Accept", "Cookie"), ["Accept", "Cookie"]),
    ],
)
def test_vary_is_merged_with_the_apps(
    store: SessionStore, own: tuple[str, ...], expected: list[str]
) -> None:
    """`Vary: Cookie` is added to what the app says, once, and not where it is said already."""
    with browser(Starlette(routes=[Route("/", vary(*own))]), store) as client:
        assert client.get("/").headers.get_list("vary") == expected


def test_vary_is_sent_only_if_the_session_was_used(client: TestClient) -> None:
    """A response that does not depend on the session can be cached for everybody."""
    client.post("/update", json={"some": "data"})
    assert "vary" not in client.get("/untouched").headers
    assert client.get("/view").headers["vary"] == "Cookie"


def test_asking_for_the_session_is_using_it(store: SessionStore) -> None:
    """`request.session` alone counts, as with Starlette's; so does a response without content."""

    def ask(request: Request) -> Response:
        _ = request.session
        return Response(status_code=204)

    with browser(Starlette(routes=[Route("/", ask)]), store) as client:
        assert client.get("/").headers["vary"] == "Cookie"


def test_a_response_with_a_cookie_is_not_cached(store: SessionStore) -> None:
    """A new id comes with `Cache-Control: no-store`, unless the app says something itself."""

    def own(request: Request) -> Response:
        request.session["a"] = 1
        return PlainTextResponse("own", headers={"Cache-Control": "private, max-age=60"})

    with browser(Starlette(routes=[*ROUTES, Route("/own", own)]), store) as client:
        assert "cache-control" not in client.get("/view").headers
        assert client.get("/own").headers.get_list("cache-control") == ["private, max-age=60"]
        client.cookies.clear()
        response = client.post("/update", json={"a": 1})
        assert response.headers.get_list("cache-control") == ["no-store"]
        assert "cache-control" not in client.get("/view").headers


def test_the_apps_own_cookies_are_kept(store: SessionStore) -> None:
    """Our cookie joins those that the app sets; none is lost."""

    def own(request: Request) -> Response:
        request.session["a"] = 1
        response = PlainTextResponse("own")
        response.set_cookie("theme", "dark")
        response.set_cookie("lang", "de")
        return response

    with browser(Starlette(routes=[Route("/", own)]), store) as client:
        written = [value.partition("=")[0] for value in set_cookies(client.get("/"))]
    assert sorted(written) == ["lang", "session", "theme"]


# --- What an app does with `request.session` ---


USES: dict[str, Callable[[Any], object]] = {
    "set": lambda s: s.__setitem__("a", 2),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "pop with a default": lambda s: s.pop("a", None),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("new", []),
    "setdefault and append": lambda s: s.setdefault("list", []).append("x"),
    "update": lambda s: s.update({"a": 2, "b": 3}),
    "update by keyword": lambda s: s.update(a=2),
    "update with pairs": lambda s: s.update([("a", 2)]),
    "|=": lambda s: s.__ior__({"a": 2}),
    "nested append": lambda s: s["list"].append(1),
    "nested dict": lambda s: s["dict"].update(x=1),
    "deeply nested": lambda s: s["dict"]["deep"].append({"x": []}),
    "counter": lambda s: s.__setitem__("n", s.get("n", 0) + 1),
}


@pytest.mark.parametrize("use", USES)
def test_each_way_of_changing_it_is_noticed(
    store: SessionStore, sessions: SessionKit, use: str
) -> None:
    """Whatever a dict can do, and changes inside values, are saved without any flag."""
    start: dict[str, Any] = {"dict": {"deep": []}, "list": [], "a": 1}

    def act(request: Request) -> Response:
        USES[use](request.session)
        return JSONResponse(dict(request.session))

    cookies = sessions.cookies(start, cookie=PLAIN)
    with browser(Starlette(routes=[*ROUTES, Route("/act", act)]), store, cookies=cookies) as client:
        response = client.get("/act")
        assert response.json() != start
        assert set_cookies(response) == []
        assert client.get("/view").json() == {"session": response.json()}
        assert sessions.read(cookies, cookie=PLAIN) == response.json()


def test_in_place_union_keeps_the_session(store: SessionStore) -> None:
    """`session |= …` changes the session itself, as it does with a dict."""

    def act(request: Request) -> Response:
        session = request.session
        session |= {"a": 1}
        assert session is request.session
        return PlainTextResponse("done")

    with browser(Starlette(routes=[*ROUTES, Route("/act", act)]), store) as client:
        client.get("/act")
        assert client.get("/view").json() == {"session": {"a": 1}}


def test_a_copy_of_the_session_is_json(store: SessionStore) -> None:
    """`dict(request.session)` and its copy are plain dicts, for JSON and for templates."""

    def act(request: Request) -> Response:
        request.session["cart"] = [{"sku": "a", "n": 1}]
        assert json.dumps(dict(request.session)) == json.dumps(request.session.copy())
        assert type(request.session.copy()) is dict
        return HTMLResponse("{cart[0][sku]}".format(**request.session))

    with browser(Starlette(routes=[Route("/", act)]), store) as client:
        assert client.get("/").text == "a"


def test_the_session_itself_is_no_json(store: SessionStore) -> None:
    """A difference: the session is a mapping, not a dict; `json` refuses it, rather than guess."""

    def act(request: Request) -> Response:
        with pytest.raises(TypeError):
            json.dumps(request.session)
        return PlainTextResponse("refused")

    with browser(Starlette(routes=[Route("/", act)]), store) as client:
        assert client.get("/").text == "refused"


def test_authlibs_state_is_kept(store: SessionStore, sessions: SessionKit) -> None:
    """OAuth clients keep `_state_<name>_<state>` in the session, with a float and nested data."""
    state = "_state_google_" + secrets.token_urlsafe(16)
    data = {"data": {"redirect_uri": "https://a/cb", "nonce": "x", "url": "https://b"}, "exp": 1.5}

    async def login(request: Request) -> Response:
        for key in [k for k in request.session if k.startswith("_state_google_")]:
            request.session.pop(key)
        request.session[state] = data
        return RedirectResponse("https://accounts.example.com/?state=x")

    async def callback(request: Request) -> Response:
        found = request.session.get(state)
        request.session.pop(state, None)
        request.session["user"] = {"sub": "1"}
        return JSONResponse(found)

    routes = [*ROUTES, Route("/login", login), Route("/callback", callback)]
    with browser(Starlette(routes=routes), store, follow_redirects=False) as client:
        assert client.get("/login").status_code == 307
        assert client.get("/login").status_code == 307
        assert sessions.read(dict(client.cookies), cookie=PLAIN) == {state: data}
        assert client.get("/callback").json() == data
        assert client.get("/view").json() == {"session": {"user": {"sub": "1"}}}


# --- Kinds of responses ---


def redirect(request: Request) -> Response:
    request.session["a"] = 1
    return RedirectResponse("/view", 303)


def test_a_redirect_carries_the_cookie(store: SessionStore) -> None:
    """A login that ends in a redirect gives the cookie with it."""
    routes = [*ROUTES, Route("/go", redirect)]
    with browser(Starlette(routes=routes), store) as client:
        response = client.get("/go", follow_redirects=False)
        assert response.status_code == 303
        assert len(set_cookies(response)) == 1
        client.cookies.clear()
        assert client.get("/go").json() == {"session": {"a": 1}}


def status(code: int) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        request.session["code"] = code
        return Response(status_code=code)

    return endpoint


@pytest.mark.parametrize("code", [200, 201, 204, 205, 301, 304, 400, 401, 403, 404, 409, 418, 499])
def test_every_status_below_500_commits(
    store: SessionStore, sessions: SessionKit, code: int
) -> None:
    """Also a 4xx and a response without content write what was staged, and set the cookie."""
    with browser(Starlette(routes=[Route("/", status(code))]), store) as client:
        response = client.get("/", follow_redirects=False)
        assert response.status_code == code
        assert sessions.read(dict(response.cookies), cookie=PLAIN) == {"code": code}


@pytest.mark.parametrize("code", [500, 502, 503, 599])
def test_no_status_from_500_on_commits(
    store: SessionStore, sessions: SessionKit, code: int
) -> None:
    """A difference: a failed request leaves the session as it was."""
    with browser(Starlette(routes=[Route("/", status(code))]), store) as client:
        response = client.get("/")
        assert response.status_code == code
        assert set_cookies(response) == []
    assert sessions.keys() == []


def test_an_http_exception_commits(store: SessionStore) -> None:
    """`HTTPException(4xx)` is a normal answer: flash messages set before it are kept."""

    def act(request: Request) -> Response:
        request.session["flash"] = ["wrong password"]
        raise StarletteHTTPException(401)

    with browser(Starlette(routes=[*ROUTES, Route("/act", act)]), store) as client:
        assert client.get("/act").status_code == 401
        assert client.get("/view").json() == {"session": {"flash": ["wrong password"]}}


class OutOfStock(Exception):
    pass


def test_an_exception_handler_can_use_the_session(store: SessionStore) -> None:
    """A handler sees what the endpoint wrote, can write itself, and its answer commits both."""

    def act(request: Request) -> Response:
        request.session["seen"] = 1
        raise OutOfStock

    async def handle(request: Request, error: Exception) -> Response:
        request.session["flash"] = f"seen {request.session['seen']}"
        return PlainTextResponse("out of stock", 409)

    app = Starlette(routes=[*ROUTES, Route("/act", act)], exception_handlers={OutOfStock: handle})
    with browser(app, store) as client:
        assert client.get("/act").status_code == 409
        assert client.get("/view").json() == {"session": {"seen": 1, "flash": "seen 1"}}


def test_an_unhandled_exception_drops_what_was_staged(
    store: SessionStore, sessions: SessionKit
) -> None:
    """The session of a request that crashed is as it was before."""

    def act(request: Request) -> Response:
        request.session["a"] = 2
        raise OutOfStock

    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    app = Starlette(routes=[*ROUTES, Route("/act", act)])
    with browser(app, store, cookies=cookies, raise_server_exceptions=False) as client:
        assert client.get("/act").status_code == 500
        assert client.get("/view").json() == {"session": {"a": 1}}


def test_head_and_options(store: SessionStore) -> None:
    """HEAD and OPTIONS read and write like GET, and leave no trace if they don't."""

    async def act(request: Request) -> Response:
        request.session["method"] = request.method
        return PlainTextResponse("done")

    app = Starlette(
        routes=[*ROUTES, Route("/act", act, methods=["GET", "HEAD", "OPTIONS", "DELETE"])]
    )
    with browser(app, store) as client:
        for method in ("HEAD", "OPTIONS", "DELETE"):
            client.cookies.clear()
            response = client.request(method, "/act")
            assert response.status_code == 200
            assert len(set_cookies(response)) == 1
            assert client.get("/view").json() == {"session": {"method": method}}
        client.cookies.clear()
        for method in ("HEAD", "OPTIONS"):
            response = client.request(method, "/untouched")
            assert set_cookies(response) == []
            assert "vary" not in response.headers


def test_a_stream_commits_before_it_starts(store: SessionStore) -> None:
    """What was written before a StreamingResponse is saved, and the cookie is in its head."""

    def act(request: Request) -> Response:
        request.session["a"] = 1

        async def body() -> Any:
            for part in ("x", "y"):
                yield part

        return StreamingResponse(body())

    with browser(Starlette(routes=[*ROUTES, Route("/act", act)]), store) as client:
        assert client.get("/act").text == "xy"
        assert client.get("/view").json() == {"session": {"a": 1}}


def test_a_background_task_can_change_the_session(store: SessionStore) -> None:
    """What a background task changes in an existing session is saved when it has ended."""

    def act(request: Request) -> Response:
        def finish() -> None:
            request.session["task"] = "done"

        return PlainTextResponse("started", background=BackgroundTask(finish))

    with browser(Starlette(routes=[*ROUTES, Route("/act", act)]), store) as client:
        client.post("/update", json={"a": 1})
        client.get("/act")
        assert client.get("/view").json() == {"session": {"a": 1, "task": "done"}}


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
        assert commands.names == ["EVALSHA", "EVALSHA"]
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
    app = SessionMiddleware(
        Starlette(routes=ROUTES), store=session_redis_url, autoload=True, cookie=PLAIN
    )
    with TestClient(app) as client:
        client.post("/update", json={"some": "data"})
        assert client.get("/view").json() == {"session": {"some": "data"}}
        client.post("/clear")
    assert list(admin.scan_iter("session:*")) == []


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
