"""Our 503 in an app that browsers call across origins."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import SessionMiddleware

from ..support.sessions import PLAIN

NOWHERE = "redis://127.0.0.1:1"
ORIGIN = "https://front.example.com"
CORS: dict[str, Any] = {"allow_origins": [ORIGIN], "allow_credentials": True}


async def read(request: Request) -> Response:
    await request.session.load()  # type: ignore[attr-defined]
    raise AssertionError("Redis is down")


apology = CORSMiddleware(JSONResponse({"error": "session"}, 503), **CORS)

CORS_OUTSIDE, CORS_INSIDE = [0, 1], [1, 0]


@pytest.mark.parametrize(
    ("order", "options", "allowed"),
    [
        (CORS_OUTSIDE, {}, ORIGIN),
        (CORS_INSIDE, {"unavailable": apology}, ORIGIN),
        (CORS_INSIDE, {}, None),
    ],
    ids=["outside", "inside, with a responder of its own", "inside"],
)
def test_a_503_and_cors(order: list[int], options: dict[str, Any], allowed: str | None) -> None:
    """A browser can read it if CORSMiddleware is outside, or around `unavailable=`."""
    both = [
        Middleware(CORSMiddleware, **CORS),
        Middleware(SessionMiddleware, store=NOWHERE, cookie=PLAIN, **options),
    ]
    app = Starlette(routes=[Route("/", read)], middleware=[both[place] for place in order])
    with TestClient(app, cookies={"session": "A" * 43}) as client:
        answer = client.get("/", headers={"origin": ORIGIN})
    assert answer.status_code == 503
    assert answer.headers.get("access-control-allow-origin") == allowed
