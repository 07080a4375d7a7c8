"""
One app in each step of the way to encryption: `uvicorn --factory tests.encryption.app:make`.

The environment says which: ENCRYPTION is `off`, `read`, `migrate` or `on`.
"""

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore

STEPS: dict[str, Any] = {"off": False, "read": "read", "migrate": "migrate", "on": True}


async def show(request: Request) -> JSONResponse:
    session: Session = await request.scope["session"].load()
    return JSONResponse({"user": session.user_id, "fields": dict(session)})


async def log_in(request: Request) -> JSONResponse:
    session: Session = await request.scope["session"].load()
    await session.login(request.path_params["user"])
    session["owner"] = request.path_params["user"]
    return await show(request)


async def renew(request: Request) -> JSONResponse:
    session: Session = await request.scope["session"].load()
    session.renew()
    return await show(request)


async def write(request: Request) -> JSONResponse:
    session: Session = await request.scope["session"].load()
    session[request.path_params["name"]] = "written"
    return await show(request)


async def add(request: Request) -> JSONResponse:
    item = request.path_params["item"]
    session: Session = request.scope["session"]
    await session.transform("cart", lambda cart: [*cart, item], default=[])
    return await show(request)


def make() -> Any:
    encryption = STEPS[os.environ["ENCRYPTION"]]
    store = SessionStore.from_url(
        os.environ["REDIS_URL"],
        prefix=os.environ["SESSION_PREFIX"],
        timeout=20,
        encryption=encryption,
    )
    app = Starlette(
        routes=[
            Route("/show", show),
            Route("/login/{user}", log_in, methods=["POST"]),
            Route("/renew", renew, methods=["POST"]),
            Route("/write/{name}", write, methods=["POST"]),
            Route("/add/{item}", add, methods=["POST"]),
        ]
    )
    cookie = CookiePolicy(name="session", secure=False)
    return SessionMiddleware(app, store=store, cookie=cookie)
