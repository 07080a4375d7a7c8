"""
The app that every Starlette contender serves; only how a session is reached differs.

A contender subclasses `Sessions` and overrides what its library does in a way of its own.
"""

import gc
import os
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

REDIS_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
FIELDS = {"user": "ada", "n": 1, "theme": "dark", "cart": ["SKU-1"], "currency": "EUR"}
BIG = {f"field{i:03}": f"value {i:03} of two hundred" for i in range(199)} | {"n": 1}
CART = FIELDS | {"cart": [f"SKU-{i:04}-{i:04}" for i in range(72)]}  # 1 KB as JSON
#: Sessions of so many fields with 16 bytes each.
BY_FIELDS = {
    f"f{n}": {f"field{i:03}": f"value {i:03} {'x' * 6}" for i in range(n)} for n in (10, 50, 200)
}
SIZES: dict[str, dict[str, Any]] = {"small": FIELDS, "big": BIG, "cart": CART, **BY_FIELDS}
IDLE_SECONDS = 1800
#: Each login is somebody else's: nobody has thousands of sessions.
users = count(1)


class Sessions:
    """How a session is reached. These are the ways of a library that fills `request.session`."""

    async def load(self, request: Request) -> MutableMapping[str, Any]:
        return request.session

    async def fetch(self, request: Request, name: str) -> Any:
        """One field of a big session."""
        return (await self.load(request))[name]

    async def add(self, request: Request, name: str) -> int:
        """Read the session, add one to a field, and see to it that this is stored."""
        session = await self.load(request)
        session[name] += 1
        value: int = session[name]
        return value

    async def start(self, request: Request, response: Response, data: dict[str, Any]) -> None:
        """Make a session with this data; the response gives its cookie."""
        (await self.load(request)).update(data)

    async def login(self, request: Request, response: Response, user: str) -> None:
        session = await self.load(request)
        session.update(FIELDS, user_id=user)

    async def logout(self, request: Request, response: Response) -> None:
        (await self.load(request)).clear()


def make_app(  # noqa: C901  (nine small endpoints)
    sessions: Sessions,
    middleware: list[Middleware],
    close: Callable[[], Any] | None = None,
) -> Starlette:
    async def untouched(request: Request) -> Response:
        return PlainTextResponse("untouched")

    async def read(request: Request) -> Response:
        return PlainTextResponse((await sessions.load(request))["user"])

    async def write(request: Request) -> Response:
        return PlainTextResponse(str(await sessions.add(request, "n")))

    async def big_read(request: Request) -> Response:
        return PlainTextResponse(await sessions.fetch(request, "field100"))

    async def show(request: Request) -> Response:
        return JSONResponse(dict(await sessions.load(request)))

    async def start(request: Request) -> Response:
        response = PlainTextResponse("started")
        await sessions.start(request, response, SIZES[request.path_params["size"]])
        return response

    async def login(request: Request) -> Response:
        response = PlainTextResponse("in")
        await sessions.login(request, response, f"user {next(users)}")
        return response

    async def logout(request: Request) -> Response:
        response = PlainTextResponse("out")
        await sessions.logout(request, response)
        return response

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if close is not None:
            await close()

    app = Starlette(
        routes=[
            Route("/untouched", untouched),
            Route("/read", read),
            Route("/write", write, methods=["POST"]),
            Route("/big/read", big_read),
            Route("/big/write", write, methods=["POST"]),
            Route("/show", show),
            Route("/start/{size}", start, methods=["POST"]),
            Route("/login", login, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
        ],
        middleware=middleware,
        lifespan=lifespan,
    )
    freeze_if_asked()
    return app


def freeze_if_asked() -> None:
    """What docs/performance.md recommends, for every contender alike."""
    if os.environ.get("BENCH_GC") in ("freeze", "freeze+thresholds"):
        gc.collect()
        gc.freeze()
    if os.environ.get("BENCH_GC") == "freeze+thresholds":
        gc.set_threshold(50_000, 20, 100)
