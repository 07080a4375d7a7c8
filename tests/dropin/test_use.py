"""An app of Starlette's own sessions: what it does with `request.session`."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from asgi_redis_session import SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN
from .conftest import ROUTES, browser, set_cookies

pytestmark = pytest.mark.on_cluster

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
