"""
The client: it sends scripts and returns their replies.

It owns the routes (one for each event loop), sends each script on the lane that leads to its key,
sends it in full to a server that does not know it yet, sends it again where that is safe, and turns
redis-py's errors into `SessionUnavailable`. What the scripts mean is known to the engine only.
"""

import asyncio
import os
import weakref
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from ..errors import DurabilityNotReached, SessionUnavailable
from ..events import Events, Stats
from ..options import Durability
from . import budget
from .background import Background
from .cluster import ClusterRoute
from .lane import BarrierNotReached, Lane, LaneBroken, LaneClosed, LaneFull, Purpose
from .outages import Outages
from .route import Hop, NodeUnknown, Route, Server, ServerRoute
from .scripts import Script, pack

R = TypeVar("R")

#: The share of its time that a command must have left to be sent again.
_LEAST_SHARE = 0.1

#: All clients of this process. A forked child must not touch their connections, which are still in
#: use by its parent.
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


class Written(NamedTuple, Generic[R]):
    """
    The result of a write.

    *shortfall*: None, or the error to raise if the write was committed but has not become as
    durable as its write concern asked. It is returned, not raised, so that the caller can finish
    the steps that follow.
    """

    reply: R
    shortfall: DurabilityNotReached | None = None


@dataclass(slots=True)
class _Retry:
    """A command whose first attempt failed, and what a further attempt needs to know."""

    script: Script[Any]
    keys: Sequence[bytes]
    arguments: Sequence[Any] = field(repr=False)
    packed: bytes = field(repr=False)
    purpose: Purpose
    deadline: float
    #: Whether it may be executed twice. If so, it is sent once more after a broken connection.
    idempotent: bool
    #: Where the last attempt went; None if it could not be sent anywhere.
    hop: Hop | None = None
    #: Whether it was sent again after a broken connection.
    resent: bool = False

    @property
    def lane(self) -> Lane | None:
        """The lane of the last attempt."""
        return None if self.hop is None else self.hop.lane


_NO_LOOP = (
    "Sessions need an asyncio event loop, because redis-py has no connections for Trio. Serve the "
    "app with asyncio or uvloop (Hypercorn: `--worker-class asyncio`)."
)


class Client:
    """
    Sends the commands of one store.

    *redis* says where to connect, and as whom; the client opens connections of its own (see
    `pool.py`). *prefix*: the beginning of every key. *timeout*: how long a call may take, in
    seconds, retries included. *events*: where outages are counted and reported.
    """

    def __init__(
        self, redis: Redis | RedisCluster, *, prefix: str, timeout: float, events: Events
    ) -> None:
        self.redis = redis
        self.is_cluster = isinstance(redis, RedisCluster)
        self.prefix = prefix
        self.timeout = timeout
        self.events = events
        self._key_prefix = f"{prefix}:".encode()
        self._outages = Outages(events)
        self._routes: dict[asyncio.AbstractEventLoop, Route] = {}
        # Routes of the parent process, kept so that nothing closes their connections.
        self._inherited: list[Route] = []
        # Retries of `call_soon`, which nobody awaits.
        self._background = Background()
        _clients.add(self)

    def key(self, name: str) -> bytes:
        """Return the key of this name: the prefix, a colon, the name."""
        return self._key_prefix + name.encode()

    # --- Calls ---

    def call(
        self,
        script: Script[R],
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
        return self._send(script, keys, arguments, purpose, self.timeout, idempotent=idempotent)

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
        been executed then.
        """
        purpose: Purpose = "lists" if own_connection else "requests"
        seconds = self.timeout
        if concern is not None:
            purpose, seconds = concern, seconds + concern.timeout_ms / 1000
        try:
            reply = await self._send(script, keys, arguments, purpose, seconds, idempotent=False)
        except BarrierNotReached as short:
            return Written(script.result(*short.reply), DurabilityNotReached(str(short)))
        return Written(reply)

    def call_soon(
        self, script: Script[Any], keys: Sequence[bytes], arguments: Sequence[Any] = ()
    ) -> bool:
        """
        Send a script without waiting for its reply (fire and forget).

        Errors are only counted and reported. If very many commands are queued already, nothing is
        sent, and the result is False.
        """
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop) or self._new_route(loop)
        packed, deadline = script.packed(keys, arguments), loop.time() + self.timeout
        retry = _Retry(script, keys, arguments, packed, "requests", deadline, idempotent=False)
        try:
            lane = route.lane(keys[0], "requests")
        except NodeUnknown as error:
            self._retry_in_background(route, retry, error)
            return True
        if lane.is_busy:
            return False
        retry.hop = Hop(lane)
        reply = lane.submit(packed, keys[0], deadline)
        reply.add_done_callback(partial(self._after_call_soon, route, retry))
        return True

    async def commands(self, *commands: Sequence[Any]) -> list[Any]:
        """
        Send plain commands, one right behind the other, on the connection of the search queries.

        For questions across sessions (FT.*, SCAN). Not for a Cluster.

        Returns the replies in order, with a `ResponseError` in the place of a command that Redis
        refused. Raises `SessionUnavailable` if Redis does not answer.
        """
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop) or self._new_route(loop)
        key = self.key("idx")
        lane = route.lane(key, "queries")
        waiting = [lane.submit(pack(*command), key, is_plain=True) for command in commands]
        replies = await asyncio.gather(*waiting, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, LaneBroken):
                raise self._outages.report(lane, "commands", reply)
        if self._outages.is_any:
            self._outages.note_answer(lane, "commands")
        return replies

    async def _send(
        self,
        script: Script[R],
        keys: Sequence[bytes],
        arguments: Sequence[Any],
        purpose: Purpose,
        seconds: float,
        *,
        idempotent: bool,
    ) -> R:
        """
        Run a script on the lane for *purpose*, within so many *seconds*.

        Every request passes through here, so the good case is kept short.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(_NO_LOOP) from None
        route = self._routes.get(loop) or self._new_route(loop)
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
            reply = await lane.submit(packed, key, deadline)
        except (LaneBroken, ResponseError) as error:
            hop = None if lane is None else Hop(lane)
            retry = _Retry(script, keys, arguments, packed, purpose, deadline, idempotent, hop)
            reply = await self._retry_until_deadline(route, retry, error)
        finally:
            if shared is not None and lane is not None:
                # What a write concern has on top of the timeout is not charged.
                shared.charge(given, loop.time() - deadline + given - (lane.blocked - blocked))
        if self._outages.is_any and lane is not None:
            self._outages.note_answer(lane, script.name)
        return script.result(*reply)

    def _require_time(self, lane: Lane, left: float) -> None:
        """Send no further step of a verb whose time is up."""
        if left <= 0:
            raise LaneBroken(f"{lane.address} did not answer within {self.timeout:g} s")

    # --- Retries ---

    async def _retry_until_deadline(
        self, route: Route, retry: _Retry, error: Exception
    ) -> list[Any]:
        """Send a command again, as its last error asks, until that is of no use or time is up."""
        attempts = 0
        while True:
            try:
                retry.hop = hop = await self._next_hop(route, retry, error, attempts)
            except (LaneBroken, ResponseError) as final:
                raise self._outages.report(retry.lane, retry.script.name, final) from None
            try:
                reply: list[Any] = await hop.lane.submit(
                    retry.packed, retry.keys[0], retry.deadline, asking=hop.asking
                )
            except (LaneBroken, ResponseError) as again:
                error, attempts = again, attempts + 1
            else:
                return reply

    async def _next_hop(self, route: Route, retry: _Retry, error: Exception, attempts: int) -> Hop:
        """Return where to send a command again after *error*; raises it if that is of no use."""
        if isinstance(error, NoScriptError) and retry.hop is not None:
            retry.packed = retry.script.in_full(retry.keys, retry.arguments)
            return retry.hop
        if isinstance(error, LaneFull | LaneClosed):
            raise error
        if isinstance(error, LaneBroken) and not isinstance(error, NodeUnknown):
            # Redis may have executed the command.
            if retry.resent or not retry.idempotent:
                route.suspect_topology()
                raise error
            retry.resent = True
        hop = await route.reroute(retry.keys[0], retry.purpose, error, attempts, retry.deadline)
        # Don't send it with almost no time left: when its deadline passes, the lane closes the
        # connection, and every command of the same batch fails.
        if retry.deadline - asyncio.get_running_loop().time() < self.timeout * _LEAST_SHARE:
            raise error
        return hop

    def _after_call_soon(
        self, route: Route, retry: _Retry, reply: "asyncio.Future[list[Any]]"
    ) -> None:
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, LaneBroken):
            route.suspect_topology()
            self._outages.report(retry.lane, retry.script.name, error)
        elif isinstance(error, ResponseError):
            self._retry_in_background(route, retry, error)

    def _retry_in_background(self, route: Route, retry: _Retry, error: Exception) -> None:
        async def run() -> None:
            with suppress(SessionUnavailable):  # it has been counted and reported
                await self._retry_until_deadline(route, retry, error)

        self._background.start(run())

    # --- Connections ---

    async def servers(self) -> Sequence[Server]:
        """Return all servers that hold keys. Raises `LaneBroken` if they can't be found out."""
        loop = asyncio.get_running_loop()
        return await (self._routes.get(loop) or self._new_route(loop)).servers()

    def resting_loops(self) -> Sequence[asyncio.AbstractEventLoop]:
        """Return the loops that have routes and can be run by this thread, for the test kit."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return []
        return [loop for loop in self._routes if not (loop.is_running() or loop.is_closed())]

    def lanes(self, purpose: Purpose | None = None) -> Sequence[Lane]:
        """Return the open lanes of this event loop, for tests and diagnostics."""
        route = self._routes.get(asyncio.get_running_loop())
        return [] if route is None else route.lanes(purpose)

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        loop = asyncio.get_running_loop()
        if loop in self._routes:
            await self._routes[loop].drain()
        await self._background.drain()

    async def aclose(self) -> None:
        """Drain, then close this event loop's connections. The next command opens them again."""
        await self.drain()
        loop = asyncio.get_running_loop()
        if loop in self._routes:
            await self._routes[loop].aclose()
        self._forget([loop])

    @property
    def stats(self) -> Stats:
        """The counters, including those of the open lanes."""
        stats = Stats(**self.events.counted.as_dict())
        for route in list(self._routes.values()):  # copied: another thread may add one
            _count(route, stats)
        return stats

    def abandon_lanes(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self._inherited += self._routes.values()
        self._routes = {}
        self._background.abandon()

    def _new_route(self, loop: asyncio.AbstractEventLoop) -> Route:
        self._forget([known for known in self._routes if known.is_closed()])
        route: Route
        if isinstance(self.redis, RedisCluster):
            route = ClusterRoute(self.redis, self.timeout)
        else:
            route = ServerRoute(self.redis, self.timeout)
        self._routes[loop] = route
        return route

    def _forget(self, loops: Sequence[asyncio.AbstractEventLoop]) -> None:
        """Forget the routes of these event loops, but not what they have counted."""
        for loop in loops:
            if route := self._routes.pop(loop, None):
                _count(route, self.events.counted)


def _count(route: Route, stats: Stats) -> None:
    batches, commands = route.counts()
    stats.batches += batches
    stats.commands += commands


def _abandon_all_lanes() -> None:
    for client in list(_clients):
        client.abandon_lanes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all_lanes)
