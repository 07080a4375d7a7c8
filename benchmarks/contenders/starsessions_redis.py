"""starsessions: loaded where it is used (cheaper than its autoload), rolling, in Redis."""

from collections.abc import MutableMapping
from typing import Any

from redis.asyncio import Redis
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starsessions import SessionMiddleware, load_session, regenerate_session_id
from starsessions.stores.redis import RedisStore

from .shop import FIELDS, IDLE_SECONDS, REDIS_URL, Sessions, make_app

redis = Redis.from_url(REDIS_URL)


class Starsessions(Sessions):
    async def load(self, request: Request) -> MutableMapping[str, Any]:
        await load_session(request)
        return request.session

    async def login(self, request: Request, response: Response, user: str) -> None:
        session = await self.load(request)
        session.update(FIELDS, user_id=user)
        regenerate_session_id(request)


app = make_app(
    Starsessions(),
    [
        Middleware(
            SessionMiddleware,
            store=RedisStore(connection=redis),
            lifetime=IDLE_SECONDS,
            rolling=True,
            cookie_https_only=False,
        )
    ],
    redis.aclose,
)
