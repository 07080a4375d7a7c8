"""
Server-sent events for users who wait for a long time: how does a stream end with its session?

    uvicorn examples.recipes.alerts:app

Redis reports that a session has ended (`push=True`), so that none of ten thousand open streams asks
for it. The browser is told why, and can show it. $REDIS_URL names your Redis.
"""

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.starlette import ending_when_revoked, load_session

store = SessionStore.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), push=True)


async def login(request: Request) -> PlainTextResponse:
    session = await load_session(request)
    await session.login(request.path_params["user"])
    return PlainTextResponse("logged in\n")


async def new_password(request: Request) -> PlainTextResponse:
    user = request.path_params["user"]
    number = await store.users.revoke_all(user, reason="Your password was changed.")
    return PlainTextResponse(f"{number} sessions have ended\n")


async def new_alerts() -> AsyncIterator[str]:
    yield "welcome"
    await asyncio.Event().wait()  # there are few alerts


async def alerts(request: Request) -> StreamingResponse:
    session = await load_session(request)

    async def events() -> AsyncIterator[str]:
        async for alert in ending_when_revoked(new_alerts(), session):
            yield f"data: {alert}\n\n"
        if session.absence is not None:
            yield f"event: end\ndata: {session.absence.reason}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/login/{user}", login, methods=["POST"]),
        Route("/password/{user}", new_password, methods=["POST"]),
        Route("/alerts", alerts),
    ],
    middleware=[
        Middleware(SessionMiddleware, store=store, cookie=CookiePolicy.for_development()),
    ],
)
