"""The moving guide: its code runs, and its tables leave out no option of the other libraries."""

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.testing import TestClient as LitestarTestClient
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.documents import ROOT, blocks
from ..support.sessions import PLAIN

pytestmark = pytest.mark.anywhere

SECRET = "a secret key of the app"


def section(title: str) -> str:
    """What stands under this heading."""
    text = (ROOT / "docs/moving.md").read_text()
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


#: Options of the version that was read; those of Starlette and Litestar are asked for.
OPTIONS = {
    "From Starlette": " ".join([*inspect.signature(StarlettesMiddleware).parameters][1:]),
    "From Litestar's server-side sessions": " ".join(
        field.name for field in fields(ServerSideSessionConfig) if not field.name.startswith("_")
    ),
    "From starsessions": """
        store lifetime rolling cookie_name cookie_same_site cookie_https_only cookie_domain
        cookie_path serializer url connection prefix gc_ttl SessionAutoloadMiddleware load_session
        is_loaded regenerate_session_id get_session_id get_session_handler get_session_metadata
        get_session_remaining_seconds destroy created last_access SessionNotLoaded""",
    "From fastapi-redis-sdk": """
        session_cookie_name session_cookie_domain session_cookie_path session_cookie_same_site
        session_cookie_https_only session_idle_ttl session_absolute_ttl session_gc_ttl
        session_refresh_on_load session_fail_closed session_always_save session_principal_keys
        principal_of principal_keys subject_of cookie_builder descriptor_of skip challenge
        store_factory coder encryptor id_factory key_prefix SessionDep SessionStateDep
        SessionStoreDep SyncSessionStoreDep rotate reauthenticate revoke revoke_id revoke_all
        list_for_subject count_for_subject valid_session issued_within""",
    "Habits from Flask and Flask-Session": """
        SESSION_COOKIE_NAME SESSION_COOKIE_DOMAIN SESSION_COOKIE_PATH SESSION_COOKIE_HTTPONLY
        SESSION_COOKIE_SECURE SESSION_COOKIE_PARTITIONED SESSION_COOKIE_SAMESITE
        SESSION_REFRESH_EACH_REQUEST PERMANENT_SESSION_LIFETIME SESSION_TYPE SESSION_KEY_PREFIX
        SESSION_USE_SIGNER SESSION_PERMANENT SESSION_ID_LENGTH SESSION_SERIALIZATION_FORMAT
        SESSION_CLEANUP_N_REQUESTS SESSION_REDIS permanent new modified accessed sid
        regenerate regenerate_id""",
    "Habits from Django": """
        SESSION_CACHE_ALIAS SESSION_COOKIE_NAME SESSION_COOKIE_AGE SESSION_COOKIE_DOMAIN
        SESSION_COOKIE_SECURE SESSION_COOKIE_PATH SESSION_COOKIE_HTTPONLY SESSION_COOKIE_SAMESITE
        SESSION_SAVE_EVERY_REQUEST SESSION_EXPIRE_AT_BROWSER_CLOSE SESSION_ENGINE
        SESSION_FILE_PATH SESSION_SERIALIZER set_test_cookie test_cookie_worked delete_test_cookie
        has_key is_empty session_key get_expiry_age get_expiry_date set_expiry
        get_expire_at_browser_close flush cycle_key exists create save delete load
        clear_expired""",
}


@pytest.mark.parametrize("title", OPTIONS)
def test_no_option_is_left_out(title: str) -> None:
    """Each has a place in a table of its library's section."""
    rows = re.findall(r"^\|(.*?)\|", section(title), re.MULTILINE)
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", " ".join(rows)))))
    assert set(OPTIONS[title].split()) - named == set()


def test_the_moves_work(session_redis_url: str) -> None:
    """The blocks for Starlette and starsessions make a session in an app that uses a dict."""
    for code in blocks("docs/moving.md", "python")[:2]:

        def page(request: Request) -> JSONResponse:
            request.session["n"] = request.session.get("n", 0) + 1
            return JSONResponse(request.session)

        app = Starlette(routes=[Route("/", page)])
        namespace = {"app": app, "secret_key": SECRET}
        exec(code.replace("redis://localhost:6379/0", session_redis_url), namespace)
        with TestClient(app, base_url="https://testserver") as client:
            assert [client.get("/").json() for _ in "12"] == [{"n": 1}, {"n": 2}]


def test_the_move_of_a_litestar_app_works(session_redis_url: str) -> None:
    """Its block is a middleware that Litestar takes."""

    @get("/")
    async def page(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        request.session["n"] = request.session.get("n", 0) + 1
        return dict(request.session)

    namespace: dict[str, Any] = {"secret_key": SECRET}
    code = blocks("docs/moving.md", "python")[2]
    exec(code.replace("redis://localhost:6379/0", session_redis_url), namespace)
    with LitestarTestClient(
        Litestar([page], middleware=[namespace["middleware"]], logging_config=None)
    ) as client:
        assert [client.get("/").json() for _ in "12"] == [{"n": 1}, {"n": 2}]


def test_a_login_of_anything_else_is_taken_over_once(sessions: SessionKit) -> None:
    """The user of the old session is logged in here, and after a logout stays logged out."""
    old = {"old-id": "ada"}

    async def take_old_login(request: Request) -> str | None:
        return old.pop(request.cookies.get("old", ""), None)

    namespace: dict[str, Any] = {
        "Request": Request,
        "load_session": load_session,
        "take_old_login": take_old_login,
    }
    exec(blocks("docs/moving.md", "python")[3], namespace)

    async def me(request: Request) -> JSONResponse:
        return JSONResponse(await namespace["current_user"](request))

    async def log_out(request: Request) -> JSONResponse:
        await (await load_session(request)).logout()
        return JSONResponse(None)

    routes = [Route("/", me), Route("/logout", log_out)]
    app = SessionMiddleware(Starlette(routes=routes), store=sessions.store, cookie=PLAIN)
    with TestClient(app, cookies={"old": "old-id"}) as client:
        assert client.get("/").json() == "ada"
        assert client.get("/").json() == "ada"
        client.get("/logout")
        assert client.get("/").json() is None
    assert sessions.keys() == []


def test_from_the_drop_in_to_the_middleware(sessions: SessionKit) -> None:
    """Both read the same session, with the same store and the same name of the cookie."""

    def write(request: Request) -> JSONResponse:
        request.session.update({"user": "ada", "": 0, "cart": ("tea", "milk")})
        return JSONResponse(request.session)

    async def read(request: Request) -> JSONResponse:
        session = await load_session(request)
        await session.login(session["user"])
        return JSONResponse(dict(session))

    before = DropIn(Starlette(routes=[Route("/", write)]), secret_key=SECRET, store=sessions.store)
    cookie = CookiePolicy(name="session", secure=False)
    after = SessionMiddleware(
        Starlette(routes=[Route("/", read)]), store=sessions.store, cookie=cookie
    )
    with TestClient(before) as client:
        client.get("/")
        cookies = client.cookies
    with TestClient(after, cookies=cookies) as client:
        found = client.get("/").json()
    assert (found["user"], found["cart"]) == ("ada", ["tea", "milk"])
