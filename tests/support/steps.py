"""The steps of a verb: what tests wait before, wait after, or fail at."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_redis_session import SessionStore

from .internals import Send, around_scripts, stop_pruning


class Steps:
    """
    Every script that a store waits for goes through `on_step(name, number, send)`, where awaiting
    `send()` is the real thing; `names` lists them.
    """

    def __init__(self, store: SessionStore) -> None:
        self.names: list[str] = []
        self.on_step: Callable[[str, int, Send], Awaitable[Any]] | None = None
        #: Ends it: the store's scripts go their own way again.
        self.stop = around_scripts(store, self._step)
        stop_pruning(store)

    async def _step(self, name: str, send: Send) -> Any:
        self.names.append(name)
        if self.on_step is None:
            return await send()
        return await self.on_step(name, len(self.names), send)

    def fail_at(self, number: int, error: BaseException, *, done: bool) -> None:
        """Fail at the step of this number, before Redis does it or (*done*) after."""

        async def on_step(_: str, at: int, send: Send) -> Any:
            if at == number and not done:
                raise error
            reply = await send()
            if at == number:
                raise error
            return reply

        self.names.clear()
        self.on_step = on_step

    def pause_before(self, name: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Stop the first step of this name until the second event is set; the first says when."""
        return self._pause(name, after=False)

    def pause_after(self, name: str) -> tuple[asyncio.Event, asyncio.Event]:
        """As `pause_before`, when Redis has done it."""
        return self._pause(name, after=True)

    def _pause(self, name: str, *, after: bool) -> tuple[asyncio.Event, asyncio.Event]:
        reached, go_on, is_taken = asyncio.Event(), asyncio.Event(), False

        async def on_step(step: str, _: int, send: Send) -> Any:
            nonlocal is_taken
            if step != name or is_taken:
                return await send()
            is_taken = True
            if after:
                reply = await send()
            reached.set()
            await go_on.wait()
            return reply if after else await send()

        self.on_step = on_step
        return reached, go_on
