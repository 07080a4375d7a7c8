"""FastAPI's dependencies: the session, its user, and how fresh the login is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from asgi_redis_session import (
    CookiePolicy,
    Key,
    Session,
    SessionMiddleware,
    SessionNotLoaded,
    SessionValueError,
)
from asgi_redis_session.fastapi import (
    CurrentUser,
    SessionDep,
    SessionValue,
    require_fresh,
    require_user,
    session_dep,
    user_dep,
)
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of

pytestmark = pytest.mark.on_cluster

HOUR = 3_600_000


COOKIE = "__Host-session"


async def visits(session: SessionDep) -> int:
    """A dependency that needs the session itself."""
    session["visits"] = session.get("visits", 0) + 1
    return int(session["visits"])


async def greeting(
    session: SessionDep, visits: Annotated[int, Depends(visits)], user: CurrentUser
) -> str:
    """A dependency on top of others."""
    return f"{user}, visit {visits} of {session['visits']}"


members = APIRouter(prefix="/members", dependencies=[Depends(require_user)])


routes = APIRouter()


@routes.post("/login/{user}")
async def login(user: str, session: SessionDep) -> None:
    await session.login(user)


@routes.post("/login-by-number/{user}")
async def login_by_number(user: int, session: SessionDep) -> None:
    await session.login(user)


@routes.post("/logout")
async def logout(session: SessionDep) -> None:
    await session.logout()


@routes.get("/session")
async def show(session: SessionDep) -> dict[str, Any]:
    return dict(session)


@routes.put("/session/{name}")
def assign(name: str, value: str, session: SessionDep) -> list[Any]:
    """Not async: FastAPI runs it in a thread."""
    try:
        session[name] = value
    except SessionValueError as error:
        return [str(error)]
    return [dict(session), threading.current_thread() is threading.main_thread()]


@routes.get("/twice")
async def twice(
    request: Request, session: SessionDep, loaded: Annotated[Session, Depends(load_session)]
) -> bool:
    return session is loaded is request.scope["session"]


@routes.get("/visits")
async def visit(session: SessionDep, visits: Annotated[int, Depends(visits)]) -> list[int]:
    return [visits, session["visits"]]


@routes.get("/greeting")
async def greet(text: Annotated[str, Depends(greeting)]) -> str:
    return text


@routes.get("/me")
async def me(user: CurrentUser) -> str:
    return user


@routes.get("/me-sync")
def me_sync(user: CurrentUser) -> str:
    return user


@routes.delete("/me", dependencies=[Depends(require_fresh(timedelta(minutes=5)))])
async def delete_me() -> str:
    return "deleted"


@routes.post("/login-by/{name}/{user}")
async def login_by(name: str, user: str, session: SessionDep) -> None:
    await session.login(user, amr=name.split("+"))


@routes.delete("/all", dependencies=[Depends(require_fresh(300, amr=["pwd", "otp"]))])
async def delete_all(session: SessionDep) -> list[str]:
    return [*session.amr]


@routes.get("/fresh-user")
async def fresh_user(user: Annotated[str, Depends(require_fresh(2 * 3600))]) -> str:
    return user


@routes.post("/login-and-delete/{user}")
async def login_and_delete(user: str, session: SessionDep) -> bool:
    await session.login(user)
    return session.is_fresh(60)


@members.get("/list")
async def members_list() -> str:
    return "all members"


@members.get("/{name}")
def member(name: str, user: CurrentUser) -> str:
    return f"{name} for {user}"


@routes.websocket("/socket")
async def socket(websocket: WebSocket, session: SessionDep) -> None:
    await websocket.accept()
    await websocket.send_json(dict(session))
    session["seen"] = await websocket.receive_text()
    await session.save()
    await websocket.close()


@routes.websocket("/my-socket")
async def my_socket(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await websocket.send_text(user)
    await websocket.close()


@pytest.fixture
def app(sessions: SessionKit) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store)
    app.include_router(routes)
    app.include_router(members)
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A browser, over HTTPS as the default cookie needs it."""
    with TestClient(app, base_url="https://app") as client:
        yield client


def refusal(response: Any) -> str:
    """The code of a 401, after a look at the rest of it."""
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Cookie"
    assert response.headers["content-type"] == "application/json"
    assert "cookie" in response.headers["vary"].lower()
    detail = response.json()["detail"]
    assert list(detail) in (["code", "message"], ["code", "message", "amr"])
    assert detail["message"].endswith(".")
    return str(detail["code"])


def key_of(sessions: SessionKit, client: TestClient) -> str:
    """Where Redis holds the session of this browser."""
    handle = handle_of(sessions.store, client.cookies[COOKIE])
    return f"{sessions.prefix}:{handle}"


# --- SessionDep ---


def test_endpoints_get_the_loaded_session(client: TestClient, sessions: SessionKit) -> None:
    """What one request writes, the next one reads; nothing is created by reading."""
    assert client.get("/session").json() == {}
    assert not client.cookies
    assert sessions.keys() == []
    client.get("/visits")
    assert client.get("/session").json() == {"visits": 1}
    assert sessions.read(dict(client.cookies)) == {"visits": 1}


def test_a_ready_made_cookie_is_a_session(client: TestClient, sessions: SessionKit) -> None:
    """`sessions.cookies` of the test fixtures works with the default policy."""
    client.cookies.update(sessions.cookies({"visits": 41}))
    assert client.get("/visits").json() == [42, 42]


def test_all_dependencies_of_a_request_share_one_session(
    client: TestClient, sessions: SessionKit
) -> None:
    """It is the one in the scope, and it is loaded once."""
    client.cookies.update(sessions.cookies({"n": 1}))
    assert client.get("/twice").json() is True
    loads = sessions.store.stats.loads
    assert client.get("/twice").json() is True
    assert sessions.store.stats.loads == loads + 1


def test_nested_dependencies_see_each_others_changes(client: TestClient) -> None:
    """A dependency of a dependency counts once, and all that need it see the count."""
    client.post("/login/ann")
    assert client.get("/greeting").json() == "ann, visit 1 of 1"
    assert client.get("/greeting").json() == "ann, visit 2 of 2"
    assert client.get("/visits").json() == [3, 3]


def test_what_a_dependency_wrote_before_a_refusal_is_kept(client: TestClient) -> None:
    """A 401 is no failure of the request: `visits` ran before `CurrentUser` refused."""
    assert refusal(client.get("/greeting")) == "login_required"
    assert client.get("/session").json() == {"visits": 1}


def test_sync_endpoints_use_the_session_from_their_thread(
    client: TestClient, sessions: SessionKit
) -> None:
    """A `def` endpoint reads and assigns as in a dict; the middleware saves it."""
    assert client.put("/session/a?value=1").json() == [{"a": "1"}, False]
    assert client.put("/session/b?value=2").json() == [{"a": "1", "b": "2"}, False]
    assert sessions.read(dict(client.cookies)) == {"a": "1", "b": "2"}


def test_sockets_get_the_loaded_session(client: TestClient, sessions: SessionKit) -> None:
    """The same parameter in a WebSocket endpoint; what it saves is in Redis."""
    client.cookies.update(cookies := sessions.cookies({"n": 1}))
    with client.websocket_connect("wss://app/socket") as connected:
        assert connected.receive_json() == {"n": 1}
        connected.send_text("hello")
        with pytest.raises(WebSocketDisconnect):
            connected.receive_text()
    assert sessions.read(cookies) == {"n": 1, "seen": "hello"}


# --- CurrentUser and require_user ---


@pytest.mark.parametrize("path", ["/me", "/me-sync", "/members/list", "/members/bob"])
def test_nobody_is_let_in_without_a_login(
    client: TestClient, sessions: SessionKit, path: str
) -> None:
    """401 without a cookie, with an unknown one, and with a session of nobody."""
    assert refusal(client.get(path)) == "login_required"
    assert sessions.keys() == []
    assert refusal(client.get(path, headers={"cookie": f"{COOKIE}={'A' * 43}"})) == "login_required"
    client.cookies.update(sessions.cookies({"user": "ann", "user_id": "ann"}))
    assert refusal(client.get(path)) == "login_required"


def test_current_user_is_the_id_that_logged_in(client: TestClient) -> None:
    """As text, in async and sync endpoints, until the log-out."""
    client.post("/login/ann")
    assert client.get("/me").json() == "ann"
    assert client.get("/me-sync").json() == "ann"
    client.post("/login-by-number/7")
    assert client.get("/me").json() == "7"
    client.post("/logout")
    assert refusal(client.get("/me")) == "login_required"


def test_a_revoked_session_is_nobodys(client: TestClient, sessions: SessionKit) -> None:
    """Ended from outside, the next request is refused."""
    client.post("/login/ann")
    assert sessions.revoke(handle_of(sessions.store, client.cookies[COOKIE]))
    assert refusal(client.get("/me")) == "login_required"


def test_a_router_can_require_a_user(client: TestClient) -> None:
    """`dependencies=[Depends(require_user)]` guards every route, whether it wants the id or not."""
    client.post("/login/ann")
    assert client.get("/members/list").json() == "all members"
    assert client.get("/members/bob").json() == "bob for ann"


def test_a_guarded_request_loads_once(client: TestClient, sessions: SessionKit) -> None:
    """The router's guard and the endpoint's parameter are one question to Redis."""
    client.post("/login/ann")
    client.get("/members/bob")
    with sessions.count() as commands:
        client.get("/members/bob")
    assert commands.names == ["HGETALL"]


def test_sockets_can_require_a_user(client: TestClient) -> None:
    """The id in a WebSocket endpoint; the handshake of nobody gets the 401."""
    with pytest.raises(WebSocketDenialResponse) as denied:
        with client.websocket_connect("wss://app/my-socket"):
            pass
    assert denied.value.status_code == 401
    assert denied.value.json()["detail"]["code"] == "login_required"
    client.post("/login/ann")
    with client.websocket_connect("wss://app/my-socket") as connected:
        assert connected.receive_text() == "ann"


# --- require_fresh ---


def test_a_fresh_login_may_do_sensitive_things(client: TestClient) -> None:
    """Right after the login; the dependency's value is the user's id."""
    client.post("/login/ann")
    assert client.delete("/me").json() == "deleted"
    assert client.get("/fresh-user").json() == "ann"


def test_nobody_is_asked_to_log_in_first(client: TestClient, sessions: SessionKit) -> None:
    """Not `reauthentication_required`: there is nothing to repeat."""
    assert refusal(client.delete("/me")) == "login_required"
    client.cookies.update(sessions.cookies({"n": 1}))
    assert refusal(client.delete("/me")) == "login_required"


def test_a_stale_login_has_to_be_repeated(
    client: TestClient, sessions: SessionKit, admin: Any
) -> None:
    """An hour is more than five minutes and less than two hours; logging in again helps."""
    client.post("/login/ann")
    key = key_of(sessions, client)
    admin.hincrby(key, "@auth", -HOUR)
    assert refusal(client.delete("/me")) == "reauthentication_required"
    assert client.get("/me").json() == "ann"
    assert client.get("/fresh-user").json() == "ann"
    assert admin.exists(key)
    client.post("/login/ann")
    assert client.delete("/me").json() == "deleted"


def test_a_login_lacks_a_method(client: TestClient, sessions: SessionKit, admin: Any) -> None:
    """The answer names what is asked for; logging in with it helps, until that is too long ago."""
    client.post("/login/ann")
    for methods in (None, "pwd", "otp", "pwd+hwk"):
        if methods is not None:
            client.post(f"/login-by/{methods}/ann")
        answer = client.delete("/all")
        assert refusal(answer) == "reauthentication_required"
        assert answer.json()["detail"]["message"] == "Log in with pwd and otp first."
        assert answer.json()["detail"]["amr"] == ["pwd", "otp"]
        assert client.delete("/me").json() == "deleted"
    client.post("/login-by/otp+pwd+mfa/ann")
    assert client.delete("/all").json() == ["otp", "pwd", "mfa"]
    admin.hincrby(key_of(sessions, client), "@auth", -HOUR)
    assert refusal(client.delete("/all")) == "reauthentication_required"


def test_using_a_session_does_not_freshen_its_login(
    client: TestClient, sessions: SessionKit, admin: Any
) -> None:
    """Writes extend the TTL, but the login stays as old as it is."""
    client.post("/login/ann")
    admin.hincrby(key_of(sessions, client), "@auth", -HOUR)
    client.get("/visits")
    client.put("/session/auth?value=9999999999999")
    assert refusal(client.delete("/me")) == "reauthentication_required"


def test_a_login_is_fresh_within_its_request(client: TestClient) -> None:
    """Before it is committed already."""
    assert client.post("/login-and-delete/ann").json() is True


@pytest.mark.parametrize("name", ["@auth", "@user", "@claims"])
def test_fields_of_the_app_cannot_fake_a_login(
    client: TestClient, sessions: SessionKit, admin: Any, name: str
) -> None:
    """The names are reserved, so nothing of the kind reaches the hash."""
    client.post("/login/ann")
    key = key_of(sessions, client)
    admin.hincrby(key, "@auth", -HOUR)
    before = admin.hget(key, name)
    (message,) = client.put(f"/session/{name}", params={"value": "9999999999999"}).json()
    assert "reserved" in message
    assert admin.hget(key, name) == before
    assert refusal(client.delete("/me")) == "reauthentication_required"


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1e13", b"999999999999999"])
def test_an_unreadable_time_of_login_is_not_fresh(
    client: TestClient, sessions: SessionKit, admin: Any, value: bytes
) -> None:
    """A session with a damaged `@auth` is nobody's."""
    client.post("/login/ann")
    admin.hset(key_of(sessions, client), "@auth", value)
    assert refusal(client.delete("/me")) == "login_required"


# --- OpenAPI ---


def test_openapi_has_no_wrong_name(app: FastAPI) -> None:
    """One scheme, that of our 401: FastAPI can't know how the middleware names its cookie."""
    schemes = app.openapi()["components"]["securitySchemes"]
    description = schemes["session"].pop("description")
    assert schemes == {"session": {"type": "http", "scheme": "Cookie"}}
    assert "cookie" in description


SID = CookiePolicy(name="sid", secure=False)
NamedSession = Annotated[Session, Depends(session_dep(cookie_name=SID.name))]
NamedUser = Annotated[str, Depends(user_dep(cookie_name=SID.name))]
FIVE_MINUTES = require_fresh(timedelta(minutes=5), cookie_name=SID.name)

named = APIRouter()


@named.post("/login/{user}")
async def named_login(user: str, session: NamedSession) -> None:
    await session.login(user)


@named.get("/me")
async def named_me(user: NamedUser, session: NamedSession) -> list[Any]:
    return [user, session.user_id]


@named.delete("/me", dependencies=[Depends(FIVE_MINUTES)])
async def named_delete() -> str:
    return "deleted"


@named.websocket("/socket")
async def named_socket(websocket: WebSocket, user: NamedUser, session: NamedSession) -> None:
    await websocket.accept()
    await websocket.send_json([user, session.user_id])
    await websocket.close()


@pytest.fixture
def named_app(sessions: SessionKit) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=SID)
    app.include_router(named)
    return app


def test_openapi_can_name_the_cookie(named_app: FastAPI) -> None:
    """Required where a user is, an optional parameter where a session is; nothing else."""
    document = named_app.openapi()
    schemes = document["components"]["securitySchemes"]
    assert schemes["session_cookie"].pop("description")
    assert schemes == {"session_cookie": {"type": "apiKey", "in": "cookie", "name": "sid"}}
    paths = document["paths"]
    (cookie,) = paths["/me"]["get"]["parameters"]
    assert (cookie["in"], cookie["name"], cookie["required"]) == ("cookie", "sid", False)
    assert {
        (method, path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if operation.get("security") == [{"session_cookie": []}]
    } == {("get", "/me"), ("delete", "/me")}


def test_named_dependencies_do_what_the_others_do(named_app: FastAPI) -> None:
    """The session, the user, a fresh login, and 401 for nobody, also in a WebSocket."""
    with TestClient(named_app) as client:
        assert refusal(client.get("/me")) == "login_required"
        assert refusal(client.delete("/me")) == "login_required"
        client.post("/login/ann")
        assert client.get("/me").json() == ["ann", "ann"]
        assert client.delete("/me").json() == "deleted"
        with client.websocket_connect("/socket") as connected:
            assert connected.receive_json() == ["ann", "ann"]


def test_the_session_of_a_test_can_be_overridden(sessions: SessionKit) -> None:
    """`SessionDep` follows the function that FastAPI knows it by: `load_session`."""
    app = FastAPI()

    @app.get("/")
    async def show(session: SessionDep) -> str | None:
        return session.user_id

    app.add_middleware(SessionMiddleware, store=sessions.store)
    app.dependency_overrides[load_session] = lambda: SimpleNamespace(user_id="fake")
    with TestClient(app) as client:
        assert client.get("/").json() == "fake"


def test_named_dependencies_can_be_overridden(named_app: FastAPI, sessions: SessionKit) -> None:
    """The same name makes the same function; and all follow the one behind `SessionDep`."""
    named_app.dependency_overrides[user_dep(cookie_name="sid")] = lambda: "override"
    named_app.dependency_overrides[load_session] = sessions.session
    with TestClient(named_app) as client, pytest.raises(SessionNotLoaded):
        client.get("/me")
    named_app.dependency_overrides[session_dep(cookie_name="sid")] = lambda: SimpleNamespace(
        user_id="fake"
    )
    with TestClient(named_app) as client:
        assert client.get("/me").json() == ["override", "fake"]


def test_typed_values_are_dependencies(sessions: SessionKit) -> None:
    """What changes inside is saved; the key's default, or None; one object for a request."""
    cart: Key[list[str]] = Key("cart", list[str], default=[])
    since: Key[datetime] = Key("since", datetime)
    app = FastAPI()

    @app.post("/{sku}")
    async def add(
        sku: str,
        session: SessionDep,
        items: Annotated[list[str], SessionValue(cart)],
        at: Annotated[datetime | None, SessionValue(since)],
    ) -> list[Any]:
        items.append(sku)
        assert session[cart] is items
        session[since] = datetime(2026, 1, 1, tzinfo=UTC)
        return [*items, at]

    app.add_middleware(SessionMiddleware, store=sessions.store)
    with TestClient(app, base_url="https://testserver") as client:
        assert client.post("/tea").json() == ["tea", None]
        assert client.post("/pot").json() == ["tea", "pot", "2026-01-01T00:00:00Z"]
        with pytest.raises(TypeError, match="SessionValue"):
            SessionValue("cart")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [session_dep, user_dep])
def test_an_impossible_cookie_name_is_refused(make: Any) -> None:
    """When the dependency is made."""
    with pytest.raises(ValueError, match="a cookie's name is made of letters"):
        make(cookie_name="a b")


def test_openapi_marks_exactly_the_protected_routes(app: FastAPI) -> None:
    """Those that need a user, directly or through other dependencies; nothing else is asked for."""
    marked = set()
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            if "security" in operation:
                assert operation["security"] == [{"session": []}]
                marked.add(f"{method} {path}")
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert names <= {"user", "name", "value"}
            assert "requestBody" not in operation
    assert marked == {
        "get /greeting",
        "get /me",
        "get /me-sync",
        "delete /me",
        "delete /all",
        "get /fresh-user",
        "get /members/list",
        "get /members/{name}",
    }


# --- Set-up errors ---


@contextmanager
def without_middleware() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(routes)
    with TestClient(app, base_url="https://app") as client:
        yield client


@pytest.mark.parametrize("path", ["/session", "/me", "/fresh-user", "/greeting"])
def test_without_the_middleware_the_error_names_the_cure(path: str) -> None:
    """A RuntimeError that says what to add, not a 401."""
    with without_middleware() as client, pytest.raises(RuntimeError) as raised:
        client.get(path)
    assert "app.add_middleware(SessionMiddleware, store=...)" in str(raised.value)


def test_without_the_middleware_sockets_fail_alike() -> None:
    """The same error in a WebSocket."""
    with without_middleware() as client, pytest.raises(RuntimeError, match="add_middleware"):
        with client.websocket_connect("wss://app/socket"):
            pass


@pytest.mark.parametrize("max_age", ["5 minutes", None, True])
def test_an_unusable_max_age_is_refused(max_age: Any) -> None:
    """When the route is declared, not when somebody needs it."""
    with pytest.raises(TypeError, match="max_age"):
        require_fresh(max_age)


@pytest.mark.parametrize("max_age", [0, -1, float("nan"), timedelta(0)])
def test_a_max_age_that_nothing_meets_is_refused(max_age: Any) -> None:
    """As every other duration of the library."""
    with pytest.raises(ValueError, match="max_age"):
        require_fresh(max_age)
