"""
Flash messages: how is each of them shown once?

    uvicorn examples.recipes.flash_messages:app

`take` reads the messages and removes them in one step in Redis: of two pages that load at the same
time, one shows them. $REDIS_URL names your Redis.
"""

import os
from html import escape

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session


async def flash(connection: HTTPConnection, kind: str, text: str) -> None:
    session = await load_session(connection)
    await session.transform("flashes", lambda flashes: [*flashes, [kind, text]], default=[])


async def take_flashes(connection: HTTPConnection) -> list[list[str]]:
    session = await load_session(connection)
    flashes: list[list[str]] = await session.take("flashes", [])
    return flashes


async def home(request: Request) -> HTMLResponse:
    shown = [f"<p class={kind}>{escape(text)}" for kind, text in await take_flashes(request)]
    form = "<form method=post action=/save><button>Save</button></form>"
    return HTMLResponse("\n".join([*shown, form]))


async def save(request: Request) -> RedirectResponse:
    await flash(request, "info", "Saved.")
    return RedirectResponse("/", 303)


app = Starlette(
    routes=[Route("/", home), Route("/save", save, methods=["POST"])],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
