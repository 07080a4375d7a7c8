"""
A session store in the style of redis.io's guide for redis-py, on redis.asyncio: WATCH, look whether
the session is there, MULTI, write the time of the last access, read, EXPIRE, EXEC; again if
somebody else was faster. The guide stores text; other values are JSON here.
"""

import json
import secrets
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import WatchError
from starlette.requests import Request
from starlette.responses import Response

from .shop import FIELDS, IDLE_SECONDS, REDIS_URL, Sessions, make_app

redis: Any = Redis.from_url(REDIS_URL, decode_responses=True)
RESERVED = {"created_at", "last_accessed_at", "session_ttl"}


class Guide(Sessions):
    async def load(self, request: Request) -> MutableMapping[str, Any]:
        session_id = request.cookies.get("session")
        return {} if session_id is None else await self._touch(session_id, {})

    async def add(self, request: Request, name: str) -> int:
        session = await self.load(request)
        session[name] += 1
        await self._touch(request.cookies["session"], {name: session[name]})
        value: int = session[name]
        return value

    async def start(self, request: Request, response: Response, data: dict[str, Any]) -> None:
        session_id = secrets.token_urlsafe(32)
        now = _now()
        fields = {name: json.dumps(value) for name, value in data.items()} | {
            "created_at": now,
            "last_accessed_at": now,
            "session_ttl": str(IDLE_SECONDS),
        }
        async with redis.pipeline() as pipe:
            pipe.hset(_key(session_id), mapping=fields).expire(_key(session_id), IDLE_SECONDS)
            await pipe.execute()
        response.set_cookie("session", session_id, httponly=True, samesite="lax")

    async def login(self, request: Request, response: Response, user: str) -> None:
        if old := request.cookies.get("session"):
            await redis.delete(_key(old))
        await self.start(request, response, FIELDS | {"user_id": user})

    async def logout(self, request: Request, response: Response) -> None:
        await redis.delete(_key(request.cookies["session"]))
        response.delete_cookie("session")

    async def _touch(self, session_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        key = _key(session_id)
        async with redis.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch(key)
                    stored = await pipe.hgetall(key)
                    if "session_ttl" not in stored:
                        return {}
                    encoded = {name: json.dumps(value) for name, value in changes.items()}
                    pipe.multi()
                    pipe.hset(key, mapping=encoded | {"last_accessed_at": _now()})
                    pipe.expire(key, int(stored["session_ttl"]))
                    pipe.hgetall(key)
                    *_, fields = await pipe.execute()
                    break
                except WatchError:
                    continue
        return {name: json.loads(raw) for name, raw in fields.items() if name not in RESERVED}


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()


app = make_app(Guide(), [], redis.aclose)
