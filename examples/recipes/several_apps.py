"""
Several apps on one Redis: what keeps their sessions apart, and when do they share them?

    uvicorn examples.recipes.several_apps:app

The shop and its admin have a prefix in Redis and a cookie each: logging in to one is no login to
the other. Apps that should share sessions have the same prefix, secret and cookie. $REDIS_URL names
your Redis.
"""

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from asgi_redis_session import CookiePolicy, Lifetime, SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
warnings.filterwarnings("ignore", "CookiePolicy", UserWarning)  # plain HTTP, for this example


async def me(request: Request) -> JSONResponse:
    session = await load_session(request)
    return JSONResponse(session.user_id)


async def login(request: Request) -> JSONResponse:
    session = await load_session(request)
    await session.login(request.path_params["user"])
    return await me(request)


def app_of(name: str, lifetime: Lifetime) -> SessionMiddleware:
    return SessionMiddleware(
        Starlette(routes=[Route("/", me), Route("/login/{user}", login, methods=["POST"])]),
        store=SessionStore.from_url(URL, prefix=f"{name}:session", lifetime=lifetime),
        cookie=CookiePolicy(name=f"{name}_session", secure=False),
    )


shop = app_of("shop", Lifetime())
admin = app_of("admin", Lifetime(idle=300, absolute=3600))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    for mounted in (shop, admin):  # which are told of no shutdown
        await mounted.store.aclose()


app = Starlette(routes=[Mount("/admin", admin), Mount("/", shop)], lifespan=lifespan)
