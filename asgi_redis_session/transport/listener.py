"""
What is published on some channels (Redis Pub/Sub), heard on one connection to one server.

A message may be lost, so it is never more than a hint. A listener says which of its channels it
hears at the moment, and proves that by a message of its own, now and then: a server or a proxy may
accept SUBSCRIBE and deliver nothing.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

from redis.asyncio import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from ..errors import SessionUnavailable
from .connection import address_of
from .reasons import reason_of
from .scripts import pack

#: Seconds between two proofs that messages arrive.
_PROVE_EVERY = 30.0
#: Pause in seconds before another try. It doubles, up to the longest one, which is also that after
#: a refusal.
_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
#: Connecting takes several round trips, which may each be nearly as long as a timeout.
_CONNECT_TIMEOUTS = 5
#: What the messages of sharded channels are called, and those of others.
_PLAIN = {b"ssubscribe": b"subscribe", b"sunsubscribe": b"unsubscribe", b"smessage": b"message"}


class Hearer(Protocol):
    """Who is told what a listener hears. *channel*: as it was added."""

    def on_message(self, channel: bytes, data: bytes) -> None:
        """Something was published."""

    def on_heard(self, channel: bytes) -> None:
        """From now on it is heard; what was published before is not."""

    def on_lost(self, channel: bytes) -> None:
        """It isn't heard any more."""

    def on_moved(self) -> None:
        """Other servers serve some of the channels."""

    def on_refused(self, address: str, reason: str) -> None:
        """Nothing can be heard from there; it is tried again. Called once for each listener."""


class Proof(Protocol):
    """A message that the process causes itself, to see whether messages arrive."""

    def channel(self, channels: Collection[bytes]) -> bytes:
        """Return where it will arrive. *channels*: what is listened to."""

    async def send(self) -> None:
        """Let it be published. May raise `SessionUnavailable`."""

    def is_met(self, channel: bytes, data: bytes) -> bool:
        """Whether this is the message."""


class _Deaf(Exception):
    """The server has accepted everything, and its messages do not arrive."""


class Listener:
    """
    One connection, for as long as there are channels to listen to.

    *pool*: of connections in RESP2, in which replies and messages come alike. *is_sharded*: whether
    the channels belong to slots (SSUBSCRIBE; before Redis 7, SUBSCRIBE at any node). *timeout*:
    seconds until the *proof* must have arrived.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        hearer: Hearer,
        proof: Proof,
        *,
        timeout: float,
        is_sharded: bool = False,
    ) -> None:
        self._pool = pool
        self._hearer = hearer
        self._proof = proof
        self._shard = b"S" if is_sharded else b""
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._channels: set[bytes] = set()
        self._heard: set[bytes] = set()
        # What has to be sent: channels to begin (or stop) listening to.
        self._news: dict[bytes, bool] = {}
        self._connection: Any = None
        # The channel of the proof.
        self._own = b""
        self._has_own, self._own_came, self._is_proven = asyncio.Event(), asyncio.Event(), False
        self._task: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._has_warned = False

    def add(self, channel: bytes) -> None:
        """Listen to a channel; `Hearer.on_heard` says from when."""
        self._channels.add(channel)
        if channel not in self._heard:
            self._note(channel, begins=True)
        if self._task is None:
            self._task = self._start()

    def remove(self, channel: bytes) -> None:
        """Do not listen to it any more. Without channels, the connection is closed."""
        self._channels.discard(channel)
        self._heard.discard(channel)
        self._note(channel, begins=False)

    async def aclose(self) -> None:
        """Close the connection."""
        self._channels.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- One connection after another ---

    async def _run(self) -> None:
        pause = _PAUSE
        try:
            while self._channels:
                try:
                    await self._listen()
                except (OSError, RedisError, TimeoutError, SessionUnavailable, _Deaf) as error:
                    pause = _PAUSE if self._is_proven else min(2 * pause, _LONGEST_PAUSE)
                    if self._is_refusal(error):
                        self._warn(error)
                        pause = _LONGEST_PAUSE
                    await self._drop()
                    await asyncio.sleep(pause)
        finally:
            await self._drop()
            with suppress(OSError, RedisError):
                await self._pool.aclose()
            self._task = None
            if self._channels:  # added meanwhile
                self._task = self._start()

    def _start(self) -> asyncio.Task[None]:
        # In a context of its own: it belongs to no request.
        return self._loop.create_task(self._run(), context=Context())

    async def _listen(self) -> None:
        async with asyncio.timeout(self._timeout * _CONNECT_TIMEOUTS):
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        if not self._channels:  # removed meanwhile
            return
        self._has_own.clear()
        self._own = self._proof.channel(self._channels)
        self._news = dict.fromkeys([self._own, *self._channels], True)
        await self._tell()
        tasks = [self._loop.create_task(work) for work in (self._read(), self._prove())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while self._channels:
            try:
                kind, channel, data = await self._connection.read_response()
            except MovedError as error:
                for channel in [one for one in self._channels if key_slot(one) == error.slot_id]:
                    self._lose(channel)
                self._hearer.on_moved()
            except ResponseError as error:
                if self._shard and "unknown command" in str(error).lower():
                    self._shard = b""
                    raise RedisConnectionError("it has no sharded channels") from error
                raise
            else:
                self._take(_PLAIN.get(kind, kind), channel, data)

    def _take(self, kind: bytes, channel: bytes, data: bytes) -> None:
        if channel == self._own and kind == b"unsubscribe":
            raise RedisConnectionError("the slot of the proof's channel has moved")
        if channel == self._own and kind == b"subscribe":
            self._has_own.set()
        if kind == b"message" and self._proof.is_met(channel, data):
            self._own_came.set()
        elif channel not in self._channels:
            return  # it is the proof's, or was removed meanwhile
        elif kind == b"message":
            self._hearer.on_message(channel, data)
        elif kind == b"unsubscribe":  # its slot has moved to another server
            self._lose(channel)
        else:
            self._heard.add(channel)
            if self._is_proven:
                self._hearer.on_heard(channel)

    async def _prove(self) -> None:
        """Let a message come back, again and again."""
        async with asyncio.timeout(self._timeout):
            await self._has_own.wait()
        while True:
            self._own_came.clear()
            await self._proof.send()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._own_came.wait()
            except TimeoutError:
                raise _Deaf("what is published does not arrive") from None
            if not self._is_proven:
                self._is_proven = True
                for channel in list(self._heard):
                    self._hearer.on_heard(channel)
            await asyncio.sleep(_PROVE_EVERY)

    def _lose(self, channel: bytes) -> None:
        self._heard.discard(channel)
        self._hearer.on_lost(channel)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._is_proven = False
        for channel in list(self._heard):
            self._lose(channel)
        if connection is not None:
            with suppress(OSError, RedisError):
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    # --- Refusals ---

    def _is_refusal(self, error: Exception) -> bool:
        return isinstance(error, _Deaf | NoPermissionError) or (
            isinstance(error, ResponseError) and "unknown command" in str(error).lower()
        )

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            address = address_of(self._pool).rstrip(",")
            self._hearer.on_refused(address, reason_of(error))

    # --- Sending ---

    def _note(self, channel: bytes, *, begins: bool) -> None:
        if self._connection is not None:  # else all are named when it connects
            if not self._news:
                self._loop.call_soon(self._tell_soon)
            self._news[channel] = begins

    def _tell_soon(self) -> None:
        if self._connection is not None:
            telling = self._loop.create_task(self._tell())
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell(self) -> None:
        """Send what is new, in one packet."""
        connection, news, self._news = self._connection, self._news, {}
        if connection is None:  # it broke since this was scheduled; all are named when it connects
            return
        verbs = {True: self._shard + b"SUBSCRIBE", False: self._shard + b"UNSUBSCRIBE"}
        packed = [pack(verbs[begins], channel) for channel, begins in news.items()]
        with suppress(OSError, RedisError):  # the reader notices it
            await connection.send_packed_command(b"".join(packed), check_health=False)
