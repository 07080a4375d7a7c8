"""asgi-redis-session as it comes: lazy, every request extends the TTL."""

import os
from collections.abc import MutableMapping
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore

from .shop import FIELDS, REDIS_URL, Sessions, make_app

store = SessionStore.from_url(
    REDIS_URL,
    # valgrind (benchmarks/instructions.py) takes its time.
    timeout=float(os.environ.get("BENCH_TIMEOUT", "2")),
    encryption="BENCH_ENCRYPTION" in os.environ,
)
policy = CookiePolicy(name="session", secure=False)


class Ours(Sessions):
    async def load(self, request: Request) -> MutableMapping[str, Any]:
        return await session_of(request).load()

    async def fetch(self, request: Request, name: str) -> Any:
        return (await session_of(request).fetch(name))[name]

    async def login(self, request: Request, response: Response, user: str) -> None:
        session = session_of(request)
        await session.login(user)
        session.update(FIELDS)

    async def logout(self, request: Request, response: Response) -> None:
        await session_of(request).logout()


def session_of(request: Request) -> Session:
    session: Any = request.session
    assert isinstance(session, Session)
    return session


app = make_app(Ours(), [Middleware(SessionMiddleware, store=store, cookie=policy)])
