"""An app of Starlette's own sessions: every kind of response."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN
from .conftest import ROUTES, browser, set_cookies

pytestmark = pytest.mark.on_cluster


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
