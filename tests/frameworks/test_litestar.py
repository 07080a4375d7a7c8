"""Litestar: the middleware wraps any ASGI app, whatever wrote it."""

from typing import Any

import httpx
from litestar import Litestar, Request, get

from asgi_redis_session import SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..support.serving import serve
from ..support.sessions import PLAIN


@get("/")
async def visit(request: Request[Any, Any, Any]) -> dict[str, int]:
    session = await request.scope["session"].load()  # type: ignore[union-attr]
    session["visits"] = session.get("visits", 0) + 1
    return dict(session)


def test_litestar_apps_have_sessions(sessions: SessionKit) -> None:
    """Counted over three requests through a real uvicorn, and stored as a hash."""
    app = SessionMiddleware(Litestar([visit]), store=sessions.store, cookie=PLAIN)
    with serve(app) as url, httpx.Client(base_url=url) as client:
        assert [client.get("/").json()["visits"] for _ in range(3)] == [1, 2, 3]
        cookies = dict(client.cookies)
    assert sessions.read(cookies, cookie=PLAIN) == {"visits": 3}
