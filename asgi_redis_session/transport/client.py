"""
The client: it sends scripts and returns their replies.

It owns the routes (one for each event loop), sends each script on the lane that leads to its key,
sends it in full to a server that does not know it yet, sends it again where that is safe, and turns
redis-py's errors into `SessionUnavailable`. What the scripts mean is known to the engine only.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from ..errors import DurabilityNotReached
from ..events import Events, Stats
from ..options import Durability
from . import budget, forks
from .background import running_loop
from .batch import Rider
from .cluster import ClusterRoute
from .failures import BarrierNotReached, KeysApart, LaneBroken
from .lane import Lane, Purpose
from .observing import Observer, observed
from .outages import Outages
from .plain import Plain
from .retry import Retries, Retry
from .route import Hop, Master, NodeUnknown, Route, Server, ServerRoute
from .scripts import Script, pack
from .written import Written

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
        self._routes: dict[asyncio.AbstractEventLoop, Route] = {}
        # Routes of the parent process, kept so that nothing closes their connections.
        self._inherited: list[Route] = []
        self._retries = Retries(timeout, self._outages)
        #: Sends a command and waits for its reply; with all observers around it.
        self._ask = self._send
        forks.in_child(self, Client.abandon_lanes)

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
        return self._ask(script, keys, arguments, purpose, self.timeout, idempotent=idempotent)

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
            reply = await self._ask(script, keys, arguments, purpose, seconds, idempotent=False)
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
        route = self._routes.get(loop) or self._new_route(loop)
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
        loop.call_later(seconds, lambda: loop in self._routes and action())

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
        route = self._routes.get(loop) or self._new_route(loop)
        if not_after is None:
            not_after = loop.time() + self.timeout
        rider = Rider(command.packed((key,), arguments), key, not_after, command)
        try:
            lane = route.lane(key, "requests")
        except NodeUnknown as error:
            self._after_ride(None, rider, error)
            return True
        if lane.is_busy:
            return False
        lane.submit_rider(rider)
        return True

    def _after_ride(self, lane: Lane | None, rider: Rider, error: Exception) -> None:
        command = rider.command
        if not isinstance(command, Script):
            self.events.counted.errors += 1
            return
        keys, hop = (rider.key,), None if lane is None else Hop(lane)
        retry = Retry(command, keys, (), rider.packed, "requests", rider.not_after, hop=hop)
        self._retries.after_failure(self._routes[asyncio.get_running_loop()], retry, error)

    async def commands(self, *commands: Sequence[Any], at: Master | None = None) -> list[Any]:
        """
        Send plain commands, one right behind the other, on the connection of the search queries.

        For questions across sessions (FT.*, SCAN). *at*: the master of a Cluster to send them to.
        No redirection is followed.

        Returns the replies in order, with a `ResponseError` in the place of a command that Redis
        refused. Raises `SessionUnavailable` if Redis does not answer.
        """
        route, lane = self._lane_of_queries(at)
        keys = [self.key("idx")] if at is None else at.keys
        waiting = [
            lane.submit(pack(*command), key, is_plain=True)
            for command, key in zip(commands, cycle(keys), strict=False)
        ]
        replies = await asyncio.gather(*waiting, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, LaneBroken):
                route.suspect_topology()
                raise self._outages.report(lane, "commands", reply)
        if self._outages.is_any:
            self._outages.note_answer(lane, "commands")
        return [reply if isinstance(reply, BaseException) else reply[0] for reply in replies]

    async def run_without_keys(
        self, script: Script[R], arguments: Sequence[str], *, at: Master | None
    ) -> R:
        """
        Run a script without keys on the connection of the search queries; *at*: as for `commands`.

        Its reply begins with its first argument. It also reaches keys in slots that are on their
        way to this master.

        Raises the `ResponseError` that Redis answers, and `SessionUnavailable` if it does not.
        """
        name = arguments[0].encode()
        route, lane = self._lane_of_queries(at)
        try:
            try:
                reply = await lane.submit(script.packed((), arguments), name, asking=True)
            except NoScriptError:
                reply = await lane.submit(script.in_full((), arguments), name, asking=True)
        except LaneBroken as error:
            route.suspect_topology()
            raise self._outages.report(lane, script.name, error) from error
        if self._outages.is_any:
            self._outages.note_answer(lane, script.name)
        return script.result(*reply)

    async def _send(
        self,
        script: Script[R] | Plain[R],
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
        loop = running_loop()
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
            reply = await lane.submit(packed, key, deadline, is_plain=script.is_plain)
        except (LaneBroken, ResponseError) as error:
            hop = None if lane is None else Hop(lane)
            retry = Retry(script, keys, arguments, packed, purpose, deadline, idempotent, hop)
            reply = await self._retries.until_deadline(route, retry, error)
        finally:
            if shared is not None and lane is not None:
                # What a write concern has on top of the timeout is not charged.
                shared.charge(given, loop.time() - deadline + given - (lane.blocked - blocked))
        if self._outages.is_any and lane is not None:
            self._outages.note_answer(lane, script.name)
        return script.result(*reply)

    def _lane_of_queries(self, at: Master | None) -> tuple[Route, Lane]:
        route = self.route
        try:
            lane = (
                route.lane_to(at.node, "queries") if at else route.lane(self.key("idx"), "queries")
            )
        except NodeUnknown as error:
            raise self._outages.report(None, "commands", error) from error
        return route, lane

    def _require_time(self, lane: Lane, left: float) -> None:
        """Send no further step of a verb whose time is up."""
        if left <= 0:
            raise LaneBroken(f"{lane.address} did not answer within {self.timeout:g} s")

    # --- Connections ---

    async def masters(self) -> Sequence[Master]:
        """
        Return all masters of the Cluster, as they are now, for `commands`.

        Raises `SessionUnavailable` if they can't be found out.
        """
        try:
            return await self.route.masters(self.key("idx:"))
        except LaneBroken as error:
            raise self._outages.report(None, "commands", error) from error

    @property
    def route(self) -> Route:
        """The route of the running event loop."""
        loop = running_loop()
        return self._routes.get(loop) or self._new_route(loop)

    async def servers(self) -> Sequence[Server]:
        """Return all servers that hold keys. Raises `LaneBroken` if they can't be found out."""
        return await self.route.servers()

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
        if route := self._routes.get(asyncio.get_running_loop()):
            await route.drain()
        await self._retries.background.drain()

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
            for lane in route.lanes():
                stats.connections += lane.connection.raw is not None
                stats.queued += lane.queued
        return stats

    def observe(self, observer: Observer) -> None:
        """Put an observer around every command from now on, but those that nothing waits for."""
        self._ask = partial(observed, observer, self._ask)

    def abandon_lanes(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self._inherited += self._routes.values()
        self._routes = {}
        self._retries.background.abandon()

    def _new_route(self, loop: asyncio.AbstractEventLoop) -> Route:
        self._forget([known for known in self._routes if known.is_closed()])
        route: Route
        if isinstance(self.redis, RedisCluster):
            route = ClusterRoute(self.redis, self.timeout, self._after_ride)
        else:
            route = ServerRoute(self.redis, self.timeout, self._after_ride)
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
