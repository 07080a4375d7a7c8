"""
An app that runs on version 0.1 and on this one: `uvicorn app:app`, with this folder as app-dir.

It imports nothing of the tests, so that `asgi_redis_session` is what PYTHONPATH says. A request
with `?pause=name` stops once its session is loaded, until `/go/name`; `/arrived/name` answers when
it has got so far.
"""

import asyncio
import os
from collections import defaultdict
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import asgi_redis_session
from asgi_redis_session import (
    CookiePolicy,
    Lifetime,
    Session,
    SessionGone,
    SessionMiddleware,
    SessionStore,
)
from asgi_redis_session.starlette import load_session

IS_OLD = asgi_redis_session.__version__ == "0.1.0" and not hasattr(Session, "touch")

store = SessionStore.from_url(
    os.environ["REDIS_URL"],
    prefix=os.environ["SESSION_PREFIX"],
    max_sessions_per_user=int(os.environ["SESSION_LIMIT"]),
    timeout=20,
)
arrived: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
go: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def loaded(request: Request) -> Session:
    session = await load_session(request)
    if name := request.query_params.get("pause"):
        arrived[name].set()
        await go[name].wait()
    return session


async def write(request: Request) -> JSONResponse:
    """Set the fields of the body; None removes one."""
    session = await loaded(request)
    for name, value in (await request.json()).items():
        if value is None:
            session.pop(name, None)
        else:
            session[name] = value
    return JSONResponse({})


async def write_for(request: Request) -> JSONResponse:
    """Set fields that end in an hour. Version 0.1 can't."""
    session: Any = await loaded(request)
    for name, value in (await request.json()).items():
        session.set(name, value, ttl=3600)
    return JSONResponse({})


async def read(request: Request) -> JSONResponse:
    session = await loaded(request)
    return JSONResponse({"user": session.user_id, "fields": dict(session)})


async def fetch(request: Request) -> JSONResponse:
    session: Session = request.scope["session"]
    return JSONResponse(await session.fetch(*request.query_params["names"].split(",")))


async def log_in(request: Request) -> JSONResponse:
    session = await loaded(request)
    await session.login(request.path_params["user"])
    return JSONResponse({})


async def log_in_by(request: Request) -> JSONResponse:
    """With methods. Version 0.1 knows none."""
    session: Any = await loaded(request)
    await session.login(request.path_params["user"], amr=["pwd", "otp"])
    return JSONResponse({})


async def methods(request: Request) -> JSONResponse:
    session: Any = await loaded(request)
    return JSONResponse([session.is_fresh(3600, amr=["otp"]), *session.amr])


async def log_out(request: Request) -> JSONResponse:
    await (await loaded(request)).logout()
    return JSONResponse({})


async def renew(request: Request) -> JSONResponse:
    (await loaded(request)).renew()
    return JSONResponse({})


async def shorten(request: Request) -> JSONResponse:
    session: Any = await loaded(request)
    idle = int(request.path_params["idle"])
    if IS_OLD:
        session.set_lifetime(Lifetime(idle=idle))
    else:
        session.set_lifetime(idle=idle)
    return JSONResponse({})


async def increment(request: Request) -> JSONResponse:
    session: Session = request.scope["session"]
    try:
        return JSONResponse(await session.increment("n"))
    except SessionGone:
        return JSONResponse("gone")


async def still_valid(request: Request) -> JSONResponse:
    return JSONResponse(await request.scope["session"].still_valid())


async def listed(request: Request) -> JSONResponse:
    user = request.path_params["user"]
    infos = await store.users.list(user)
    assert len(infos) == await store.users.count(user)
    return JSONResponse([info.handle for info in infos])


async def revoke_all(request: Request) -> JSONResponse:
    return JSONResponse(await store.users.revoke_all(request.path_params["user"]))


async def revoke_others(request: Request) -> JSONResponse:
    return JSONResponse(await store.users.revoke_others(await loaded(request)))


async def arrive(request: Request) -> JSONResponse:
    await arrived[request.path_params["name"]].wait()
    return JSONResponse({})


async def let_go(request: Request) -> JSONResponse:
    go[request.path_params["name"]].set()
    return JSONResponse({})


async def which(request: Request) -> JSONResponse:
    return JSONResponse([IS_OLD, asgi_redis_session.__file__])


app = Starlette(
    routes=[
        Route("/write", write, methods=["POST"]),
        Route("/write-for-an-hour", write_for, methods=["POST"]),
        Route("/read", read),
        Route("/fetch", fetch),
        Route("/login/{user}", log_in, methods=["POST"]),
        Route("/login-by-otp/{user}", log_in_by, methods=["POST"]),
        Route("/methods", methods),
        Route("/logout", log_out, methods=["POST"]),
        Route("/renew", renew, methods=["POST"]),
        Route("/shorten/{idle}", shorten, methods=["POST"]),
        Route("/increment", increment, methods=["POST"]),
        Route("/still-valid", still_valid),
        Route("/users/{user}", listed),
        Route("/revoke-all/{user}", revoke_all, methods=["POST"]),
        Route("/revoke-others", revoke_others, methods=["POST"]),
        Route("/arrived/{name}", arrive),
        Route("/go/{name}", let_go),
        Route("/which", which),
    ],
    middleware=[
        Middleware(
            SessionMiddleware, store=store, cookie=CookiePolicy(name="session", secure=False)
        )
    ],
)
