"""What stays open longer than the idle time keeps its session by `touch()`."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

#: Milliseconds: nearly over, and more than a busy machine takes for one request.
SOON = 60_000


@pytest.mark.parametrize("path", ["/events", "/poll"])
def test_touch_keeps_a_session_alive(sessions: SessionKit, admin: Any, path: str) -> None:
    """Server-sent events and a long poll: their TTL was nearly over, and is whole again."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    key = f"{sessions.prefix}:{sessions.handle_of(cookies, cookie=PLAIN)}"

    async def once(session: Any) -> str:
        admin.pexpire(key, SOON)  # as after half an hour of waiting
        return f"data: {await session.touch()} {admin.pttl(key) > SOON}\n\n"

    async def events(request: Request) -> Response:
        session = await request.session.load()  # type: ignore[attr-defined]

        async def stream() -> AsyncIterator[str]:
            for _ in "12":
                yield await once(session)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def poll(request: Request) -> Response:
        session = await request.session.load()  # type: ignore[attr-defined]
        return PlainTextResponse(await once(session) + await once(session))

    app = Starlette(routes=[Route("/events", events), Route("/poll", poll)])
    with serve(SessionMiddleware(app, store=sessions.store, cookie=PLAIN)) as url:
        with httpx.Client(base_url=url, cookies=cookies, timeout=PATIENCE) as client:
            assert client.get(path).text == "data: True True\n\n" * 2
