"""
Observers: what metrics and traces put around commands.

Without one, nothing is called: the client sends its commands as if this did not exist.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

R = TypeVar("R")

#: Takes the name of a step ("load", "save") and its first key; a question of `store.search` is a
#: step too, called "search". What it returns is entered when the step is asked for, and left with
#: its reply, or with the error that is raised in its place.
Observer = Callable[[str, bytes], AbstractContextManager[Any]]


async def observed(
    observer: Observer,
    ask: Callable[..., Awaitable[Any]],
    command: Any,
    keys: Sequence[bytes],
    *arguments: Any,
) -> Any:
    """Send a command by *ask*, with an observer around it."""
    with observer(command.name, keys[0]):
        return await ask(command, keys, *arguments)


async def answered(observers: Sequence[Observer], step: str, key: bytes, asked: Awaitable[R]) -> R:
    """Wait for an answer that takes several commands, with all observers around it."""
    with ExitStack() as around:
        for observer in reversed(observers):  # the last one outermost, as around a command
            around.enter_context(observer(step, key))
        return await asked
