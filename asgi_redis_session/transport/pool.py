"""
Connection pools that are safe for a lane.

By default redis-py retries writes, waits up to a minute, and (8.1) hands out connections with an
unread reply on them. So only the address, the credentials, TLS and the RESP version of the app's
client are used. The pools and their other options are ours.

And it lets through what a transport raises that is closed already, which is no `RedisError`. Here
every failure to send is one, except on a lane.
"""

import asyncio
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from .credentials import Credentials
from .parser import Parser
from .reasons import reason_of

#: Options of the app's client that are left out: they are no connection's, or are decided here.
_LEFT_OUT = (
    "connection_class",
    "connection_pool",
    "himport_registry",
    "response_callbacks",
    "retry_on_timeout",
)
#: How long one Sentinel may take, in seconds, so that there is time to ask the next one.
_SENTINEL_TIMEOUT = 0.5


def private_pool(client: Redis, *, for_lane: bool = False, **options: Any) -> ConnectionPool:
    """
    Return a pool that reaches the same server as *client*.

    It has the client's address, credentials, TLS and RESP version, but not its retries, timeouts
    and decoding. *for_lane*: its connections may raise any error, which a lane expects. *options*
    of a connection come on top.
    """
    pool = client.connection_pool
    options = _safe(pool.connection_kwargs) | options
    connection_class = _class_of(pool.connection_class, for_lane=for_lane)
    if isinstance(pool, SentinelConnectionPool):
        return _MasterPool(  # type: ignore[no-untyped-call]
            pool.service_name,
            _PrivateSentinel(pool.sentinel_manager),
            connection_class=connection_class,
            is_master=pool.is_master,
            **options,
        )
    return ConnectionPool(connection_class=connection_class, **options)


def address_in(options: Mapping[str, Any]) -> str:
    """Return where connections with these options lead, for people; redis-py has defaults."""
    if path := options.get("path"):
        return str(path)
    return f"{options.get('host') or 'localhost'}:{options.get('port') or 6379}"


def node_pool(
    cluster: RedisCluster, host: str, port: int, *, for_lane: bool = False, **options: Any
) -> ConnectionPool:
    """Return a pool that reaches one node of a Cluster, made in the way of `private_pool`."""
    given = cluster.connection_kwargs
    options = _safe(given) | {"host": host, "port": port} | options
    connection_class = _class_of(given["connection_class"], for_lane=for_lane)
    return ConnectionPool(connection_class=connection_class, **options)


def _safe(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection of ours, made from those of the app's client."""
    options = {name: value for name, value in given.items() if name not in _LEFT_OUT} | {
        "decode_responses": False,
        "parser_class": Parser,
        "socket_timeout": None,  # the lane has a deadline for the whole batch
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "max_connections": 4,
    }
    if (provider := options.get("credential_provider")) is not None:
        options["credential_provider"] = Credentials(provider)
    if "maint_notifications_config" in inspect.signature(ConnectionPool.__init__).parameters:
        # With these enabled, redis-py 8.1 accepts a connection that has stray data on it. (8.0 has
        # neither the option nor the problem.)
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return options


class _Guard:
    """
    Makes a `ConnectionError` of whatever goes wrong when a connection sends.

    A transport that is closed already raises a RuntimeError (uvloop), a TypeError or an
    AttributeError (asyncio of Python 3.12, 3.13.0 to 3.13.9 and 3.14.0; redis-py #4287). A lane
    does without, because this coroutine would be one more for each batch.
    """

    __slots__ = ()

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except (RedisError, OSError):
            raise
        except Exception as error:
            raise RedisConnectionError(f"connection lost ({type(error).__name__})") from error


def _class_of(given: Any, *, for_lane: bool) -> Any:
    return given if for_lane else _guarded(given)


@cache
def _guarded(given: Any) -> Any:
    return type(given.__name__, (_Guard, given), {})


class _MasterPool(SentinelConnectionPool):
    """A pool that finds its master through its own Sentinel clients, and closes them at the end."""

    async def aclose(self) -> None:
        await super().aclose()
        sentinels = self.sentinel_manager.sentinels
        await asyncio.gather(*[sentinel.aclose() for sentinel in sentinels])


class _PrivateSentinel(Sentinel):
    """
    The Sentinels of *given*, asked on connections of this event loop.

    None of them waits so long that no time is left to ask the next one.
    """

    def __init__(self, given: Sentinel) -> None:
        super().__init__([], given.min_other_sentinels)  # type: ignore[no-untyped-call]
        timeouts: Any = dict.fromkeys(
            ("socket_timeout", "socket_connect_timeout"), _SENTINEL_TIMEOUT
        )
        self.sentinels = [
            Redis.from_pool(private_pool(sentinel, **timeouts)) for sentinel in given.sentinels
        ]
        self._force_master_ip = given._force_master_ip  # noqa: SLF001

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """
        Return host and port of the master.

        As in redis-py, except for the error message: this one gives a reason for each Sentinel, and
        does not show the options of the clients, which may hold a password.
        """
        reasons = []
        for number, sentinel in enumerate(self.sentinels):
            options = sentinel.connection_pool.connection_kwargs
            name = f"Sentinel {address_in(options)}"
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (RedisError, OSError) as error:
                reasons.append(f"{name} can't be asked: {reason_of(error)}")
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels.insert(0, self.sentinels.pop(number))
                return self._force_master_ip or state["ip"], state["port"]
            reasons.append(f"{name} knows none that is alive")
        raise MasterNotFoundError(f"no master found for {service_name!r}; {'; '.join(reasons)}")
