"""
The client: it sends scripts and returns their replies.

It sends each script on the lane that leads to its key (`routes`, `lane`). After an error, `retry`
decides whether to send it again, and `outages` makes it a `SessionUnavailable`. What the scripts
mean is known to the engine only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from ..errors import DurabilityNotReached
from ..events import Events, Stats
from ..options import Durability
from . import budget, forks
from .background import running_loop
from .batch import Rider
from .changed import changed
from .failures import BarrierNotReached, KeysApart, LaneBroken
from .lane import Lane, Purpose
from .observing import Observer, observed
from .outages import Outages
from .plain import Plain
from .queries import Queries
from .retry import Retries, Retry
from .route import Hop, NodeUnknown
from .routes import Routes
from .scripts import Script
from .written import Written

#: The part of the timeout for which a reply is awaited that may not be needed.
_GLANCE_SHARE = 0.1

R = TypeVar("R")


class Client:
    """
    Sends the commands of one store.

    *redis* says where to connect, and as whom; the client opens connections of its own (see
    `pool.py`). *prefix*: the beginning of every key. *timeout*: how long a call may take, in
    seconds, retries included. *events*: where outages are counted and reported. *is_sharded*:
    whether several servers hold the keys, although there is one address.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        prefix: str,
        timeout: float,
        events: Events,
        is_sharded: bool = False,
    ) -> None:
        self.redis = redis
        self.is_cluster = isinstance(redis, RedisCluster)
        #: Whether two keys may be on different servers, out of reach of one script.
        self.is_sharded = self.is_cluster or is_sharded
        self.prefix = prefix
        self.timeout = timeout
        self.events = events
        self._key_prefix = f"{prefix}:".encode()
        self._outages = Outages(events)
        self.routes = Routes(redis, timeout, self._after_ride, events.counted)
        self.queries = Queries(self.routes, self._outages, self.key("idx"))
        self._retries = Retries(timeout, self._outages)
        #: Sends a command and waits for its reply; with all observers around it.
        self._ask = self._send
        #: The same, for what may be needed soon.
        self.glance = self._glance
        self.observers: list[Observer] = []
        forks.in_child(self, Client.abandon)

    def key(self, name: str) -> bytes:
        """Return the key of this name: the prefix, a colon, the name."""
        return self._key_prefix + name.encode()

    # --- Calls ---

    def call(
        self,
        script: Script[R] | Plain[R],
        keys: Sequence[bytes],
        arguments: Sequence[Any] = (),
        *,
        idempotent: bool = False,
        own_connection: bool = False,
    ) -> Coroutine[Any, Any, R]:
        """
        Run a script; await the result.

        *idempotent*: it may run twice, so it is sent once more if the connection breaks.
        *own_connection*: send it on a connection that requests do not use, so that long lists don't
        delay them.

        Raises `SessionUnavailable` if Redis does not answer in time, or refuses.
        """
        # Not `async def`: one coroutine more costs 3,000 instructions, 1 % of a read.
        purpose: Purpose = "lists" if own_connection else "requests"
        return self._ask(script, keys, arguments, purpose, self.timeout, idempotent)

    async def write(
        self,
        script: Script[R],
        keys: Sequence[bytes],
        arguments: Sequence[Any] = (),
        *,
        concern: Durability | None = None,
        own_connection: bool = False,
    ) -> Written[R]:
        """
        Run a script that writes, and wait until its writes are as durable as *concern* asks.

        That may take the time of the concern on top of the client's. If the concern is not met, the
        write is kept, and `Written.shortfall` is set. *own_connection*: as for `call`; a write with
        a concern always uses the connection of that concern.

        Raises `SessionUnavailable` if Redis does not answer in time, or refuses. The write may have
        been executed then. Raises `KeysApart` if that has shown that two keys of the script are on
        different servers: nothing was written, and `is_sharded` is true from now on.
        """
        purpose: Purpose = "lists" if own_connection else "requests"
        seconds = self.timeout
        if concern is not None:
            purpose, seconds = concern, seconds + concern.timeout_ms / 1000
        try:
            reply = await self._ask(script, keys, arguments, purpose, seconds, False)  # noqa: FBT003
        except BarrierNotReached as short:
            return Written(script.result(*short.reply), DurabilityNotReached(str(short)))
        except KeysApart:
            self.is_sharded = True
            raise
        return Written(reply)

    def call_soon(
        self, script: Script[Any], keys: Sequence[bytes], arguments: Sequence[Any] = ()
    ) -> bool:
        """
        Send a script without waiting for its reply (fire and forget).

        Errors are counted and reported. If very many commands are queued already, nothing is sent,
        and the result is False.
        """
        loop = running_loop()
        route = self.routes[loop]
        packed, deadline = script.packed(keys, arguments), loop.time() + self.timeout
        retry = Retry(script, keys, arguments, packed, "requests", deadline)
        try:
            lane = route.lane(keys[0], "requests")
        except NodeUnknown as error:
            self._retries.after_failure(route, retry, error)
            return True
        if lane.is_busy:
            return False
        retry.hop = Hop(lane)
        reply = lane.submit(packed, keys[0], deadline)
        reply.add_done_callback(partial(self._retries.after_call_soon, route, retry))
        return True

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Call *action* after so many seconds, unless the connections were closed by then."""
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop in self.routes and action())

    def ride(
        self,
        command: Script[Any] | Plain[Any],
        key: bytes,
        arguments: Sequence[Any] = (),
        *,
        not_after: float | None = None,
    ) -> bool:
        """
        Send a command, fire-and-forget, in front of those that are queued already.

        Cheaper than `call_soon`, which else is the same. *not_after*: the instant, in event-loop
        time, after which it is not sent. Errors of a plain command are only counted.
        """
        loop = running_loop()
        route = self.routes[loop]
        if not_after is None:
            not_after = loop.time() + self.timeout
        rider = Rider(command.packed((key,), arguments), key, not_after, command)
        try:
            lane = route.lane(key, "requests")
        except NodeUnknown as error:
            self._after_ride(None, rider, error)
            return True
        return lane.submit_rider(rider)

    def _after_ride(self, lane: Lane | None, rider: Rider, error: Exception) -> None:
        command = rider.command
        if not isinstance(command, Script):
            self.events.counted.errors += 1
            return
        keys, hop = (rider.key,), None if lane is None else Hop(lane)
        retry = Retry(command, keys, (), rider.packed, "requests", rider.not_after, hop=hop)
        self._retries.after_failure(self.routes[asyncio.get_running_loop()], retry, error)

    async def _send(  # noqa: PLR0917
        self,
        script: Script[R] | Plain[R],
        keys: Sequence[bytes],
        arguments: Sequence[Any],
        purpose: Purpose,
        seconds: float,
        idempotent: bool,  # noqa: FBT001
    ) -> R:
        """
        Run a script on the lane for *purpose*, within so many *seconds*.

        Every request passes through here, so the good case is kept short, and calls on the way give
        no keywords: CPython 3.11 binds them in a slow way.
        """
        loop = running_loop()
        route = self.routes[loop]
        key, packed = keys[0], script.packed(keys, arguments)
        if (shared := budget.current.get()) is not None:
            given = shared.left
            seconds += given - self.timeout
        deadline = loop.time() + seconds
        lane = None
        try:
            lane = route.lane(key, purpose)
            if shared is not None:
                blocked = lane.blocked
                self._require_time(lane, given)
            reply = await lane.submit(packed, key, deadline, script.is_plain)
        except (LaneBroken, ResponseError) as error:
            hop = None if lane is None else Hop(lane)
            retry = Retry(script, keys, arguments, packed, purpose, deadline, idempotent, hop)
            reply = await self._retries.until_deadline(route, retry, error)
        finally:
            if not script.is_plain:
                changed.note(keys)
            if shared is not None and lane is not None:
                # What a write concern has on top of the timeout is not charged.
                shared.charge(given, loop.time() - deadline + given - (lane.blocked - blocked))
        if self._outages.is_any and lane is not None:
            self._outages.note_answer(lane, script.name)
        return script.result(*reply)

    def _glance(self, command: Script[Any] | Plain[Any], keys: Sequence[bytes]) -> Awaitable[Any]:
        """
        Ask for what may be needed soon; await the reply as it is, for a tenth of the timeout.

        Nothing is sent again, and a failure is not reported. Raises `LaneBroken`, and redis-py's
        `ResponseError`.
        """
        loop = running_loop()
        packed, deadline = command.packed(keys, ()), loop.time() + self.timeout * _GLANCE_SHARE
        lane = self.routes[loop].lane(keys[0], "requests")
        return lane.submit(packed, keys[0], deadline, command.is_plain)

    def _require_time(self, lane: Lane, left: float) -> None:
        """Send no further step of a verb whose time is up."""
        if left <= 0:
            raise LaneBroken(f"{lane.address} did not answer within {self.timeout:g} s")

    # --- All connections ---

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        await self.routes.drain()
        await self._retries.background.drain()

    async def aclose(self) -> None:
        """Drain, then close this event loop's connections. The next command opens them again."""
        await self.drain()
        await self.routes.aclose()

    @property
    def is_available(self) -> bool:
        """Whether every server has done what it was asked for the last time."""
        return not self._outages.is_any

    @property
    def stats(self) -> Stats:
        """The counters, including those of the open lanes."""
        stats = Stats(**self.events.counted.as_dict())
        self.routes.add_to(stats)
        return stats

    def abandon(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self.routes.abandon()
        self._retries.background.abandon()

    def observe(self, observer: Observer) -> None:
        """Put an observer around every command from now on, but those that nothing waits for."""
        self.observers.append(observer)
        self._ask = partial(observed, observer, self._ask)
        self.glance = partial(observed, observer, self.glance)
