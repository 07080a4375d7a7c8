"""
The least work for Redis: plain commands, and one pipeline for all requests that wait at once.

No session library does this, and no app should: nothing is guarded. A write stores into a session
that was ended meanwhile, a failed batch fails every request in it, and a reply that gets lost gives
each request behind it somebody else's session. It is here to compare the CPU of Redis with: HGETALL
and PEXPIRE for a read, and for a write HSET and PEXPIRE on top.
"""

import asyncio
import json
import secrets
from collections.abc import MutableMapping
from typing import Any

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from .shop import FIELDS, IDLE_SECONDS, REDIS_URL, Sessions, make_app

redis: Any = Redis.from_url(REDIS_URL, decode_responses=True)
IDLE_MS = IDLE_SECONDS * 1000


class Pipeline:
    """Sends what has come while the pipeline before it was on its way."""

    def __init__(self) -> None:
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[list[Any]]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def send(self, *commands: tuple[Any, ...]) -> list[Any]:
        reply: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, reply))
        if self._sender is None:
            self._sender = asyncio.create_task(self._run())
        return await reply

    async def _run(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            async with redis.pipeline(transaction=False) as pipe:
                for commands, _ in taken:
                    for command in commands:
                        pipe.execute_command(*command)
                replies = iter(await pipe.execute())
            for commands, reply in taken:
                reply.set_result([next(replies) for _ in commands])
        self._sender = None


class SharedPipeline(Sessions):
    def __init__(self) -> None:
        self._pipeline = Pipeline()

    async def load(self, request: Request) -> MutableMapping[str, Any]:
        session_id = request.cookies.get("session")
        if session_id is None:
            return {}
        key = _key(session_id)
        fields, _ = await self._pipeline.send(("HGETALL", key), ("PEXPIRE", key, IDLE_MS))
        return {name: json.loads(raw) for name, raw in fields.items()}

    async def fetch(self, request: Request, name: str) -> Any:
        key = _key(request.cookies["session"])
        raw, _ = await self._pipeline.send(("HGET", key, name), ("PEXPIRE", key, IDLE_MS))
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
            await self._pipeline.send(("DEL", _key(old)))
        await self.start(request, response, FIELDS | {"user_id": user})

    async def logout(self, request: Request, response: Response) -> None:
        await self._pipeline.send(("DEL", _key(request.cookies["session"])))
        response.delete_cookie("session")

    async def _write(self, session_id: str, data: dict[str, Any]) -> None:
        key = _key(session_id)
        parts = [part for name, value in data.items() for part in (name, json.dumps(value))]
        await self._pipeline.send(("HSET", key, *parts), ("PEXPIRE", key, IDLE_MS))


def _key(session_id: str) -> str:
    return f"session:{session_id}"


app = make_app(SharedPipeline(), [], redis.aclose)
