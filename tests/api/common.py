"""What the tests of this folder share: an app of one act, sessions, and a Redis that is away."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore

from ..support.internals import handle_of, new_id, open_session
from ..support.serving import serve

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "NOWHERE",
    "PLAIN",
    "WELL_FORMED",
    "Act",
    "Make",
    "browser",
    "clear",
    "create",
    "log_in",
    "logout",
    "logout_in_edit",
    "serve",
]

#: Works over plain HTTP.
PLAIN = CookiePolicy(name="session", secure=False)
#: A URL at which no server listens: to connect is refused at once.
NOWHERE = "redis://127.0.0.1:1"
#: An id that no session has.
WELL_FORMED = "A" * 43

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

#: Makes a store on the tests' Redis and under their prefix; it is closed after the test.
Make = Callable[..., SessionStore]
#: What an endpoint does with its session; what it returns is the response.
Act = Callable[[Session], Any]


async def create(store: SessionStore, **fields: object) -> str:
    """A session with these fields; returns its id."""
    session = await open_session(store).load()
    session.update(fields)
    await session.save()
    return new_id(session)


async def log_in(
    store: SessionStore, user: str | int, session_id: str | None = None, **lifetime: Any
) -> str:
    """A session of this user; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login(user, **lifetime)
    await session.save()
    return new_id(session)


async def logout(store: SessionStore, session_id: str) -> None:
    await open_session(store, session_id).logout()


async def clear(store: SessionStore, session_id: str) -> None:
    session = await open_session(store, session_id).load()
    session.clear()
    await session.save()


async def logout_in_edit(store: SessionStore, session_id: str) -> None:
    async with store.edit(handle_of(store, session_id)) as session:
        await session.logout()


@asynccontextmanager
async def browser(
    store: SessionStore, *acts: Act, session_id: str | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """
    A client of an app with one page for each act, under its name; *options* are the middleware's.
    """

    def page(act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            answer = act(request.scope["session"])
            if inspect.isawaitable(answer):
                answer = await answer
            return answer if isinstance(answer, Response) else PlainTextResponse(str(answer))

        return endpoint

    routes = [Route(f"/{act.__name__}", page(act)) for act in acts]
    app = SessionMiddleware(Starlette(routes=routes), store=store, cookie=PLAIN, **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    cookies = None if session_id is None else {"session": session_id}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://app", cookies=cookies
    ) as client:
        yield client
        await store.drain()
