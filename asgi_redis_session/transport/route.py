"""
The way to a key: which lane leads there, and what to do when it has led elsewhere.

On one server, and on the master that Sentinel names, the same lane leads to every key. In a Cluster
it is the lane of the node that serves the key's slot. So that one node's trouble stays its own,
nobody waits here for another node than that of his key, except for news about who serves what:
those come from the first node that answers.

Nothing is sent twice here that may have been done: MOVED, ASK, TRYAGAIN and CLUSTERDOWN say that it
was not.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from hiredis import pack_command
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    TryAgainError,
)

from ..options import Durability
from .lane import Lane, LaneBroken, address_of
from .pool import node_pool, private_pool

__all__ = ["Purpose", "Route", "Server", "Unrouted", "Way", "route_to"]

#: What a lane is for. Neither long lists, nor questions across sessions, nor writes that wait for
#: replicas delay requests.
Purpose = Literal["requests", "side", "queries"] | Durability
#: How long a question may take (s): it may work for some seconds, behind another one.
_QUERY_TIMEOUT = 25.0

_ASKING = pack_command(("ASKING",))
_Node = tuple[str, int]

#: Pauses in seconds: before the next redirected try, and the longest one; between two looks at the
#: Cluster; before the next node is asked as well when one does not answer.
_PATIENCE, _LONGEST_PATIENCE, _REFRESH, _STAGGER = 0.02, 0.2, 0.2, 0.1


class Unrouted(LaneBroken):
    """Nothing was sent: nobody has said yet which node serves the key."""


class Way(NamedTuple):
    """A lane, and what has to be sent on it right before the command."""

    lane: Lane
    prelude: bytes = b""


class Server(NamedTuple):
    """One of the servers that hold the keys, and what reaches it."""

    name: str
    pool: ConnectionPool
    serves: Callable[[bytes], bool]


class Route(ABC):
    """The lanes of one event loop."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # By purpose, and in a Cluster by node as well.
        self._lanes: dict[Any, Lane] = {}

    @abstractmethod
    def lane(self, key: bytes, purpose: Purpose) -> Lane:
        """The lane that leads to the key; raises `Unrouted` if that is not known yet."""

    @abstractmethod
    async def detour(
        self, key: bytes, purpose: Purpose, error: Exception, tries: int, deadline: float
    ) -> Way:
        """
        Another way to the key, after *error* on the one before. Raises *error* if there is none.

        *tries*: how many detours it has been already. After `LaneBroken` the command may have been
        done, so only ask for a detour if it may be done twice, or after `Unrouted`.
        """

    @abstractmethod
    def doubt(self) -> None:
        """A lane broke, and there will be no detour: see to it that the next caller has one."""

    @abstractmethod
    async def servers(self) -> Sequence[Server]:
        """Every server that holds keys; raises `LaneBroken` if that can't be found out."""

    def lanes(self) -> Sequence[Lane]:
        """All lanes that are open."""
        return list(self._lanes.values())

    def counts(self) -> tuple[int, int]:
        """How many batches and commands have been answered."""
        lanes = self.lanes()
        return sum(lane.batches for lane in lanes), sum(lane.commands for lane in lanes)

    async def drain(self) -> None:
        """Return when everything that was queued has been answered."""
        # At once: the lane of a dead node takes its time.
        await asyncio.gather(*[lane.drain() for lane in self.lanes()])

    async def aclose(self) -> None:
        """Drain, then close all connections."""
        await asyncio.gather(*[lane.aclose() for lane in self.lanes()])

    def _open(self, place: Any, pool: ConnectionPool, purpose: Purpose) -> Lane:
        if isinstance(purpose, Durability):
            timeout = self._timeout + purpose.timeout_ms / 1000
            lane = Lane(pool, timeout=timeout, barrier=purpose, siblings=self.lanes)
        else:
            timeout = _QUERY_TIMEOUT if purpose == "queries" else self._timeout
            lane = Lane(pool, timeout=timeout, siblings=self.lanes)
        self._lanes[place] = lane
        return lane


def route_to(client: Redis | RedisCluster, *, timeout: float) -> Route:
    """The route to what *client* leads to, for the running event loop."""
    if isinstance(client, RedisCluster):
        return _ClusterRoute(client, timeout)
    return _ServerRoute(client, timeout)


class _ServerRoute(Route):
    """One server, or the one that Sentinel calls the master."""

    def __init__(self, client: Redis, timeout: float) -> None:
        super().__init__(timeout)
        self._client = client

    def lane(self, _key: bytes, purpose: Purpose) -> Lane:
        lane = self._lanes.get(purpose)
        if lane is None:
            lane = self._open(purpose, private_pool(self._client), purpose)
        return lane

    async def detour(
        self, key: bytes, purpose: Purpose, error: Exception, _tries: int, _deadline: float
    ) -> Way:
        # A connection that died while idle is found out by using it: the lane opens a new one.
        if isinstance(error, LaneBroken):
            return Way(self.lane(key, purpose))
        raise error

    def doubt(self) -> None:
        pass  # there is one way

    async def servers(self) -> Sequence[Server]:
        pool = private_pool(self._client)
        return [Server(address_of(pool), pool, lambda _: True)]


class _ClusterRoute(Route):
    """
    The masters of a Cluster, each with lanes of its own.

    *client* says where to start asking, and how to connect; it is never used itself.
    """

    def __init__(self, client: RedisCluster, timeout: float) -> None:
        super().__init__(timeout)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._start = [(node.host, int(node.port)) for node in client.startup_nodes]
        # By slot; None: nobody serves it, as far as we know.
        self._masters: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        # Whoever may tell, the one that answered last in front.
        self._nodes = self._start
        self._trouble = "nobody was asked yet"
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_at = 0.0
        self._retiring: set[asyncio.Task[None]] = set()
        self._retired = (0, 0)

    # --- The way ---

    def lane(self, key: bytes, purpose: Purpose) -> Lane:
        node = self._masters[key_slot(key)]
        if node is None:
            raise Unrouted(f"the Redis Cluster has no master for this session ({self._trouble})")
        return self._lane_to(node, purpose)

    async def detour(
        self, key: bytes, purpose: Purpose, error: Exception, tries: int, deadline: float
    ) -> Way:
        if isinstance(error, AskError):  # MovedError is one
            # Nodes that disagree for a moment send us to and fro.
            await self._wait(_PATIENCE * tries, deadline, error)
            node = self._remapped((error.host or self._host_of(key), error.port))
            if not isinstance(error, MovedError):
                return Way(self._lane_to(node, purpose), _ASKING)
            self._masters[error.slot_id] = node
            self._refresh_soon()
        elif isinstance(error, TryAgainError | ClusterDownError):
            await self._wait(_PATIENCE * (tries + 1), deadline, error)
            self._refresh_soon()
        elif isinstance(error, LaneBroken):
            await asyncio.wait((self._refresh_soon(),), timeout=deadline - self._loop.time())
        else:
            raise error
        return Way(self.lane(key, purpose))

    def doubt(self) -> None:
        self._refresh_soon()

    async def _wait(self, pause: float, deadline: float, error: Exception) -> None:
        pause = min(pause, _LONGEST_PATIENCE)
        if self._loop.time() + pause >= deadline:
            raise error
        await asyncio.sleep(pause)

    def _lane_to(self, node: _Node, purpose: Purpose) -> Lane:
        lane = self._lanes.get((node, purpose))
        if lane is None:
            lane = self._open((node, purpose), node_pool(self._client, *node), purpose)
        return lane

    def _host_of(self, key: bytes) -> str:
        """A node that does not know its own name leaves it out; it is the one that was asked."""
        node = self._masters[key_slot(key)]
        return "" if node is None else node[0]

    def _remapped(self, node: _Node) -> _Node:
        remap = self._client.nodes_manager.address_remap
        return node if remap is None else remap(node)

    # --- Who serves what ---

    def _refresh_soon(self) -> asyncio.Task[None]:
        """Look at the Cluster again, once for all who ask meanwhile."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._loop.create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        await asyncio.sleep(self._refresh_at - self._loop.time())
        try:
            async with asyncio.timeout(self._timeout):
                node, slots = await self._first_answer()
        except (LaneBroken, TimeoutError) as error:
            self._trouble = str(error) or f"none of its nodes answered within {self._timeout:g} s"
        else:
            self._learn(node, slots)
        finally:
            self._refresh_at = self._loop.time() + _REFRESH

    async def _first_answer(self) -> tuple[_Node, list[Any]]:
        """Ask one node after the other, the next one soon, and take what comes first."""
        asked: dict[asyncio.Task[list[Any]], _Node] = {}
        nodes, trouble = list(self._nodes), "none of its nodes was reached"
        try:
            while nodes or asked:
                if nodes:
                    node = nodes.pop(0)
                    asked[self._loop.create_task(self._slots_of(node))] = node
                done, _ = await asyncio.wait(
                    asked, timeout=_STAGGER if nodes else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    node = asked.pop(task)
                    try:
                        return node, task.result()
                    except (OSError, RedisError, ValueError) as error:
                        trouble = f"{node[0]}:{node[1]} can't tell: {error}"
            raise LaneBroken(trouble)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _slots_of(self, node: _Node) -> list[Any]:
        connection = node_pool(self._client, *node).make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            await connection.send_command("CLUSTER", "SLOTS")
            slots: list[Any] = await connection.read_response()
        finally:
            with suppress(OSError, RedisError):
                await connection.disconnect(nowait=True)
        if not slots:
            raise ValueError("it serves no slots")
        return slots

    def _learn(self, teller: _Node, slots: list[Any]) -> None:
        masters: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes = [teller]
        for first, last, *places in slots:
            served = [self._place(place, teller) for place in places]
            masters[first : last + 1] = [served[0]] * (last + 1 - first)
            nodes += served
        self._masters = masters
        self._nodes = list(dict.fromkeys([*nodes, *self._start]))
        self._trouble = "no node serves its slot"
        self._retire({node for node in masters if node is not None})

    def _place(self, place: list[Any], teller: _Node) -> _Node:
        host = (place[0] or b"").decode()
        return self._remapped((teller[0] if host in ("", "?") else host, int(place[1])))

    def _retire(self, masters: set[_Node]) -> None:
        """Close the lanes of nodes that serve nothing any more, when they are done."""
        for place in [place for place in self._lanes if place[0] not in masters]:
            task = self._loop.create_task(self._close(self._lanes.pop(place)))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _close(self, lane: Lane) -> None:
        await lane.aclose()
        batches, commands = self._retired
        self._retired = batches + lane.batches, commands + lane.commands

    # --- All of it ---

    async def servers(self) -> Sequence[Server]:
        await asyncio.wait((self._refresh_soon(),))
        masters = dict.fromkeys(node for node in self._masters if node is not None)
        if not masters:
            raise Unrouted(self._trouble)
        servers = []
        for node in masters:
            pool = node_pool(self._client, *node)
            servers.append(Server(address_of(pool), pool, partial(self._is_master, node)))
        return servers

    def _is_master(self, node: _Node, key: bytes) -> bool:
        return self._masters[key_slot(key)] == node

    def counts(self) -> tuple[int, int]:
        batches, commands = super().counts()
        return batches + self._retired[0], commands + self._retired[1]

    async def drain(self) -> None:
        await asyncio.gather(super().drain(), *self._retiring)

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        await asyncio.gather(super().aclose(), *self._retiring)
