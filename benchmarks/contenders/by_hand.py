"""
What a careful developer writes without a library: redis.asyncio, a hash for each session, reads
and writes in one pipeline each, TTL included.
"""

import json
import secrets
from collections.abc import MutableMapping
from typing import Any

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from .shop import FIELDS, IDLE_SECONDS, REDIS_URL, Sessions, make_app

redis: Any = Redis.from_url(REDIS_URL, decode_responses=True)


class ByHand(Sessions):
    async def load(self, request: Request) -> MutableMapping[str, Any]:
        session_id = request.cookies.get("session")
        if session_id is None:
            return {}
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(_key(session_id)).expire(_key(session_id), IDLE_SECONDS)
            fields, _ = await pipe.execute()
        return {name: json.loads(raw) for name, raw in fields.items()}

    async def fetch(self, request: Request, name: str) -> Any:
        key = _key(request.cookies["session"])
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hget(key, name).expire(key, IDLE_SECONDS)
            raw, _ = await pipe.execute()
        return json.loads(raw)

    async def add(self, request: Request, name: str) -> int:
        session = await self.load(request)
        session[name] += 1
        await self._write(request.cookies["session"], {name: session[name]})
        value: int = session[name]
        return value

    async def start(self, request: Request, response: Response, data: dict[str, Any]) -> None:
        session_id = secrets.token_urlsafe(32)
        await self._write(session_id, data)
        response.set_cookie("session", session_id, httponly=True, samesite="lax")

    async def login(self, request: Request, response: Response, user: str) -> None:
        if old := request.cookies.get("session"):
            await redis.delete(_key(old))
        await self.start(request, response, FIELDS | {"user_id": user})

    async def logout(self, request: Request, response: Response) -> None:
        await redis.delete(_key(request.cookies["session"]))
        response.delete_cookie("session")

    async def _write(self, session_id: str, data: dict[str, Any]) -> None:
        encoded = {name: json.dumps(value) for name, value in data.items()}
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(_key(session_id), mapping=encoded).expire(_key(session_id), IDLE_SECONDS)
            await pipe.execute()


def _key(session_id: str) -> str:
    return f"session:{session_id}"


app = make_app(ByHand(), [], redis.aclose)
