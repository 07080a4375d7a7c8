"""
Routes: which lane leads to a key, and where to try again after an error.

On one server, and on the master that Sentinel names, the same lane leads to every key. `cluster.py`
has the route of a Redis Cluster, where it depends on the key's slot.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import ConnectionPool, Redis

from ..options import Durability
from .connection import address_of
from .failures import LaneBroken
from .lane import Lane, OnFailed, Purpose
from .pool import private_pool

#: Seconds that a search query may take: some for itself, behind another one that takes as long.
_QUERY_TIMEOUT = 25.0


class NodeUnknown(LaneBroken):
    """Nothing was sent, because it is not known yet which node serves the key."""


class Hop(NamedTuple):
    """Where to send a command, and whether ASKING must be sent right before it."""

    lane: Lane
    asking: bool = False


class Server(NamedTuple):
    """A server that holds keys: its *name* for people, a *pool* to reach it, what it *serves*."""

    name: str
    pool: ConnectionPool
    serves: Callable[[bytes], bool]


class Master(NamedTuple):
    """
    A master of a Cluster: its *name* for people, its *node* (host and port), and *keys*, not all of
    one slot if possible, which it serves.
    """

    name: str
    node: tuple[str, int]
    keys: Sequence[bytes]


class Route(ABC):
    """The lanes of one event loop. *on_failed*: as for `Lane`."""

    def __init__(self, timeout: float, on_failed: OnFailed) -> None:
        self._timeout = timeout
        self._on_failed = on_failed
        # By purpose; in a Cluster by node and purpose.
        self._lanes: dict[Any, Lane] = {}

    @abstractmethod
    def lane(self, key: bytes, purpose: Purpose) -> Lane:
        """Return the lane that leads to the key. Raises `NodeUnknown` if that is not known yet."""

    def lane_to(self, node: tuple[str, int], purpose: Purpose) -> Lane:
        """Return the lane to this node of a Cluster."""
        raise NotImplementedError

    async def masters(self, prefix: bytes) -> Sequence[Master]:
        """Return the masters of a Cluster, with keys of this *prefix*. Raises `LaneBroken`."""
        raise NotImplementedError

    @abstractmethod
    async def reroute(
        self, key: bytes, purpose: Purpose, error: Exception, attempts: int, deadline: float
    ) -> Hop:
        """
        Return where to send a command again after *error*. Raises *error* to give up.

        Called by `Retries._next_hop`, which decides first what is the same on every route.
        *attempts*: how often the command has been rerouted already. After `LaneBroken` Redis may
        have executed the command, so only call this if it may be executed twice. (After
        `NodeUnknown` nothing was sent.)
        """

    @abstractmethod
    def suspect_topology(self) -> None:
        """
        Look again in the background who serves what.

        For a lane that broke under a command that can't be repeated: the next command should find
        the right node.
        """

    @abstractmethod
    def master(self, key: bytes) -> Hashable:
        """Return a name of the server that serves the key, for `pool`. Raises `NodeUnknown`."""

    @abstractmethod
    def pool(self, master: Any, **options: Any) -> ConnectionPool:
        """Return a new pool that reaches this server. *options*: of a connection, on top."""

    @abstractmethod
    async def servers(self) -> Sequence[Server]:
        """Return all servers that hold keys. Raises `LaneBroken` if they can't be found out."""

    def lanes(self, purpose: Purpose | None = None) -> Sequence[Lane]:
        """Return the open lanes: all, or those for one purpose."""
        lanes = list(self._lanes.values())  # copied: another thread may count them
        return [lane for lane in lanes if purpose in (None, lane.purpose)]

    def counts(self) -> tuple[int, int]:
        """Return how many batches and how many commands have been answered."""
        lanes = self.lanes()
        return sum(lane.batches for lane in lanes), sum(lane.commands for lane in lanes)

    async def drain(self) -> None:
        """Wait until all queued commands have been answered."""
        # All at the same time: the lane of a dead node takes until its timeout.
        await asyncio.gather(*[lane.drain() for lane in self.lanes()])

    async def aclose(self) -> None:
        """Drain, then close all connections."""
        await asyncio.gather(*[lane.aclose() for lane in self.lanes()])

    def _open(self, place: Any, pool: ConnectionPool, purpose: Purpose) -> Lane:
        timeout = _QUERY_TIMEOUT if purpose == "queries" else self._timeout
        if isinstance(purpose, Durability):
            timeout += purpose.timeout_ms / 1000
        lane = self._lanes[place] = Lane(
            pool,
            timeout=timeout,
            purpose=purpose,
            on_new_master=self._check_master_soon,
            on_failed=self._on_failed,
        )
        return lane

    def _check_master_soon(self) -> None:
        """
        Make all lanes ask the Sentinels before their next batch.

        One request uses several lanes. If one of them still used the old master, it would not find
        what another lane has just read from the new one.
        """
        for lane in self.lanes():
            lane.connection.check_master_soon()


class ServerRoute(Route):
    """The route to one server, or to the one that Sentinel calls the master."""

    def __init__(self, client: Redis, timeout: float, on_failed: OnFailed) -> None:
        super().__init__(timeout, on_failed)
        self._client = client

    def lane(self, _key: bytes, purpose: Purpose) -> Lane:
        """Return the lane for this purpose; it leads to all keys."""
        lane = self._lanes.get(purpose)
        if lane is None:
            lane = self._open(purpose, private_pool(self._client, for_lane=True), purpose)
        return lane

    async def reroute(
        self, key: bytes, purpose: Purpose, error: Exception, _attempts: int, _deadline: float
    ) -> Hop:
        """Return the same lane again after a broken connection; it opens a new one."""
        if isinstance(error, LaneBroken):
            return Hop(self.lane(key, purpose))
        raise error

    def suspect_topology(self) -> None:
        """Do nothing: there is only one place to go to."""

    def master(self, _key: bytes) -> Hashable:
        """Return always the same."""
        return None

    def pool(self, master: Any, **options: Any) -> ConnectionPool:  # noqa: ARG002
        """Return a new pool."""
        return private_pool(self._client, **options)

    async def servers(self) -> Sequence[Server]:
        """Return the one server."""
        pool = private_pool(self._client)
        return [Server(address_of(pool), pool, lambda _: True)]
