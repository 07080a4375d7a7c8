"""An app that counts visits, for servers that run in a process of their own."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN


async def visit(request: Request) -> JSONResponse:
    session = await load_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return JSONResponse(session["visits"])


async def read(request: Request) -> JSONResponse:
    return JSONResponse(dict(await load_session(request)))


async def untouched(request: Request) -> PlainTextResponse:
    return PlainTextResponse("untouched")


store = SessionStore.from_url(
    os.environ["REDIS_URL"],
    prefix=os.environ["SESSION_PREFIX"],
    timeout=float(os.environ["SESSION_TIMEOUT"]),
)
app = Starlette(
    routes=[
        Route("/visit", visit, methods=["POST"]),
        Route("/read", read),
        Route("/untouched", untouched),
    ],
    middleware=[Middleware(SessionMiddleware, store=store, cookie=PLAIN)],
)
