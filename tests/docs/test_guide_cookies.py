"""The guide's blocks on cookies of one request, and on several sessions, are run here."""

import warnings
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, HeaderPolicy, Session, SessionMiddleware
from asgi_redis_session.fastapi import session_dep, user_dep
from asgi_redis_session.testing import SessionKit

from ..support.documents import guide

pytestmark = pytest.mark.anywhere


def test_the_guides_cookie_follows_the_scheme(sessions: SessionKit) -> None:
    """Plain HTTP gets a cookie for development, HTTPS the one for production."""

    async def write(request: Request) -> JSONResponse:
        session = await request.scope["session"].load()
        session["n"] = session.get("n", 0) + 1
        return JSONResponse(session["n"])

    app = Starlette(routes=[Route("/", write)])
    exec(
        guide("def cookie(scope)"),
        {
            "app": app,
            "store": sessions.store,
            "warnings": warnings,
            "CookiePolicy": CookiePolicy,
            "SessionMiddleware": SessionMiddleware,
        },
    )
    for scheme, start in (("http", "session="), ("https", "__Host-session=")):
        with TestClient(app, base_url=f"{scheme}://app") as client:
            answer = client.get("/")
            assert answer.headers["set-cookie"].startswith(start)
            assert ("Secure" in answer.headers["set-cookie"]) is (scheme == "https")
            assert client.get("/").json() == 2


def test_the_guides_app_has_two_sessions(sessions: SessionKit) -> None:
    """Leaving the admin area leaves the other session."""
    app = FastAPI()
    exec(
        guide('key="admin_session"'),
        {
            "app": app,
            "store": sessions.store,
            "admin_store": sessions.store,
            "Annotated": Annotated,
            "CookiePolicy": CookiePolicy,
            "Depends": Depends,
            "Session": Session,
            "SessionMiddleware": SessionMiddleware,
            "session_dep": session_dep,
            "user_dep": user_dep,
        },
    )
    admin = CookiePolicy(name="__Host-admin")
    cookies = sessions.cookies(user="ann") | sessions.cookies(user="root", cookie=admin)
    with TestClient(app, base_url="https://app", cookies=cookies) as client:
        assert client.post("/admin/logout").json() == {"goodbye": "root"}
        assert client.post("/admin/logout").status_code == 401
    assert sessions.read(cookies, cookie=admin) == {}
    assert sessions.handle_of(cookies) is not None
    assert len(sessions.keys()) == 2


def test_the_guides_app_takes_ids_in_a_header(sessions: SessionKit) -> None:
    """Also for a page of another origin, which may read the new id and send it."""

    async def login(request: Request) -> JSONResponse:
        session = await request.scope["session"].load()
        if session.user_id is None:
            await session.login("ann")
        return JSONResponse(session.user_id)

    app = Starlette(routes=[Route("/", login, methods=["POST"])])
    names: dict[str, Any] = {
        "app": app,
        "store": sessions.store,
        "CORSMiddleware": CORSMiddleware,
        "HeaderPolicy": HeaderPolicy,
        "SessionMiddleware": SessionMiddleware,
    }
    exec(guide("carrier=HeaderPolicy()"), names)
    exec(guide("expose_headers="), names)
    origin = {"origin": "https://app.example.com"}
    with TestClient(app, base_url="https://api.example.com") as client:
        answer = client.post("/", headers={**origin, "authorization": "Bearer new"})
        assert answer.headers["access-control-expose-headers"] == "Session-Id"
        mine = {**origin, "authorization": f"Bearer {answer.headers['session-id']}"}
        assert "session-id" not in client.post("/", headers=mine).headers
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        preflight = client.options("/", headers={**origin, **asked})
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
