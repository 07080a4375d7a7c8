"""
From a URL to a client: of one server, of the master that Sentinel names, or of a Cluster.

Nothing connects here. No error message repeats the URL, because it may contain a password.
"""

from importlib.metadata import version
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.sentinel import Sentinel
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from .pool import node_pool, private_pool

_NAME = "asgi-redis-session"
_DEFAULT_PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}


def client_from_url(url: str) -> Redis | RedisCluster:
    """
    Return the client that a URL describes. Raises `ValueError` if it describes none.

    `redis://[user:password@]host:port/database`, `rediss://…` for TLS, `unix:///path`;
    `redis+cluster://[user:password@]host:port,host:port` with some nodes of the Cluster;
    `redis+sentinel://[user:password@]host:port,host:port/service/database` with the Sentinels.
    There, user and password are those of the servers that the Sentinels watch; the credentials of
    the Sentinels are `?sentinel_username=…&sentinel_password=…`. Both forms also with `rediss+…`.
    Other options of redis-py's connections go into the query.
    """
    try:
        scheme, _, kind = url.partition("://")[0].partition("+")
        parts = urlsplit(url)._replace(scheme=scheme)
        client: Redis | RedisCluster | None = _KINDS[kind](parts)
    except (ValueError, TypeError, LookupError, AttributeError, OSError, RedisError):
        client = None
    if client is None:
        # The message does not repeat the part that is wrong: it may be a part of the password.
        raise ValueError(
            "SessionStore.from_url: this is not a Redis URL. Use redis://host:6379/0, "
            "rediss://host:6379/0, unix:///path/to/redis.sock, redis+cluster://host:6379,host:6379 "
            "or redis+sentinel://host:26379,host:26379/service/0, with options that redis-py "
            "knows, a database number (a Cluster has none), and special characters of the password "
            "escaped (%2F for /, %23 for #)."
        )
    return client


def _one_server(parts: SplitResult) -> Redis:
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path[1:].isdecimal():
        raise ValueError("redis-py would take any other path for database 0")
    client = Redis.from_url(urlunsplit(parts), driver_info=_driver())
    # Refuses options that redis-py doesn't know. Nothing connects yet.
    private_pool(client).make_connection()  # type: ignore[no-untyped-call]
    return client


def _cluster(parts: SplitResult) -> RedisCluster:
    if parts.path.strip("/0"):
        raise ValueError("a Cluster has one database")
    options, hosts = _options(parts._replace(path="")), _hosts(parts, "cluster")
    tls = options.pop("connection_class", None) is SSLConnection
    nodes = [ClusterNode(host, port) for host, port in hosts]
    client = RedisCluster(startup_nodes=nodes, ssl=tls, driver_info=_driver(), **options)
    for node, (host, _) in zip(client.startup_nodes, hosts, strict=True):
        node.host = host  # a ClusterNode turns localhost into an address, which TLS would refuse
    node_pool(client, *hosts[0]).make_connection()  # type: ignore[no-untyped-call]
    return client


def _sentinel(parts: SplitResult) -> Redis:
    service, _, database = parts.path.strip("/").partition("/")
    if not service or (database and not database.isdecimal()):
        raise ValueError("the name of the service must follow the Sentinels")
    options = _options(parts._replace(path=f"/{database}"))
    credentials = {  # of the Sentinels
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    tls = options.pop("connection_class", None) is SSLConnection
    tls_options = {name: value for name, value in options.items() if name.startswith("ssl_")}
    # Redis and the pool of a Sentinel both turn `ssl` into a class of connections.
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        _hosts(parts, "sentinel"),
        sentinel_kwargs={"ssl": tls, **tls_options, **credentials},
    )
    client: Redis = sentinel.master_for(service, ssl=tls, driver_info=_driver(), **options)
    private_pool(client).make_connection()  # type: ignore[no-untyped-call]
    return client


_KINDS: Any = {"": _one_server, "cluster": _cluster, "sentinel": _sentinel}


def _hosts(parts: SplitResult, kind: str) -> list[tuple[str, int]]:
    addresses = [urlsplit(f"//{each}") for each in parts.netloc.rpartition("@")[2].split(",")]
    hosts = [(each.hostname or "", each.port or _DEFAULT_PORTS[kind]) for each in addresses]
    if not all(host for host, _ in hosts):
        raise ValueError("a host has no name")
    return hosts


def _options(parts: SplitResult) -> dict[str, Any]:
    """Return user, password, database and the options of the query, as redis-py reads them."""
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("several servers are reached by TCP or TLS only")
    user, at, _ = parts.netloc.rpartition("@")
    return dict(parse_url(urlunsplit(parts._replace(netloc=f"{user}{at}"))))


def _driver() -> DriverInfo:
    return DriverInfo().add_upstream_driver(_NAME, version(_NAME))
