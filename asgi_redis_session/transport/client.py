"""
The wire: scripts out, replies in.

It owns the routes (one for each event loop), sends a script on the lane that leads to its key, in
full to a server that does not know it, follows detours, and turns redis-py's errors into
`SessionUnavailable`. It also counts and tells what happens. What the scripts mean is the business
of those who send them: `store`, `users`.
"""

import asyncio
import logging
import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from ..errors import DurabilityNotReached, SessionUnavailable
from ..events import SessionEvent, Stats
from ..options import Promise
from .lane import LaneBroken, NotReached
from .route import Purpose, Route, Server, Unrouted, Way, route_to
from .scripts import Script, pack

__all__ = ["Wire"]

logger = logging.getLogger("asgi_redis_session")

_BACKLOG = 10_000
#: The part of its time that a command must have left to be sent again.
_LEAST_SHARE = 0.1
#: What is away when it is not known yet who serves a key.
_CLUSTER = "The Redis Cluster"

#: Wires whose connections a forked child must not touch: they are its parent's.
_wires: "weakref.WeakSet[Wire]" = weakref.WeakSet()


@dataclass(slots=True)
class _Errand:
    """A command that did not get through at the first try."""

    script: Script
    keys: Sequence[bytes]
    arguments: Sequence[Any]
    packed: bytes
    purpose: Purpose
    deadline: float
    #: Whether it may be sent again after a connection broke: once, and only what may run twice.
    may_repeat: bool
    #: The way it took last; None if there was none.
    way: Way | None = None


class Wire:
    """
    Everything that a store and its parts send. *timeout* in seconds.

    *side* commands travel on a lane of their own, so that long lists don't delay requests; so do
    plain `commands`.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        prefix: str,
        timeout: float,
        on_event: Callable[[SessionEvent], None] | None,
    ) -> None:
        self.redis = redis
        self.is_cluster = isinstance(redis, RedisCluster)
        self.prefix = prefix
        self._before = f"{prefix}:".encode()
        self.counted = Stats()
        self.timeout = timeout
        self._on_event = on_event
        # Addresses that did not answer last time, so that an outage is one line in the log.
        self._down: set[str] = set()
        self._refusal = ""
        self._routes: dict[asyncio.AbstractEventLoop, Route] = {}
        self._inherited: list[Route] = []
        self._errands: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}
        _wires.add(self)

    def key(self, name: str) -> bytes:
        """A key of ours."""
        return self._before + name.encode()

    async def ask(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Any] = (),
        *,
        idempotent: bool = False,
        side: bool = False,
        promise: Promise | None = None,
    ) -> list[Any]:
        """
        Run a script; returns what it answers. Raises `SessionUnavailable`.

        *idempotent*: may run twice, so it is sent once more if the connection breaks. *promise*:
        how durable its writes must become; a shortfall is noted there.
        """
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop) or self._new_route(loop)
        key, packed = keys[0], script.packed(keys, arguments)
        deadline = loop.time() + self.timeout
        purpose: Purpose = "side" if side else "requests"
        if promise is not None and promise.level is not None:
            purpose = promise.level
            deadline += promise.level.timeout_ms / 1000
        lane = None
        reply: list[Any]
        try:
            try:
                lane = route.lane(key, purpose)
                reply = await lane.submit(packed, key, deadline)
            except (LaneBroken, ResponseError) as error:
                way = None if lane is None else Way(lane)
                errand = _Errand(
                    script, keys, arguments, packed, purpose, deadline, idempotent, way
                )
                reply = await self._insist(route, errand, error)
        except NotReached as short:
            if promise is not None:
                promise.shortfall = DurabilityNotReached(str(short))
            return short.reply
        if self._down and lane is not None:
            self._note_answer(lane.address)
        return reply

    async def _insist(self, route: Route, errand: _Errand, error: Exception) -> list[Any]:
        """Do what an error asks for, again and again, while there is time."""
        tries = 0
        while True:
            try:
                errand.way = way = await self._next_way(route, errand, error, tries)
            except (LaneBroken, ResponseError) as final:
                raise self._unavailable(errand.way, final) from None
            try:
                reply: list[Any] = await way.lane.submit(
                    errand.packed, errand.keys[0], errand.deadline, way.prelude
                )
            except (LaneBroken, ResponseError) as again:
                error, tries = again, tries + 1
            else:
                return reply

    async def _next_way(self, route: Route, errand: _Errand, error: Exception, tries: int) -> Way:
        """How to try again after an error; raises it if that is of no use."""
        if isinstance(error, NoScriptError) and errand.way is not None:
            errand.packed = errand.script.in_full(errand.keys, errand.arguments)
            return errand.way
        if isinstance(error, LaneBroken) and not isinstance(error, Unrouted):
            if not errand.may_repeat:
                route.doubt()
                raise error
            errand.may_repeat = False
        way = await route.detour(errand.keys[0], errand.purpose, error, tries, errand.deadline)
        # One that is about to give up would take a whole batch of others with it.
        if errand.deadline - asyncio.get_running_loop().time() < self.timeout * _LEAST_SHARE:
            raise error
        return way

    async def commands(self, *commands: Sequence[Any]) -> list[Any]:
        """
        Send plain commands, one right behind the other: for questions that concern no single
        session (FT.*, SCAN), whose replies can't name what they answer. Not for a Cluster.

        Returns what Redis answers, in order, a `ResponseError` where it refused. Raises
        `SessionUnavailable`.
        """
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop) or self._new_route(loop)
        lane = route.lane(self.key("idx"), "queries")
        waiting = [lane.submit(pack(*command), None) for command in commands]
        replies = await asyncio.gather(*waiting, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, LaneBroken):
                raise self._unavailable(Way(lane), reply)
        return replies

    def post(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> bool:
        """
        Run a script that nobody waits for; what goes wrong is counted and reported.

        Returns False, and sends nothing, if very many commands are queued already.
        """
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop) or self._new_route(loop)
        packed, deadline = script.packed(keys, arguments), loop.time() + self.timeout
        errand = _Errand(script, keys, arguments, packed, "requests", deadline, may_repeat=False)
        try:
            lane = route.lane(keys[0], "requests")
        except Unrouted as error:
            self._insist_later(route, errand, error)
            return True
        if lane.backlog >= _BACKLOG:
            return False
        errand.way = Way(lane)
        reply = lane.submit(packed, keys[0], deadline)
        reply.add_done_callback(partial(self._posted, route, errand))
        return True

    def _posted(self, route: Route, errand: _Errand, reply: "asyncio.Future[list[Any]]") -> None:
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, LaneBroken):
            route.doubt()
            self._unavailable(errand.way, error)
        elif isinstance(error, ResponseError):
            self._insist_later(route, errand, error)

    def _insist_later(self, route: Route, errand: _Errand, error: Exception) -> None:
        """Insist on what nobody waits for."""

        async def insist() -> None:
            with suppress(SessionUnavailable):  # it has been reported
                await self._insist(route, errand, error)

        loop = asyncio.get_running_loop()
        task = loop.create_task(insist())
        self._errands[task] = loop
        task.add_done_callback(self._errands.pop)

    async def servers(self) -> Sequence[Server]:
        """Every server that this wire leads to; raises `LaneBroken` if that can't be found out."""
        loop = asyncio.get_running_loop()
        return await (self._routes.get(loop) or self._new_route(loop)).servers()

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        loop = asyncio.get_running_loop()
        if loop in self._routes:
            await self._routes[loop].drain()
        if errands := [task for task, theirs in self._errands.items() if theirs is loop]:
            await asyncio.wait(errands)

    async def aclose(self) -> None:
        """Drain, then close this event loop's connections; they are opened again when needed."""
        await self.drain()
        loop = asyncio.get_running_loop()
        if loop in self._routes:
            await self._routes[loop].aclose()
        self._forget([loop])

    @property
    def stats(self) -> Stats:
        """The counters, with those of the open lanes."""
        stats = Stats(**self.counted.as_dict())
        for route in self._routes.values():
            _count(route, stats)
        return stats

    def emit(self, name: str, handle: str | None = None, detail: str | None = None) -> None:
        """Tell the app's hook; a hook that fails is logged and harms nobody."""
        if self._on_event is None:
            return
        try:
            self._on_event(SessionEvent(name, handle, detail))
        except Exception:
            logger.exception("on_event failed for the event %r.", name)

    def abandon_lanes(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self._inherited += self._routes.values()
        self._routes = {}
        self._errands = {}

    def _new_route(self, loop: asyncio.AbstractEventLoop) -> Route:
        self._forget([known for known in self._routes if known.is_closed()])
        route = self._routes[loop] = route_to(self.redis, timeout=self.timeout)
        return route

    def _forget(self, loops: Sequence[asyncio.AbstractEventLoop]) -> None:
        for loop in loops:
            if route := self._routes.pop(loop, None):
                _count(route, self.counted)

    def _note_answer(self, address: str) -> None:
        for answers in {address, _CLUSTER} & self._down:
            self._down.remove(answers)
            logger.warning("%s answers again.", answers)

    def _unavailable(self, way: Way | None, error: Exception) -> SessionUnavailable:
        self.counted.errors += 1
        address = _CLUSTER if way is None else way.lane.address
        if isinstance(error, ResponseError):
            reason = f"{address} refused the command ({_first_line(error)})"
            is_news, self._refusal = reason != self._refusal, reason
        else:
            reason = str(error)
            is_news = address not in self._down
            self._down.add(address)
        if is_news:  # one line an outage, not one a request
            logger.error("Sessions are unavailable: %s.", reason)
        self.emit("unavailable", None, reason)
        return SessionUnavailable(
            f"Sessions are unavailable: {reason}. Try again shortly.",
            is_refusal=isinstance(error, ResponseError),
        )


def _count(route: Route, stats: Stats) -> None:
    batches, commands = route.counts()
    stats.batches += batches
    stats.commands += commands


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _abandon_all_lanes() -> None:
    for wire in list(_wires):
        wire.abandon_lanes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all_lanes)
