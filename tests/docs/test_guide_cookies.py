"""The guide's blocks on cookies that depend on the request or the login are run here."""

import warnings
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..support.documents import blocks

pytestmark = pytest.mark.anywhere


def run_block(text: str, names: dict[str, Any]) -> None:
    """Run the one block of the guide that contains this text."""
    (block,) = [block for block in blocks("docs/guide.md", "python") if text in block]
    exec(block, names)


def test_the_guides_cookie_follows_the_scheme(sessions: SessionKit) -> None:
    """Plain HTTP gets a cookie for development, HTTPS the one for production."""

    async def write(request: Request) -> JSONResponse:
        session = await request.scope["session"].load()
        session["n"] = session.get("n", 0) + 1
        return JSONResponse(session["n"])

    app = Starlette(routes=[Route("/", write)])
    run_block(
        "def cookie(scope)",
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
