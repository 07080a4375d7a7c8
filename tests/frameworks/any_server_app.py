"""An app for any ASGI server: sessions, a stream, a socket and a lifespan."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN, create

#: Where it is noted what has happened, a line each.
NOTES = Path(os.environ["NOTES"])
store = SessionStore.from_url(
    os.environ["REDIS_URL"], prefix=os.environ["SESSION_PREFIX"], timeout=20
)


def note(what: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{what}\n")


if os.environ.get("USED_AT_IMPORT"):
    # As an app that reads its settings through the store, with a loop that it never closes: a
    # server that forks afterwards (gunicorn --preload) hands an open connection to its workers.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(create(store, who="import"))
    note(f"used in {os.getpid()}")


async def login(request: Request) -> JSONResponse:
    session = await load_session(request)
    await session.login(request.path_params["user"])
    return JSONResponse(os.getpid())


async def visit(request: Request) -> JSONResponse:
    return JSONResponse(await (await load_session(request)).increment("visits"))


async def read(request: Request) -> JSONResponse:
    session = await load_session(request)
    return JSONResponse({**session, "user": session.user_id, "pid": os.getpid()})


async def stream(request: Request) -> StreamingResponse:
    """What is staged before the first byte is committed with it, and the rest at the end."""
    session = await load_session(request)
    session["streamed"] = "begun"
    is_endless = request.path_params["length"] == "endless"

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"first\n"
            while is_endless:
                await asyncio.sleep(0.01)
                yield b"again\n" * 1000
            session["streamed"] = "ended"
            yield b"last\n"
        finally:
            note("stream ended")

    return StreamingResponse(chunks())


async def socket(websocket: WebSocket) -> None:
    session = await load_session(websocket)
    await websocket.accept()
    try:
        while True:
            session["said"] = [*session.get("said", []), await websocket.receive_text()]
            await session.save()
            await websocket.send_json(session["said"])
    except WebSocketDisconnect:
        note("socket ended")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with store:
        note("started")
        yield
    note("stopped")


app = Starlette(
    routes=[
        Route("/login/{user}", login, methods=["POST"]),
        Route("/visit", visit, methods=["POST"]),
        Route("/read", read),
        Route("/stream/{length}", stream),
        WebSocketRoute("/socket", socket),
    ],
    middleware=[Middleware(SessionMiddleware, store=store, cookie=PLAIN)],
    lifespan=lifespan,
)
