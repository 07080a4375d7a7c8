"""`SessionMiddleware(carrier=HeaderPolicy())`: the id in a header, beside the cookie or instead."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from asgi_redis_session import (
    CookiePolicy,
    HeaderPolicy,
    SessionEvent,
    SessionMiddleware,
    SessionStore,
)
from asgi_redis_session.gateway import ForwardAuth

from ..support.internals import handle_of
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN, create, is_live, log_in

pytestmark = pytest.mark.on_cluster

NEW = {"authorization": "Bearer new"}


def bearer(session_id: str) -> dict[str, str]:
    return {"authorization": f"Bearer {session_id}"}


async def _act(request: Request) -> JSONResponse:
    session = await request.scope["session"].load()
    absence = session.absence
    match request.path_params["verb"]:
        case "login":
            await session.login("ann")
        case "write":
            session["n"] = session.get("n", 0) + 1
        case "renew":
            session.renew()
        case "shorten":
            session.set_lifetime(absolute=3600)
        case "logout":
            await session.logout()
        case "hide":  # as a middleware inside might
            request.scope["headers"][:] = []
            session.renew()
    kind = None if absence is None else absence.kind
    return JSONResponse({"user": session.user_id, "n": session.get("n"), "absence": kind})


async def _socket(websocket: WebSocket) -> None:
    session: Any = websocket.session
    session["n"] = session.get("n", 0) + 1
    await websocket.accept()
    await websocket.send_json(session["n"])
    await websocket.close()


class Client:
    """A client that keeps nothing: each request says what it sends."""

    def __init__(self, store: SessionStore, **options: Any) -> None:
        app = Starlette(routes=[Route("/{verb}", _act, methods=["GET", "POST"])])
        options = {"cookie": PLAIN, "carrier": HeaderPolicy(), **options}
        self.app: Any = SessionMiddleware(app, store=store, **options)

    async def get(
        self,
        verb: str,
        headers: Mapping[str, str] = {},
        cookie: str | None = None,
        how: str = "GET",
    ) -> httpx.Response:
        cookies = {} if cookie is None else {PLAIN.name: cookie}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://app", cookies=cookies
        ) as client:
            return await client.request(how, f"/{verb}", headers=headers)


def given(answer: httpx.Response) -> tuple[str | None, bool]:
    """The id in the header of the answer, and whether it sets a cookie."""
    return answer.headers.get("session-id"), "set-cookie" in answer.headers


async def test_a_native_app_lives_by_the_header(store: SessionStore) -> None:
    """It asks for an id, sends it, gets another one when it changes, and is told of the end."""
    client = Client(store)
    answer = await client.get("login", NEW)
    first, has_cookie = given(answer)
    assert first is not None
    assert not has_cookie
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("vary") == ["Cookie, Authorization"]

    answer = await client.get("write", bearer(first))
    assert answer.json() == {"user": "ann", "n": 1, "absence": None}
    assert given(answer) == (None, False)
    assert answer.headers.get_list("cache-control") == ["private"]
    assert answer.headers.get_list("vary") == ["Cookie, Authorization"]
    assert given(await client.get("shorten", bearer(first))) == (None, False)

    second, has_cookie = given(await client.get("renew", bearer(first)))
    assert second not in (None, "", first)
    assert not has_cookie
    late = await client.get("write", bearer(first))  # sent before it had the new id
    assert (late.json()["user"], late.json()["absence"]) == (None, "replaced")
    assert given(late) == (None, False)

    assert second is not None
    assert (await client.get("read", bearer(second))).json()["n"] == 1
    assert given(await client.get("logout", bearer(second))) == ("", False)
    ended = await client.get("read", bearer(second))
    assert (ended.json()["user"], ended.json()["absence"]) == (None, "logged_out")
    assert await store.users.count("ann") == 0


async def test_an_ended_id_is_replaced_in_the_header(store: SessionStore) -> None:
    """A client that sends an id which is no longer known gets its new one in the same way."""
    client = Client(store)
    session_id, has_cookie = given(await client.get("write", bearer("i" * 43)))
    assert session_id not in (None, "i" * 43)
    assert not has_cookie


async def test_a_browser_has_a_cookie(store: SessionStore) -> None:
    """Without the header, and with a token of another system, a new id leaves as a cookie."""
    client = Client(store)
    jwt = "eyJhbGciOiJIUzI1NiJ9.e30.Et9HFtf9R3GEMA0IICOfFMVXY7kkTX1wr4qCyhIf58U"
    for headers in (
        {},
        bearer(jwt),
        {"authorization": "Basic bmV3Om5ldw=="},
        {"authorization": "Bearer"},
        {"authorization": "new"},
        bearer("i" * 42),
        bearer("new " + "i" * 43),
    ):
        answer = await client.get("write", headers)
        assert given(answer) == (None, True), headers
        assert answer.headers.get_list("vary") == ["Cookie, Authorization"]


@pytest.mark.parametrize("verb", ["login", "renew", "logout", "hide"])
@pytest.mark.parametrize("sends", ["nothing", "new", "the same"])
async def test_who_has_our_cookie_never_gets_an_id_in_a_header(
    store: SessionStore, verb: str, sends: str
) -> None:
    """A script in a page can't have the cookie's id, nor that which takes its place."""
    client, session_id = Client(store), await create(store, n=1)
    headers = {"nothing": {}, "new": NEW, "the same": bearer(session_id)}[sends]
    answer = await client.get(verb, headers, session_id)
    assert given(answer) == (None, True)
    assert not await is_live(store, session_id)


async def test_a_dead_cookie_counts_as_well(store: SessionStore) -> None:
    """Redis doesn't know its id any more, but it comes from a browser."""
    assert given(await Client(store).get("login", NEW, "i" * 43)) == (None, True)


async def test_two_different_ids_are_a_conflict(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """Cookie and header name two sessions: the request has none, and its logout ends both."""
    client = Client(store)
    one, other = await log_in(store, "ann"), await log_in(store, "bob")
    answer = await client.get("read", bearer(other), one)
    assert (answer.json()["user"], answer.json()["absence"]) == (None, "conflict")
    assert [event.name for event in events if event.name == "conflict"] == ["conflict"]
    assert given(await client.get("write", bearer(other), one)) == (None, True)
    assert await is_live(store, one)
    assert await is_live(store, other)
    assert given(await client.get("logout", bearer(other), one)) == (None, True)
    assert not await is_live(store, one)
    assert not await is_live(store, other)


async def test_the_header_alone(store: SessionStore) -> None:
    """With `cookie=None` no cookie is read or set, and a client need not ask for the header."""
    client = Client(store, cookie=None)
    session_id = await log_in(store, "ann")
    answer = await client.get("read", {}, session_id)
    assert (answer.json()["user"], answer.json()["absence"]) == (None, "no_cookie")
    assert answer.headers["vary"] == "Authorization"
    new, has_cookie = given(await client.get("write"))
    assert new
    assert not has_cookie
    assert (await client.get("read", bearer(session_id), "i" * 43)).json()["user"] == "ann"
    two = {"authorization": f"Bearer {session_id}", "Authorization": f"Bearer {new}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(client.app), base_url="http://app"
    ) as raw:
        for verb, expected in (("read", (None, False)), ("logout", ("", False))):
            answer = await raw.get(f"/{verb}", headers=list(two.items()))
            assert answer.json()["absence"] == "conflict"
            assert given(answer) == expected
    assert not await is_live(store, session_id)
    assert not await is_live(store, new)


@pytest.mark.parametrize(
    ("policy", "headers"),
    [
        (HeaderPolicy(), {"authorization": "bearer {}"}),
        (HeaderPolicy(), {"AUTHORIZATION": "BEARER   {}  "}),
        (HeaderPolicy(scheme="Shop"), {"authorization": "Shop {}"}),
        (HeaderPolicy(name="X-Session", scheme=None), {"x-session": "{}"}),
        (HeaderPolicy(name="X-Session", scheme="Id"), {"x-session": "id {}"}),
    ],
)
async def test_the_grammar_of_the_header(
    store: SessionStore, policy: HeaderPolicy, headers: dict[str, str]
) -> None:
    """A scheme in any case and blanks after it, as RFC 9110 has it; or the id alone."""
    client, session_id = Client(store, carrier=policy), await log_in(store, "ann")
    for sent in (session_id, "new"):
        line = {name: value.format(sent) for name, value in headers.items()}
        answer = await client.get("login", line)
        assert given(answer)[0]
        assert answer.headers["vary"] == f"Cookie, {policy.name}"
    assert not await is_live(store, session_id)


def test_a_long_header_is_read_in_one_pass() -> None:
    """A megabyte of blanks, in any place: a pattern that tries each of them would never end."""
    blanks, session_id = b" " * 2**20, b"i" * 43
    for value, expected in (
        (b"Bearer" + blanks + session_id + blanks, (True, {session_id})),
        (b"Bearer " + session_id + blanks + b"x", (False, set())),
        (b"Bearer" + blanks + b"x", (False, set())),
        (blanks + b"x" + blanks, (False, set())),
        (b"Bearer " + b" x" * 2**19, (False, set())),
    ):
        assert HeaderPolicy().read([(b"authorization", value)]) == expected


async def test_the_guard_concerns_cookies(store: SessionStore) -> None:
    """No page can make a browser send an id in a header unasked; with the cookie it is refused."""
    client, session_id = Client(store, cross_origin="refuse"), await log_in(store, "ann")
    foreign = {"sec-fetch-site": "cross-site"}
    assert (await client.get("read", bearer(session_id) | foreign, how="POST")).status_code == 200
    for headers in (foreign, bearer(session_id) | foreign):
        assert (await client.get("read", headers, session_id, "POST")).status_code == 403


async def test_pages_of_other_origins_can_read_the_new_id(store: SessionStore) -> None:
    """CORS has to allow the request's header, and to expose that of the response."""
    client = Client(store, cookie=None)
    client.app = CORSMiddleware(
        client.app,
        allow_origins=["https://app.example.com"],
        allow_headers=["Authorization"],
        expose_headers=["Session-Id"],
    )
    origin = {"origin": "https://app.example.com"}
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    preflight = await client.get("login", origin | asked, how="OPTIONS")
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    answer = await client.get("login", origin, how="POST")
    assert given(answer)[0]
    assert answer.headers["access-control-expose-headers"] == "Session-Id"


def test_through_a_real_server(store: SessionStore) -> None:
    """Requests and a socket through uvicorn, also the empty header at the end."""
    routes = [Route("/{verb}", _act), WebSocketRoute("/socket", _socket)]
    app = SessionMiddleware(
        Starlette(routes=routes), store=store, cookie=PLAIN, carrier=HeaderPolicy(), autoload=True
    )
    with serve(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        socket_url = f"{url.replace('http', 'ws')}/socket"
        with connect(socket_url, additional_headers=NEW) as socket:
            assert socket.response is not None
            headers = socket.response.headers
            assert "set-cookie" not in headers
            session_id = headers["session-id"]
            assert socket.recv(PATIENCE) == "1"
        with connect(socket_url, additional_headers=bearer(session_id)) as socket:
            assert socket.response is not None
            assert "session-id" not in socket.response.headers
            assert socket.recv(PATIENCE) == "2"
        assert client.get("/read", headers=bearer(session_id)).json()["n"] == 2
        assert given(client.get("/logout", headers=bearer(session_id))) == ("", False)


async def test_store_open_takes_the_header(store: SessionStore) -> None:
    """The same rules outside of a middleware; `set_header` is what the client needs."""
    policy = HeaderPolicy()
    async with store.open(None, header="Bearer new", carrier=policy) as opened:
        await opened.session.login("ann")
    assert (opened.set_cookie, opened.set_cookies) == (None, ())
    assert opened.set_header is not None
    name, session_id = opened.set_header
    assert name == "Session-Id"
    async with store.open(None, header=f"Bearer {session_id}".encode(), carrier=policy) as opened:
        assert opened.session.user_id == "ann"
    assert opened.set_header is None
    async with store.open(
        f"session={session_id}", cookie=PLAIN, header="Bearer new", carrier=policy
    ) as opened:
        opened.session.renew()
    assert opened.set_header is None
    assert opened.set_cookie is not None
    async with store.open(None, cookie=None, carrier=policy) as opened:
        opened.session["n"] = 1
    assert opened.set_header is not None
    with pytest.raises(ValueError, match=r"store\.open\(cookie=None\): without a cookie"):
        store.open(None, cookie=None)


async def test_a_gateway_takes_the_header(store: SessionStore) -> None:
    """A proxy passes it on, and gets the user."""
    session_id = await log_in(store, "ann")
    app = ForwardAuth(store, cookie=PLAIN, carrier=HeaderPolicy())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://auth"
    ) as proxy:
        answer = await proxy.get("/", headers=bearer(session_id))
        assert answer.headers["x-session-user"] == "ann"
        assert answer.headers["x-session-handle"] == handle_of(store, session_id)
        cookie = {"cookie": f"session={session_id}"}
        assert (await proxy.get("/", headers=cookie)).status_code == 200
        other = bearer("i" * 43) | cookie
        assert (await proxy.get("/", headers=other)).status_code == 401


async def test_two_sessions_need_two_headers(store: SessionStore) -> None:
    """One id would lead to both, so the second middleware is refused."""
    for carrier, sentence in (
        (HeaderPolicy(), "both have their ids in the header 'Authorization: Bearer'"),
        (HeaderPolicy(name="Admin-Session", scheme=None), "the response's header 'Session-Id'"),
        (HeaderPolicy(name="Admin-Session", scheme=None, response="Admin-Session-Id"), ""),
    ):
        client = Client(
            store, cookie=CookiePolicy(name="admin", secure=False), carrier=carrier, key="admin"
        )
        client.app = SessionMiddleware(
            client.app, store=store, cookie=PLAIN, carrier=HeaderPolicy()
        )
        if sentence:
            with pytest.raises(RuntimeError, match=sentence):
                await client.get("read")
        else:
            both = NEW | {"admin-session": "new"}
            answer = await client.get("login", both)
            assert given(answer)[0]
            assert "admin-session-id" not in answer.headers


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "Cookie"}, "nothing else uses"),
        ({"name": "X Session"}, "give the name of a header"),
        ({"response": "Set-Cookie"}, "nothing else uses"),
        ({"response": "authorization"}, "a name of its own"),
        ({"name": "Session-ID"}, "a name of its own"),
        ({"scheme": None}, "begins with a scheme"),
        ({"scheme": ""}, "give a word"),
        ({"scheme": "Bearer "}, "give a word"),
    ],
)
def test_unusable_policies_are_refused(options: dict[str, Any], sentence: str) -> None:
    """In one sentence that names the cure."""
    with pytest.raises(ValueError, match=sentence):
        HeaderPolicy(**options)


def test_a_session_needs_a_carrier(store: SessionStore) -> None:
    """Neither cookie nor header: no id could travel."""
    with pytest.raises(
        ValueError, match=r"SessionMiddleware\(cookie=None\): without a cookie, give"
    ):
        Client(store, cookie=None, carrier=None)
