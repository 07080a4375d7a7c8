"""
Connections that are safe for a lane.

redis-py's defaults retry writes, wait up to a minute, and (8.1) hand out connections with an unread
reply on them. So a client that is handed in says where to connect and as whom, and nothing else:
the connections are our own.
"""

import asyncio
import inspect
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["node_pool", "private_pool"]

#: Not for connections: what belongs to their client, or is decided here.
_THEIRS = (
    "connection_class",
    "connection_pool",
    "himport_registry",
    "response_callbacks",
    "retry_on_timeout",
)
#: How long (seconds) one Sentinel may take, so that there is time to ask the next one.
_SENTINEL_TIMEOUT = 0.5


def private_pool(client: Redis, **options: Any) -> ConnectionPool:
    """
    A pool that reaches the same server as *client*: with its address, credentials, TLS and RESP
    version, and without its retries, timeouts and decoding.
    """
    theirs = client.connection_pool
    ours = _safe(theirs.connection_kwargs) | options
    if isinstance(theirs, SentinelConnectionPool):
        return _MasterPool(  # type: ignore[no-untyped-call]
            theirs.service_name,
            _PrivateSentinel(theirs.sentinel_manager),
            connection_class=theirs.connection_class,
            is_master=theirs.is_master,
            **ours,
        )
    return ConnectionPool(connection_class=theirs.connection_class, **ours)


def node_pool(cluster: RedisCluster, host: str, port: int, **options: Any) -> ConnectionPool:
    """A pool that reaches one node of a Cluster, in the same way as `private_pool`."""
    theirs = cluster.connection_kwargs
    ours = _safe(theirs) | {"host": host, "port": port} | options
    return ConnectionPool(connection_class=theirs["connection_class"], **ours)


def _safe(theirs: dict[str, Any]) -> dict[str, Any]:
    ours = {name: value for name, value in theirs.items() if name not in _THEIRS} | {
        "decode_responses": False,
        "socket_timeout": None,  # the lane has a deadline of its own for the whole batch
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "max_connections": 4,
    }
    if "maint_notifications_config" in inspect.signature(ConnectionPool.__init__).parameters:
        # With these on, redis-py 8.1 accepts a connection that has stray data on it (8.0 has
        # neither).
        ours["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return ours


class _MasterPool(SentinelConnectionPool):
    """A pool that finds its master through Sentinel clients of its own."""

    async def aclose(self) -> None:
        await super().aclose()
        sentinels = self.sentinel_manager.sentinels
        await asyncio.gather(*[sentinel.aclose() for sentinel in sentinels])


class _PrivateSentinel(Sentinel):
    """
    The same Sentinels, asked by connections of this event loop, none of which waits so long that
    there is no time left for the next.
    """

    def __init__(self, theirs: Sentinel) -> None:
        super().__init__([], theirs.min_other_sentinels)  # type: ignore[no-untyped-call]
        waits = {"socket_timeout": _SENTINEL_TIMEOUT, "socket_connect_timeout": _SENTINEL_TIMEOUT}
        self.sentinels = [
            Redis.from_pool(private_pool(sentinel, **waits)) for sentinel in theirs.sentinels
        ]
        self._force_master_ip = theirs._force_master_ip  # noqa: SLF001

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """As redis-py's, but its message tells each Sentinel's reason, and no client's options."""
        reasons = []
        for number, sentinel in enumerate(self.sentinels):
            options = sentinel.connection_pool.connection_kwargs
            place = f"Sentinel {options.get('host')}:{options.get('port')}"
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (RedisError, OSError) as error:
                reasons.append(f"{place} can't tell: {error}")
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels.insert(0, self.sentinels.pop(number))
                return self._force_master_ip or state["ip"], state["port"]
            reasons.append(f"{place} knows no living one")
        raise MasterNotFoundError(f"no master found for {service_name!r}; {'; '.join(reasons)}")
