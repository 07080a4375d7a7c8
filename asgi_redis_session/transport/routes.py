"""The routes of one client: one for each event loop that sends commands."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis, RedisCluster

from ..events import Stats
from .background import running_loop
from .cluster import ClusterRoute
from .lane import Lane, OnFailed, Purpose
from .route import Route, ServerRoute


class Routes(dict[asyncio.AbstractEventLoop, Route]):
    """
    The route of each event loop: `routes[loop]` makes it if there is none yet.

    *redis*, *timeout*: as for `Client`. *on_failed*: as for `Lane`. *counted*: the counters to
    which those of a closed route are added.
    """

    def __init__(
        self, redis: Redis | RedisCluster, timeout: float, on_failed: OnFailed, counted: Stats
    ) -> None:
        super().__init__()
        self._redis = redis
        self._timeout = timeout
        self._on_failed = on_failed
        self._counted = counted
        # Routes of the parent process, kept so that nothing closes their connections.
        self._inherited: list[Route] = []

    def __missing__(self, loop: asyncio.AbstractEventLoop) -> Route:
        self._forget([known for known in self if known.is_closed()])
        route: Route
        if isinstance(self._redis, RedisCluster):
            route = ClusterRoute(self._redis, self._timeout, self._on_failed)
        else:
            route = ServerRoute(self._redis, self._timeout, self._on_failed)
        self[loop] = route
        return route

    @property
    def here(self) -> Route:
        """The route of the running event loop."""
        return self[running_loop()]

    def lanes(self, purpose: Purpose | None = None) -> Sequence[Lane]:
        """Return the open lanes of this event loop, for tests and diagnostics."""
        route = self.get(asyncio.get_running_loop())
        return [] if route is None else route.lanes(purpose)

    def resting_loops(self) -> Sequence[asyncio.AbstractEventLoop]:
        """Return the loops that have routes and can be run by this thread, for the test kit."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return []
        return [loop for loop in self if not (loop.is_running() or loop.is_closed())]

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        if route := self.get(asyncio.get_running_loop()):
            await route.drain()

    async def aclose(self) -> None:
        """Close this event loop's connections. The next command opens them again."""
        loop = asyncio.get_running_loop()
        if loop in self:
            await self[loop].aclose()
        self._forget([loop])

    def add_to(self, stats: Stats) -> None:
        """Add what the open lanes have counted."""
        for route in list(self.values()):  # copied: another thread may add one
            _add(route, stats)
            for lane in route.lanes():
                stats.connections += lane.connection.raw is not None
                stats.queued += lane.queued

    def abandon(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self._inherited += self.values()
        self.clear()

    def _forget(self, loops: Sequence[asyncio.AbstractEventLoop]) -> None:
        """Forget the routes of these event loops, but not what they have counted."""
        for loop in loops:
            if route := self.pop(loop, None):
                _add(route, self._counted)


def _add(route: Route, stats: Stats) -> None:
    batches, commands = route.counts()
    stats.batches += batches
    stats.commands += commands
