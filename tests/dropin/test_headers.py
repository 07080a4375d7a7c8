"""An app of Starlette's own sessions: Set-Cookie, Vary and Cache-Control."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware import sessions as starlettes
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore

from ..support.sessions import PLAIN
from .conftest import ROUTES, browser, set_cookies, vary

pytestmark = pytest.mark.on_cluster


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


@pytest.mark.skipif(
    not hasattr(starlettes, "Session"),
    reason="before Starlette 1.0, `request.session` alone says nothing to the middleware",
)
def test_asking_for_the_session_is_using_it(store: SessionStore) -> None:
    """`request.session` alone counts, as with Starlette's; so does a response without content."""

    def ask(request: Request) -> Response:
        _ = request.session
        return Response(status_code=204)

    with browser(Starlette(routes=[Route("/", ask)]), store) as client:
        assert client.get("/").headers["vary"] == "Cookie"


USES: dict[str, Callable[[Any], object]] = {
    "len": len,
    "bool": bool,
    "dict": dict,
    "in": lambda session: "a" in session,
    "get": lambda session: session.get("a"),
    "equal": lambda session: session == {},
    "is_fresh": lambda session: session.is_fresh(60),
    **{
        name: attrgetter(name)
        for name in [
            *("absence", "authenticated_at", "created_at"),
            *("expires_at", "handle", "is_new", "user_id"),
        ]
    },
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_whatever_is_read_of_the_session_is_using_it(
    store: SessionStore, use: Callable[[Any], object]
) -> None:
    """Also where no framework says so: Starlette before 1.0, Litestar, an app without either."""

    def endpoint(request: Request) -> Response:
        use(request.scope["session"])
        return PlainTextResponse("used")

    with browser(Starlette(routes=[*ROUTES, Route("/", endpoint)]), store) as client:
        assert client.get("/").headers["vary"] == "Cookie"
        client.post("/update", json={"a": 1})
        assert client.get("/").headers["vary"] == "Cookie"


def test_a_response_with_a_cookie_is_not_cached(store: SessionStore) -> None:
    """A new id comes with `Cache-Control: no-store`, whatever the app says itself."""

    def own(request: Request) -> Response:
        request.session["a"] = 1
        return PlainTextResponse("own", headers={"Cache-Control": "private, max-age=60"})

    with browser(Starlette(routes=[*ROUTES, Route("/own", own)]), store) as client:
        assert client.get("/view").headers.get_list("cache-control") == ["private"]
        assert client.get("/own").headers.get_list("cache-control") == ["no-store"]
        assert client.get("/own").headers.get_list("cache-control") == ["private, max-age=60"]
        client.cookies.clear()
        response = client.post("/update", json={"a": 1})
        assert response.headers.get_list("cache-control") == ["no-store"]
        assert client.get("/view").headers.get_list("cache-control") == ["private"]


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
