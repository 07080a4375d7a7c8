"""The event loop, and tasks in the background, so that a shutdown can wait for them."""

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from . import budget

_NO_LOOP = (
    "Sessions need an asyncio event loop, because redis-py has no connections for Trio. Serve the "
    "app with asyncio or uvloop (Hypercorn: `--worker-class asyncio`)."
)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop. Raises `RuntimeError` with the cure, such as under Trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_NO_LOOP) from None


def has_loop() -> bool:
    """Whether an asyncio loop runs here: without one, nothing was ever opened."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Background:
    """Background tasks of one store."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* on the running event loop. It reports its own errors."""
        loop = asyncio.get_running_loop()
        context = copy_context()
        context.run(budget.current.set, None)  # no caller waits for it
        task = loop.create_task(work, context=context)
        self._tasks[task] = loop
        task.add_done_callback(self._tasks.pop)

    async def drain(self) -> None:
        """Wait until the tasks of this event loop have ended."""
        loop = asyncio.get_running_loop()
        if tasks := [task for task, home in self._tasks.items() if home is loop]:
            await asyncio.wait(tasks)

    def abandon(self) -> None:
        """In a forked child: forget the parent's tasks."""
        self._tasks = {}
