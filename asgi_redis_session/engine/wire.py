"""The old face of the transport, until everything above uses `Client`."""

from collections.abc import Callable, Coroutine, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis, RedisCluster

from ..events import EventName, Events, SessionEvent
from ..options import Promise
from ..transport.client import Client
from ..transport.scripts import Script

__all__ = ["Wire", "script_of"]


def _as_list(*reply: Any) -> list[Any]:
    return list(reply)


def script_of(*names: str) -> Script[list[Any]]:
    """The script in these files."""
    folder = files("asgi_redis_session.engine") / "lua"
    text = "".join([(folder / f"{name}.lua").read_text() for name in names])
    return Script(names[-1], text, _as_list)


class Wire(Client):
    """A client that notes shortfalls in a `Promise`."""

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        prefix: str,
        timeout: float,
        on_event: Callable[[SessionEvent], None] | None,
    ) -> None:
        super().__init__(redis, prefix=prefix, timeout=timeout, events=Events(on_event))
        self.counted = self.events.counted

    def emit(self, name: EventName, handle: str | None = None, detail: str | None = None) -> None:
        """Report an event."""
        self.events.emit(name, handle, detail=detail)

    def ask(
        self,
        script: Script[list[Any]],
        keys: Sequence[bytes],
        arguments: Sequence[Any] = (),
        *,
        idempotent: bool = False,
        side: bool = False,
        promise: Promise | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run a script."""
        if promise is None or promise.level is None:
            return self.call(script, keys, arguments, idempotent=idempotent, own_connection=side)
        return self._ask_durably(script, keys, arguments, promise)

    async def _ask_durably(
        self,
        script: Script[list[Any]],
        keys: Sequence[bytes],
        arguments: Sequence[Any],
        promise: Promise,
    ) -> list[Any]:
        written = await self.write(script, keys, arguments, concern=promise.level)
        if written.shortfall is not None:
            promise.shortfall = written.shortfall
        return written.reply

    def post(
        self, script: Script[Any], keys: Sequence[bytes], arguments: Sequence[Any] = ()
    ) -> bool:
        """Send a script without waiting for its reply."""
        return self.call_soon(script, keys, arguments)
