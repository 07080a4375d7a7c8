"""
A visit counter: how does a Starlette app read and write its session?

    uvicorn examples.counter:app

Open http://127.0.0.1:8000 and reload. The page at /about never loads the session, so it waits for
no Redis command. $REDIS_URL names your Redis.
"""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session


async def visit(request: Request) -> PlainTextResponse:
    session = await load_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return PlainTextResponse(f"Visit {session['visits']}\n")


async def about(request: Request) -> PlainTextResponse:
    return PlainTextResponse("This page is the same for everybody.\n")


app = Starlette(
    routes=[Route("/", visit), Route("/about", about)],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
