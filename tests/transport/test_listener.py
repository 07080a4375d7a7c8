"""A listener, whose connection breaks."""

import asyncio
import gc
from collections.abc import Collection
from typing import Any

import pytest
from redis.asyncio import Redis

from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.listener import Listener
from asgi_redis_session.transport.pool import private_pool

from ..support.gate import Ending, Gate, gate_to

#: A broken connection is dropped so many turns of the event loop later, at most.
TURNS = 20


class Hears:
    """It is told what is heard, and publishes the proof."""

    def __init__(self, client: Redis) -> None:
        self.heard: set[bytes] = set()
        self._client = client

    def on_message(self, channel: bytes, data: bytes) -> None:
        pass

    def on_heard(self, channel: bytes) -> None:
        self.heard.add(channel)

    def on_lost(self, channel: bytes) -> None:
        self.heard.discard(channel)

    def on_moved(self) -> None:
        pass

    def on_refused(self, address: str, reason: str) -> None:
        raise AssertionError(reason)

    def channel(self, channels: Collection[bytes]) -> bytes:
        return b"proof"

    async def send(self) -> None:
        await self._client.publish("proof", "arrives")

    def is_met(self, channel: bytes, data: bytes) -> bool:
        return channel == b"proof"


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_channel_is_added_while_the_connection_breaks(
    runner: asyncio.Runner, alone: DevServer, ending: Ending
) -> None:
    """At whichever turn of the event loop: no task fails, and the next connection hears it."""
    problems: list[dict[str, Any]] = []
    runner.get_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    with gate_to(alone.url) as gate:
        runner.run(add_while_it_breaks(gate, alone, ending))
    gc.collect()  # a task that has failed says so when it is forgotten
    assert problems == []


async def add_while_it_breaks(gate: Gate, alone: DevServer, ending: Ending) -> None:
    async with Redis.from_url(alone.url) as client:

        def begin() -> tuple[Hears, Listener]:
            pool = private_pool(Redis.from_url(gate.url), protocol=2)
            hears = Hears(client)
            listener = Listener(pool, hears, hears, timeout=20)
            listener.add(b"first")
            return hears, listener

        begun = [begin() for _ in range(TURNS)]

        async def until_heard(*channels: bytes) -> None:
            async with asyncio.timeout(100):
                while not all(hears.heard == set(channels) for hears, _ in begun):
                    await asyncio.sleep(0.01)

        await until_heard(b"first")
        # The event loop stands still meanwhile, so that they all break in the same turn.
        gate.cut_now(ending)
        for _, listener in begun:
            listener.add(b"second")
            await asyncio.sleep(0)
        await until_heard(b"first", b"second")
        await asyncio.gather(*[listener.aclose() for _, listener in begun])
