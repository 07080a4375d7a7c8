"""An app whose users log in and out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import SessionMiddleware, SessionStore, SessionTooLate
from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN


def app_of(store: SessionStore) -> SessionMiddleware:
    """`/in/ann` logs Ann in, and then does as the query says; `/` tells who is there."""

    async def enter(request: Request) -> Response:
        session = await load_session(request)
        await session.login(request.path_params["user"])
        session["greeted"] = True
        if request.query_params.get("then") == "raise":
            raise LookupError
        if request.query_params.get("then") == "pause":
            await request.app.state.go_on.wait()
        return PlainTextResponse("in", int(request.query_params.get("status", 200)))

    async def late(request: Request) -> Response:
        session = await load_session(request)

        async def body() -> AsyncIterator[str]:
            with pytest.raises(SessionTooLate):
                await session.login("ann")
            yield "too late"

        return StreamingResponse(body())

    async def tell(request: Request) -> Response:
        session = await load_session(request)
        return JSONResponse([session.user_id, dict(session)])

    async def renew(request: Request) -> Response:
        session = await load_session(request)
        session.renew()
        await asyncio.sleep(0.01)
        return PlainTextResponse("renewed")

    routes = [
        Route("/in/{user}", enter),
        Route("/late", late),
        Route("/renew", renew),
        Route("/", tell),
    ]
    app = Starlette(routes=routes)
    app.state.go_on = asyncio.Event()
    return SessionMiddleware(app, store=store, cookie=PLAIN)


def client_of(app: Any, session_id: str | None = None) -> httpx.AsyncClient:
    cookies = {} if session_id is None else {PLAIN.name: session_id}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", cookies=cookies)
