"""The rows of docs/outcomes.md about streams and background tasks, in both places."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN
from .conftest import World

pytestmark = pytest.mark.on_cluster


def test_streaming(world: World) -> None:
    """Changed before the start: in Redis before the first byte. Changed after it: when it ends."""
    seen: list[Any] = []

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2

        async def stream() -> AsyncIterator[bytes]:
            seen.append(await asyncio.to_thread(world.fields))
            session["late"] = True
            yield b"body"

        return StreamingResponse(stream())

    assert world.get(endpoint).text == "body"
    assert seen == [{"n": 2}]
    assert world.fields() == {"n": 2, "late": True}


def test_streaming_a_session_that_is_new_before_the_start(world: World) -> None:
    """It is committed with the start, which carries its cookie."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = 2

        async def stream() -> AsyncIterator[bytes]:
            yield b"body"

        return StreamingResponse(stream())

    response = world.get(endpoint, new=True)
    assert response.text == "body"
    assert world.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": 2}


def test_streaming_into_a_new_session(world: World) -> None:
    """A new session after the start raises SessionTooLate at the write, and leaves nothing."""
    raised: list[str] = []

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def stream() -> AsyncIterator[bytes]:
            try:
                session["n"] = 2
            except RuntimeError as error:
                raised.append(type(error).__name__)
            yield b"body"

        return StreamingResponse(stream())

    response = world.get(endpoint, new=True)
    assert response.text == "body"
    assert "set-cookie" not in response.headers
    assert raised == ["SessionTooLate"]
    assert len(world.kit.keys()) == 1


def test_background_task(world: World) -> None:
    """What a background task changes is written when it has ended."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def later() -> None:
            session["late"] = True

        return PlainTextResponse("ok", background=BackgroundTask(later))

    assert world.get(endpoint).text == "ok"
    assert world.fields() == {"n": 1, "late": True}


def test_background_task_after_the_session_ended(world: World) -> None:
    """Ended meanwhile: a `gone` event, nothing recreated."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def later() -> None:
            await asyncio.to_thread(world.kit.revoke, session.handle or "")
            session["late"] = True

        return PlainTextResponse("ok", background=BackgroundTask(later))

    assert world.get(endpoint).text == "ok"
    assert world.kit.keys() == []
    assert world.events == ["gone"]


def test_late_commit_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The response stands; the loss is logged and reported."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)

        async def later() -> None:
            session["late"] = True
            await asyncio.to_thread(world.gate.shut)

        return PlainTextResponse("ok", background=BackgroundTask(later))

    assert world.get(endpoint).text == "ok"
    assert world.fields() == {"n": 1}
    assert "unavailable" in world.events
    assert "was not saved" in caplog.text
