"""
Sessions that expire, as Redis reports it: keyspace notifications, `notify-keyspace-events Ex`.

Each server reports what expires in it, to those that listen at that moment, and when it notices it:
when the key is used, or by a search at random ten times a second. So this is best effort. Of all
processes that hear of a session, the first to leave a tombstone reports it.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Collection, Hashable
from contextlib import asynccontextmanager
from contextvars import Context

from redis.asyncio import ConnectionPool

from ..errors import SessionUnavailable
from ..records import about
from ..transport.failures import LaneBroken
from ..transport.listener import Listener
from . import scripts
from .engine import Engine
from .ids import is_handle
from .keys import tombstone

logger = logging.getLogger("asgi_redis_session")

#: Seconds between two looks at which masters a Cluster has.
_LOOK_EVERY = 30.0
#: Seconds between two looks at the key that expires, and how many there are.
_PAUSE, _TRIES = 0.005, 100


@asynccontextmanager
async def reporting_expired(engine: Engine) -> AsyncGenerator[None, None]:
    """Report, for as long as the block runs, the sessions that expire."""
    expirations = _Expirations(engine)
    # In a context of its own: it belongs to no request.
    task = asyncio.get_running_loop().create_task(expirations.run(), context=Context())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await expirations.aclose()


class _Expirations:
    """What one process hears. It is the `Hearer` of its listeners: one for each master."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client = engine.client
        self._prefix = engine.client.key("")
        self._listeners: dict[Hashable, Listener] = {}

    async def run(self) -> None:
        """Listen at each master, also at those that there will be."""
        while True:
            try:
                keys = await self._keys()
            except LaneBroken:  # reported where requests meet it
                keys = {}
            for master in keys.keys() - self._listeners.keys():
                self._listen(master, keys[master])
            for master in self._listeners.keys() - keys.keys() if keys else ():
                await self._listeners.pop(master).aclose()
            await asyncio.sleep(_LOOK_EVERY)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*[listener.aclose() for listener in self._listeners.values()])

    async def _keys(self) -> dict[Hashable, bytes]:
        """The beginning of a key that each master serves."""
        begin = self._client.key("expiring:")
        if not self._client.is_cluster:
            return {None: begin + b"{0}"}
        return {
            master.node: master.keys[0] for master in await self._client.routes.here.masters(begin)
        }

    def _listen(self, master: Hashable, key: bytes) -> None:
        pool: ConnectionPool = self._client.routes.here.pool(master, protocol=2)
        listener = self._listeners[master] = Listener(
            pool,
            self,
            _OwnKey(self._engine, key),
            timeout=self._client.timeout,
        )
        database = pool.connection_kwargs.get("db") or 0
        listener.add(b"__keyevent@%d__:expired" % database)

    def on_message(self, _channel: bytes, key: bytes) -> None:
        """A key has expired, which may be that of a session."""
        name = key[len(self._prefix) :].decode(errors="replace")
        if key.startswith(self._prefix) and is_handle(name):
            self._engine.background.start(self._report(name))

    def on_heard(self, channel: bytes) -> None:
        """What has expired before is not known."""

    def on_lost(self, channel: bytes) -> None:
        """The listener connects again."""

    def on_moved(self) -> None:
        """Channels of events belong to no slot."""

    def on_refused(self, address: str, reason: str) -> None:
        """Nothing is reported from there."""
        logger.warning(
            "Sessions that expire are not reported by %s (%s). Set 'notify-keyspace-events Ex' in "
            'redis.conf, and see "ACL" in docs/deployment.md.',
            address,
            reason,
            extra=about("expiry_refused", address=address, reason=reason),
        )

    async def _report(self, handle: str) -> None:
        try:
            noted = await self._client.call(
                scripts.EXPIRED,
                (tombstone(self._client, handle),),
                (self._engine.hashes.remember_ms,),
                own_connection=True,
            )
        except SessionUnavailable:  # it was reported when it was raised
            return
        if noted.state > 0:
            self._engine.events.emit("expired", handle)


class _OwnKey:
    """A key that expires at once: a `Proof`. *key*: its beginning."""

    def __init__(self, engine: Engine, key: bytes) -> None:
        self._client = engine.client
        self._key = b"%b:%b" % (key, secrets.token_hex(8).encode())

    def channel(self, channels: Collection[bytes]) -> bytes:
        (channel,) = channels
        return channel

    async def send(self) -> None:
        call, keys = self._client.call, (self._key,)
        await call(scripts.EXPIRING, keys, (1,), idempotent=True)
        for _ in range(_TRIES):
            await asyncio.sleep(_PAUSE)
            if not (await call(scripts.EXPIRING, keys, (0,), idempotent=True)).state:
                return

    def is_met(self, _channel: bytes, data: bytes) -> bool:
        return data == self._key
