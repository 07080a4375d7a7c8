"""Looking for a session under each of the names that it may have: one for each secret in use."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from ..transport.background import running_loop
from ..transport.client import Client
from ..transport.plain import Plain
from ..transport.scripts import Script
from .reads import Read
from .scripts import CORRUPT, Loaded

R = TypeVar("R", Loaded, Read)


async def find(
    client: Client,
    handles: tuple[str, ...],
    command: Script[R] | Plain[R],
    arguments: Sequence[Any] = (),
) -> tuple[str, R]:
    """Return the name and the reply that count."""
    if len(handles) == 1:
        (handle,) = handles
        return handle, await client.call(command, (client.key(handle),), arguments, idempotent=True)
    replies = await _find_any(client, handles, command, arguments)
    # A session that exists, else one that can't be read, else the newest name.
    return min(replies, key=lambda found: (found[1].state <= 0, found[1].state != CORRUPT))


async def _find_any(
    client: Client,
    handles: tuple[str, ...],
    command: Script[R] | Plain[R],
    arguments: Sequence[Any],
) -> list[tuple[str, R]]:
    """
    Look under all names at once.

    A session that is found does not wait for the other names, which may belong to another node of a
    Cluster.
    """
    running_loop()
    tasks = {
        asyncio.create_task(
            client.call(command, (client.key(handle),), arguments, idempotent=True)
        ): handle
        for handle in handles
    }
    try:
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            replies = [(tasks[one], one.result()) for one in done if one.exception() is None]
            if found := [(handle, reply) for handle, reply in replies if reply.state > 0]:
                return found
        return [(handle, one.result()) for one, handle in tasks.items()]
    finally:
        for one in tasks:
            one.cancel()
