"""Several sessions in one app: middlewares of ours with different keys."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from litestar import Litestar, get, post
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi_redis_session import CookiePolicy, Key, Session, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import (
    SessionDep,
    SessionValue,
    require_fresh,
    require_user,
    session_dep,
    user_dep,
)
from asgi_redis_session.litestar import SessionDep as LitestarSession
from asgi_redis_session.litestar import SessionPlugin
from asgi_redis_session.starlette import (
    SessionAuthBackend,
    closing_when_revoked,
    load_session,
    load_session_at,
)
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN, opened

pytestmark = pytest.mark.on_cluster

ADMIN = CookiePolicy(name="admin", secure=False)
KEY = "admin_session"
Options = dict[str, Any]


@pytest.fixture
async def admin_store(session_redis_url: str, prefix: str) -> AsyncIterator[SessionStore]:
    """A store beside the app's."""
    async with opened(session_redis_url, f"{prefix}-admin") as store:
        yield store


async def _act(request: Request) -> Response:
    """Verbs on both sessions: `/login/ann/logout/-` logs in to the first, out of the second."""
    both = (await load_session(request), await load_session_at(request, KEY))
    words = request.path_params["verbs"].split("/")
    for session, verb, argument in zip(both, words[::2], words[1::2], strict=True):
        match verb:
            case "login":
                await session.login(argument)
            case "logout":
                await session.logout()
            case "renew":
                session.renew()
            case "write":
                session["n"] = argument
            case "break":
                session["list"].append(object())
    if "break" in words:
        return Response()
    return JSONResponse([[session.user_id, dict(session)] for session in both])


def middlewares(*options: Options) -> list[Middleware]:
    """Middlewares from the outside to the inside."""
    return [Middleware(SessionMiddleware, **each) for each in options]


def app_with(*options: Options) -> Starlette:
    return Starlette(routes=[Route("/{verbs:path}", _act)], middleware=middlewares(*options))


@pytest.fixture(params=["inside", "outside"])
def app(
    request: pytest.FixtureRequest, store: SessionStore, admin_store: SessionStore
) -> Starlette:
    """An app with two sessions; the admin's middleware inside or outside of the other one."""
    options: list[Options] = [
        {"store": store, "cookie": PLAIN},
        {"store": admin_store, "cookie": ADMIN, "key": KEY},
    ]
    return app_with(*(options if request.param == "inside" else options[::-1]))


def browser(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


async def test_each_has_cookie_store_and_user(
    app: Starlette, store: SessionStore, admin_store: SessionStore
) -> None:
    """Two logins in one response, two cookies; and each store lists its own."""
    async with browser(app) as client:
        answer = await client.get("/login/ann/login/root")
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers.get_list("vary") == ["Cookie"]
        assert sorted(client.cookies) == ["admin", "session"]
        assert (await client.get("/-/-/-/-")).json() == [["ann", {}], ["root", {}]]
    counts = [
        await each.users.count(user) for each in (store, admin_store) for user in ("ann", "root")
    ]
    assert counts == [1, 0, 0, 1]


async def test_the_end_of_one_leaves_the_other(app: Starlette, store: SessionStore) -> None:
    """Logout, renewal and revocation of one session: the other one, and its id, stay."""
    async with browser(app) as client:
        await client.get("/login/ann/login/root")
        before = dict(client.cookies)
        answer = await client.get("/-/-/logout/-")
        assert [each.partition("=")[0] for each in answer.headers.get_list("set-cookie")] == [
            "admin"
        ]
        assert dict(client.cookies) == {"session": before["session"]}
        assert (await client.get("/-/-/login/root")).json() == [["ann", {}], ["root", {}]]
        admin = client.cookies["admin"]
        await client.get("/renew/-/write/1")
        assert client.cookies["admin"] == admin
        assert client.cookies["session"] != before["session"]
        await store.users.revoke_all("ann")
        assert (await client.get("/-/-/-/-")).json() == [[None, {}], ["root", {"n": "1"}]]


async def test_one_store_may_serve_both(store: SessionStore) -> None:
    """Two cookies, two sessions; a user's list shows both."""
    app = app_with({"store": store, "cookie": PLAIN}, {"store": store, "cookie": ADMIN, "key": KEY})
    async with browser(app) as client:
        await client.get("/login/ann/login/ann")
        assert await store.users.count("ann") == 2
        assert (await client.get("/-/-/logout/-")).json() == [["ann", {}], [None, {}]]
        assert await store.users.count("ann") == 1


async def test_a_failure_of_the_outer_one_takes_the_answer(
    store: SessionStore, admin_store: SessionStore
) -> None:
    """The inner one has committed by then; its new id does not reach the browser."""
    app = app_with(
        {"store": store, "cookie": PLAIN}, {"store": admin_store, "cookie": ADMIN, "key": KEY}
    )
    session = {"list": [1]}

    async def begin(request: Request) -> Response:
        (await load_session(request)).update(session)
        return Response()

    app.routes.insert(0, Route("/begin", begin))
    async with browser(app) as client:
        await client.get("/begin")
        before = dict(client.cookies)
        answer = await client.get("/break/-/login/root")
        assert (answer.status_code, "set-cookie" in answer.headers) == (500, False)
        assert dict(client.cookies) == before
        assert (await client.get("/-/-/-/-")).json() == [[None, session], [None, {}]]
    assert await admin_store.users.count("root") == 1  # nobody holds its id; it ends by itself


async def test_a_failure_of_the_inner_one_takes_the_answer(
    store: SessionStore, admin_store: SessionStore
) -> None:
    """What the outer one has staged is dropped with the 500."""
    app = app_with(
        {"store": admin_store, "cookie": ADMIN, "key": KEY}, {"store": store, "cookie": PLAIN}
    )

    async def begin(request: Request) -> Response:
        (await load_session(request)).update({"list": [1]})
        return Response()

    app.routes.insert(0, Route("/begin", begin))
    async with browser(app) as client:
        await client.get("/begin")
        answer = await client.get("/break/-/login/root")
        assert (answer.status_code, "set-cookie" in answer.headers) == (500, False)
    assert await admin_store.users.count("root") == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"key": KEY, "cookie": PLAIN},
            "keys 'session' and 'admin_session', both have their",
        ),
        (
            {"key": KEY, "cookie": lambda scope: PLAIN},
            "ids in the cookie 'session': give each CookiePolicy or HeaderPolicy a name of its own",
        ),
        ({"key": "session", "cookie": ADMIN, "is_other": True}, "different stores"),
        ({"key": KEY, "cookie": ADMIN}, ""),
    ],
)
async def test_what_can_not_be_together(
    store: SessionStore, admin_store: SessionStore, options: Options, sentence: str
) -> None:
    """One key with two stores, and one cookie with two keys: each would undo the other."""
    chosen = admin_store if options.pop("is_other", False) else store
    inner = {"store": chosen, **options}
    app = app_with({"store": store, "cookie": PLAIN}, inner)
    app.routes.insert(0, Route("/", lambda request: Response("served")))
    async with browser(app) as client:
        if sentence:
            with pytest.raises(RuntimeError, match=sentence):
                await client.get("/")
        else:
            assert (await client.get("/")).text == "served"


async def test_three_of_them(store: SessionStore) -> None:
    """The innermost finds a clash with the outermost, through the one between them."""
    options = [
        {"store": store, "cookie": PLAIN, "key": "one"},
        {"store": store, "cookie": ADMIN, "key": "two"},
        {"store": store, "cookie": CookiePolicy(name="third", secure=False), "key": "three"},
    ]

    async def show(request: Request) -> Response:
        keys = [key for key in ("one", "two", "three", "session") if key in request.scope]
        for number, key in enumerate(keys):
            (await load_session_at(request, key))["n"] = number
        return JSONResponse(keys)

    routes = [Route("/", show)]
    async with browser(Starlette(routes=routes, middleware=middlewares(*options))) as client:
        assert (await client.get("/")).json() == ["one", "two", "three"]
        assert sorted(client.cookies) == ["admin", "session", "third"]
    options[2]["cookie"] = PLAIN
    async with browser(Starlette(routes=routes, middleware=middlewares(*options))) as client:
        with pytest.raises(RuntimeError, match="keys 'one' and 'three'"):
            await client.get("/")


def test_fastapi_has_dependencies_for_each(sessions: SessionKit) -> None:
    """The session, its user, a fresh login and a typed value of either; and both in OpenAPI."""
    app = FastAPI()
    for options in ({"cookie": PLAIN}, {"cookie": ADMIN, "key": KEY}):
        app.add_middleware(SessionMiddleware, store=sessions.store, **options)
    theme = Key("theme", str, default="light")
    dep = session_dep(key=KEY, cookie_name=ADMIN.name)
    assert dep is session_dep(key=KEY, cookie_name=ADMIN.name)
    assert session_dep() is load_session
    assert user_dep() is require_user

    async def login(
        session: SessionDep, admin: Annotated[Session, Depends(dep)], user: str, root: str
    ) -> None:
        admin["theme"] = "dark"
        if user:
            await session.login(user)
        if root:
            await admin.login(root)

    async def me(
        user: Annotated[str, Depends(user_dep())],
        root: Annotated[str, Depends(user_dep(key=KEY, cookie_name=ADMIN.name))],
        own: Annotated[str, SessionValue(theme)],
        roots: Annotated[str, SessionValue(theme, session_key=KEY)],
    ) -> list[str]:
        return [user, root, own, roots]

    app.post("/login")(login)
    app.get("/me")(me)
    app.get("/fresh", dependencies=[Depends(require_fresh(60, key=KEY))])(lambda: "fresh")
    with TestClient(app) as client:
        client.post("/login", params={"user": "ann", "root": ""})
        assert client.get("/me").status_code == 401
        assert client.get("/fresh").status_code == 401
        client.post("/login", params={"user": "", "root": "root"})
        assert client.get("/me").json() == ["ann", "root", "light", "dark"]
        assert client.get("/fresh").json() == "fresh"
        schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert schemes["admin_session_cookie"]["name"] == "admin"
    assert "session" in schemes


def test_litestar_has_a_plugin_for_each(sessions: SessionKit) -> None:
    """Each injects its session under its key."""

    @get("/")
    async def show(session: LitestarSession, admin_session: LitestarSession) -> list[Any]:
        return [session.user_id, admin_session.user_id]

    @post("/login")
    async def login(session: LitestarSession, admin_session: LitestarSession) -> None:
        await session.login("ann")
        await admin_session.login("root")

    @post("/logout")
    async def logout(admin_session: LitestarSession) -> None:
        await admin_session.logout()

    plugins = [
        SessionPlugin(store=sessions.store, cookie=PLAIN),
        SessionPlugin(store=sessions.store, cookie=ADMIN, key=KEY),
    ]
    app: Any = Litestar([show, login, logout], plugins=plugins)
    with TestClient(app) as client:
        client.post("/login")
        assert client.get("/").json() == ["ann", "root"]
        client.post("/logout")
        assert client.get("/").json() == ["ann", None]


def test_starlettes_helpers_take_a_key(sessions: SessionKit) -> None:
    """`request.user` of the admin's session, and a socket that ends with it."""

    async def me(request: Request) -> Response:
        return JSONResponse(request.user.display_name)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async with closing_when_revoked(websocket, every=0.01, key=KEY):
            await websocket.send_text("ready")
            await websocket.receive_text()

    both = middlewares(
        {"store": sessions.store, "cookie": PLAIN},
        {"store": sessions.store, "cookie": ADMIN, "key": KEY},
    )
    users = Middleware(AuthenticationMiddleware, backend=SessionAuthBackend(key=KEY))
    app = Starlette(
        routes=[Route("/", me), WebSocketRoute("/socket", socket)], middleware=[*both, users]
    )
    cookies = sessions.cookies(user="ann", cookie=PLAIN) | sessions.cookies(
        user="root", cookie=ADMIN
    )
    handle = sessions.handle_of(cookies, cookie=ADMIN)
    assert handle is not None
    with TestClient(app, cookies=cookies) as client:
        assert client.get("/").json() == "root"
        with client.websocket_connect("/socket") as connected:
            assert connected.receive_text() == "ready"
            sessions.revoke(handle)
            with pytest.raises(WebSocketDisconnect) as ended:
                connected.receive_text()
    assert ended.value.reason == "revoked"


async def test_a_missing_middleware_is_named(store: SessionStore) -> None:
    """The sentence has the key that was asked for."""
    async with browser(app_with({"store": store, "cookie": PLAIN})) as client:
        with pytest.raises(RuntimeError, match=r"store=\.\.\., key='admin_session'\)"):
            await client.get("/-/-/-/-")
