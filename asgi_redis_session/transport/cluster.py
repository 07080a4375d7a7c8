"""
The route through a Redis Cluster: each key belongs to a slot, and each slot to a master.

A node that does not answer delays only commands on its own keys. The one thing that all commands
may wait for is the list of who serves which slot, and that is taken from the first node that
answers.

A command is sent again after MOVED, ASK, TRYAGAIN and CLUSTERDOWN: these replies say that it was
not executed. After a broken connection the caller decides (see `Route.reroute`).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from redis.asyncio import ConnectionPool, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    TryAgainError,
)

from .connection import address_of
from .failures import LaneBroken
from .lane import Lane, OnFailed, Purpose
from .pool import node_pool
from .reasons import reason_of
from .route import Hop, Master, NodeUnknown, Route, Server
from .slots import tags_in

_Node = tuple[str, int]

#: Pause in seconds before a redirected command is sent again. It grows with each attempt, up to the
#: longest one.
_RETRY_PAUSE, _LONGEST_RETRY_PAUSE = 0.02, 0.2
#: Least time in seconds between two reloads of the slots.
_RELOAD_PAUSE = 0.2
#: Seconds until the next node is asked for the slots as well, if one does not answer.
_NEXT_NODE_AFTER = 0.1
#: So many keys of a master are named, so that one of them is in a slot that does not move.
_KEYS_OF_MASTER = 4


class ClusterRoute(Route):
    """
    The masters of a Cluster, each with lanes of its own.

    *client* says which nodes to ask first, and how to connect. It is never used itself.
    """

    def __init__(self, client: RedisCluster, timeout: float, on_failed: OnFailed) -> None:
        super().__init__(timeout, on_failed)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._startup_nodes = [(node.host, int(node.port)) for node in client.startup_nodes]
        # By slot; None if no node is known to serve it.
        self._masters: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        # The nodes that can list the slots; the one that answered last comes first.
        self._nodes = self._startup_nodes
        # Why a slot has no known master.
        self._problem = "no node was asked yet"
        self._reloading: asyncio.Task[None] | None = None
        self._reload_at = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        # Batches and commands of the lanes that have been closed.
        self._closed_counts = (0, 0)

    # --- Where a command goes ---

    def lane(self, key: bytes, purpose: Purpose) -> Lane:
        """Return the lane to the master of the key's slot. Raises `NodeUnknown`."""
        node = self._masters[key_slot(key)]
        if node is None:
            raise self._unknown()
        return self.lane_to(node, purpose)

    def lane_to(self, node: _Node, purpose: Purpose) -> Lane:
        """Return the lane to a node, no matter which slots it serves."""
        lane = self._lanes.get((node, purpose))
        if lane is None:
            pool = node_pool(self._client, *node, for_lane=True)
            lane = self._open((node, purpose), pool, purpose)
        return lane

    def master(self, key: bytes) -> _Node:
        """Return host and port of the master of the key's slot. Raises `NodeUnknown`."""
        node = self._masters[key_slot(key)]
        if node is None:
            raise self._unknown()
        return node

    def pool(self, master: _Node, **options: Any) -> ConnectionPool:
        """Return a new pool."""
        return node_pool(self._client, *master, **options)

    def _unknown(self) -> NodeUnknown:
        return NodeUnknown(f"the Redis Cluster has no known master for the key ({self._problem})")

    async def reroute(
        self, key: bytes, purpose: Purpose, error: Exception, attempts: int, deadline: float
    ) -> Hop:
        """Follow a redirection, wait until a slot is served, or find out which node serves it."""
        if isinstance(error, AskError):  # MovedError is a subclass
            # While two nodes disagree, each may send the command to the other.
            await self._pause(_RETRY_PAUSE * attempts, deadline, error)
            node = self._remapped((error.host or self._host_of_master(key), error.port))
            if not isinstance(error, MovedError):
                return Hop(self.lane_to(node, purpose), asking=True)
            self._masters[error.slot_id] = node
            self._reload_slots_soon()
        elif isinstance(error, TryAgainError | ClusterDownError):
            await self._pause(_RETRY_PAUSE * (attempts + 1), deadline, error)
            self._reload_slots_soon()
        elif isinstance(error, LaneBroken):
            reloading = self._reload_slots_soon()
            await asyncio.wait((reloading,), timeout=deadline - self._loop.time())
        else:
            raise error
        return Hop(self.lane(key, purpose))

    def suspect_topology(self) -> None:
        """Load the slots again in the background."""
        self._reload_slots_soon()

    async def _pause(self, seconds: float, deadline: float, error: Exception) -> None:
        seconds = min(seconds, _LONGEST_RETRY_PAUSE)
        if self._loop.time() + seconds >= deadline:
            raise error
        await asyncio.sleep(seconds)

    def _host_of_master(self, key: bytes) -> str:
        """Return the host to use when a redirection names none: that of the node that sent it."""
        node = self._masters[key_slot(key)]
        return "" if node is None else node[0]

    def _remapped(self, node: _Node) -> _Node:
        """Apply the client's `address_remap`, for nodes behind NAT."""
        remap = self._client.nodes_manager.address_remap
        return node if remap is None else remap(node)

    # --- Who serves what ---

    def _reload_slots_soon(self) -> asyncio.Task[None]:
        """Load the slots again. All who ask for it before it is done share one reload."""
        if self._reloading is None or self._reloading.done():
            self._reloading = self._loop.create_task(self._reload_slots())
        return self._reloading

    async def _reload_slots(self) -> None:
        await asyncio.sleep(self._reload_at - self._loop.time())
        try:
            async with asyncio.timeout(self._timeout):
                node, slots = await self._first_answer()
        except (LaneBroken, TimeoutError) as error:
            self._problem = str(error) or f"none of its nodes answered within {self._timeout:g} s"
        else:
            self._remember_slots(node, slots)
        finally:
            self._reload_at = self._loop.time() + _RELOAD_PAUSE

    async def _first_answer(self) -> tuple[_Node, list[Any]]:
        """Ask one node after the other, without waiting long for any, and take the first answer."""
        asked: dict[asyncio.Task[list[Any]], _Node] = {}
        nodes, problem = list(self._nodes), "none of its nodes was reached"
        try:
            while nodes or asked:
                if nodes:
                    node = nodes.pop(0)
                    asked[self._loop.create_task(self._slots_from(node))] = node
                done, _ = await asyncio.wait(
                    asked,
                    timeout=_NEXT_NODE_AFTER if nodes else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    node = asked.pop(task)
                    try:
                        return node, task.result()
                    except (OSError, RedisError, ValueError) as error:
                        problem = f"{node[0]}:{node[1]} did not list its slots: {reason_of(error)}"
            raise LaneBroken(problem)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _slots_from(self, node: _Node) -> list[Any]:
        """Return what a node answers to CLUSTER SLOTS."""
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

    def _remember_slots(self, answered_by: _Node, slots: list[Any]) -> None:
        masters: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes = [answered_by]
        for first, last, *entries in slots:
            serving = [self._node_of(entry, answered_by) for entry in entries]
            masters[first : last + 1] = [serving[0]] * (last + 1 - first)
            nodes += serving
        self._masters = masters
        self._nodes = list(dict.fromkeys([*nodes, *self._startup_nodes]))
        self._problem = "no node serves its slot"
        self._close_others({node for node in masters if node is not None})

    def _node_of(self, entry: list[Any], answered_by: _Node) -> _Node:
        """Return the node of an entry; one that does not know its own host leaves that out."""
        host = (entry[0] or b"").decode()
        return self._remapped((answered_by[0] if host in ("", "?") else host, int(entry[1])))

    def _close_others(self, masters: set[_Node]) -> None:
        """Close the lanes to nodes that no longer serve anything, once they are drained."""
        for place in [place for place in self._lanes if place[0] not in masters]:
            task = self._loop.create_task(self._close(self._lanes.pop(place)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, lane: Lane) -> None:
        await lane.aclose()
        batches, commands = self._closed_counts
        self._closed_counts = batches + lane.batches, commands + lane.commands

    # --- All lanes ---

    async def masters(self, prefix: bytes) -> Sequence[Master]:
        """Return all masters that serve slots, as they are now, with keys of this *prefix*."""
        masters = []
        for node, slots in (await self._reloaded()).items():
            keys = [prefix + b"{%b}" % tag for tag in islice(tags_in(slots), _KEYS_OF_MASTER)]
            masters.append(Master(f"{node[0]}:{node[1]}", node, keys))
        return masters

    async def _reloaded(self) -> dict[_Node, set[int]]:
        """Load the slots again, and return them by master."""
        await asyncio.wait((self._reload_slots_soon(),))
        slots: dict[_Node, set[int]] = {}
        for slot, node in enumerate(self._masters):
            if node is not None:
                slots.setdefault(node, set()).add(slot)
        if not slots:
            raise NodeUnknown(self._problem)
        return slots

    async def servers(self) -> Sequence[Server]:
        """Return all masters that serve slots, as they are now."""
        servers = []
        for node in await self._reloaded():
            pool = node_pool(self._client, *node)
            servers.append(Server(address_of(pool), pool, partial(self._is_master, node)))
        return servers

    def _is_master(self, node: _Node, key: bytes) -> bool:
        return self._masters[key_slot(key)] == node

    def counts(self) -> tuple[int, int]:
        """Count also what was answered on lanes that have been closed."""
        batches, commands = super().counts()
        return batches + self._closed_counts[0], commands + self._closed_counts[1]

    async def drain(self) -> None:
        """Wait also for lanes that are being closed."""
        await asyncio.gather(super().drain(), *self._closing)

    async def aclose(self) -> None:
        """Stop looking for nodes, then drain and close all lanes."""
        if self._reloading is not None:
            self._reloading.cancel()
        await asyncio.gather(super().aclose(), *self._closing)
