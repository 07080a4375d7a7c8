"""
Server-sent events and WebSockets: how does a session stay alive while one of them is open?

    uvicorn examples.recipes.live:app

A request extends the TTL once. A stream or a socket that is open for longer than the idle time
calls `touch`, which also reports whether the session has ended. $REDIS_URL names your Redis.
"""

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import closing_when_revoked, load_session

EVERY = float(os.environ.get("EVERY", "30"))  # seconds; less than the idle time


async def login(request: Request) -> PlainTextResponse:
    session = await load_session(request)
    await session.login(request.path_params["user"])
    return PlainTextResponse("logged in\n")


async def logout(request: Request) -> PlainTextResponse:
    session = await load_session(request)
    await session.logout()
    return PlainTextResponse("logged out\n")


async def prices(request: Request) -> StreamingResponse:
    session = await load_session(request)

    async def events() -> AsyncIterator[str]:
        while await session.touch():
            yield "data: 42\n\n"
            await asyncio.sleep(EVERY)
        yield "event: end\ndata: log in again\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def chat(websocket: WebSocket) -> None:
    session = await load_session(websocket)
    if session.user_id is None:
        await websocket.close(1008)
        return
    await websocket.accept()
    async with closing_when_revoked(websocket):
        async for text in websocket.iter_text():
            await session.touch()  # somebody is there
            await websocket.send_text(f"{session.user_id}: {text}")


app = Starlette(
    routes=[
        Route("/login/{user}", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/prices", prices),
        WebSocketRoute("/chat", chat),
    ],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
