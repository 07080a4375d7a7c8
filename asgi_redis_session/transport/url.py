"""
From a URL to a client: of one server, of the master that Sentinel names, or of a Cluster.

Nothing connects here. No error message repeats the URL, because it may contain a password.
"""

import re
import warnings
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.sentinel import Sentinel
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from ..pages import see
from ..version import __version__
from .pool import node_pool, private_pool

_NAME = "asgi-redis-session"
_DEFAULT_PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
_MOST_DATABASES = 2**16

#: The options of redis-py's connections that have an effect here.
_USED = frozenset(
    {
        *("db", "username", "password", "protocol", "client_name"),
        *("socket_connect_timeout", "socket_keepalive", "socket_read_size"),
        *(
            "ssl_ca_certs",
            "ssl_ca_data",
            "ssl_ca_path",
            "ssl_certfile",
            "ssl_keyfile",
            "ssl_password",
        ),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
        *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
        *("sentinel_username", "sentinel_password"),
    }
)
#: Those that would lead to a replica, or garble what is sent.
_REFUSED = frozenset({"is_master", "encoding", "encoding_errors"})
_CHOICES = {
    "protocol": ("2", "3"),
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false", "yes", "no", "1", "0"),
}


class _NoRedis(ValueError):
    """Why a URL describes no Redis, without a part of it: that may be a part of the password."""


def client_from_url(url: str) -> Redis | RedisCluster:
    """
    Return the client that a URL describes. Raises `ValueError` if it describes none.

    `redis://[user:password@]host:port/database`, `rediss://…` for TLS, `unix:///path`;
    `redis+cluster://[user:password@]host:port,host:port` with some nodes of the Cluster;
    `redis+sentinel://[user:password@]host:port,host:port/service/database` with the Sentinels.
    There, user and password are those of the servers that the Sentinels watch; the credentials of
    the Sentinels are `?sentinel_username=…&sentinel_password=…`. Both forms also with `rediss+…`.
    Other options of redis-py's connections go into the query. One that has no effect here is
    warned about.
    """
    client: Redis | RedisCluster | None = None
    reason, unused = "", []
    try:
        parts, kind = _split(url)
        unused = _checked(url, parts, kind)
        client = _KINDS[kind](parts)
    except _NoRedis as error:
        reason = f" ({error})"
    except (ValueError, TypeError, LookupError, AttributeError, OSError, RedisError):
        pass
    if client is None:
        raise ValueError(
            f"SessionStore.from_url: this is not a Redis URL{reason}. Use redis://host:6379/0, "
            "rediss://host:6379/0, unix:///path/to/redis.sock, redis+cluster://host:6379,host:6379 "
            "or redis+sentinel://host:26379,host:26379/service/0, with options that redis-py "
            "knows, a database number (a Cluster has none), and special characters of the password "
            "escaped (%2F for /, %23 for #)."
        )
    if unused:  # redis-py knows these names, so they are no part of a password
        warnings.warn(
            f"SessionStore.from_url: {', '.join(unused)} in the URL has no effect, because the "
            "store decides that itself. Leave it out; version 1.0 will refuse it. "
            f"{see('url_option_unused')}",
            FutureWarning,
            stacklevel=3,
        )
    return client


def _split(url: str) -> tuple[SplitResult, str]:
    """
    Split a URL, and return the kind of deployment that its scheme names.

    The list of hosts is taken out first: `urlsplit` refuses IPv6 addresses in one.
    """
    head, _, rest = url.partition("://")
    scheme, _, kind = head.partition("+")
    hosts, slash, path = rest.partition("/")
    hosts, mark, query = hosts.partition("?")
    return urlsplit(f"//{mark}{query}{slash}{path}")._replace(scheme=scheme, netloc=hosts), kind


def _checked(url: str, parts: SplitResult, kind: str) -> list[str]:
    """Raise `_NoRedis` for what redis-py would take for something else; returns unused options."""
    place = parts.netloc.rpartition("@")[2]
    if re.search(r"[\x00-\x20\x7f]", url):
        raise _NoRedis("it contains blanks or control characters")
    if "#" in url:
        raise _NoRedis("it contains a #")
    if parts.scheme == "unix" and place:
        raise _NoRedis("the path of a socket comes after three slashes")
    if not kind and "," in place:
        raise _NoRedis("several hosts need +cluster or +sentinel")
    if any(urlsplit(f"//{each}").port == 0 for each in place.split(",")):
        raise _NoRedis("no server has the port 0")
    options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    names = [name for name, _ in options]
    if len(set(names)) < len(names):
        raise _NoRedis("an option is given twice")
    for name, value in options:
        _refuse_option(name, value)
    database = parts.path.rpartition("/")[2] if kind == "sentinel" else parts.path[1:]
    if "db" in names and parts.scheme != "unix" and database:
        raise _NoRedis("the database is given twice")
    if parts.scheme != "unix" and database.isdecimal():
        _refuse_option("db", database)
    return [name for name in names if name not in _USED]


def _refuse_option(name: str, value: str) -> None:
    if name in _REFUSED:
        raise _NoRedis(f"the option {name} can't be used here")
    if name not in _USED:
        return
    if not value or not value.isprintable():
        raise _NoRedis(f"the option {name} is empty, or contains control characters")
    if name == "db" and not (
        re.fullmatch(r"\d{1,9}", value, re.ASCII) and int(value) < _MOST_DATABASES
    ):
        raise _NoRedis(f"a database is a number from 0 to {_MOST_DATABASES - 1}")
    if name == "client_name" and not re.fullmatch(r"[!-~]+", value):
        raise _NoRedis("the option client_name contains blanks, or other than ASCII")
    if name in _CHOICES and value.lower() not in _CHOICES[name]:
        raise _NoRedis(f"the option {name} is one of {', '.join(_CHOICES[name])}")


def _one_server(parts: SplitResult) -> Redis:
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path[1:].isdecimal():
        raise _NoRedis("redis-py would take any other path for database 0")
    client = Redis.from_url(urlunsplit(parts), driver_info=_driver())
    # Refuses options that redis-py doesn't know. Nothing connects yet.
    private_pool(client).make_connection()  # type: ignore[no-untyped-call]
    return client


def _cluster(parts: SplitResult) -> RedisCluster:
    options, hosts = _options(parts._replace(path="")), _hosts(parts, "cluster")
    if parts.path.strip("/0") or options.pop("db", 0):
        raise _NoRedis("a Cluster has one database")
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
        raise _NoRedis("the name of the service must follow the Sentinels")
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
        raise _NoRedis("a host has no name")
    return hosts


def _options(parts: SplitResult) -> dict[str, Any]:
    """Return user, password, database and the options of the query, as redis-py reads them."""
    if parts.scheme not in ("redis", "rediss"):
        raise _NoRedis("several servers are reached by TCP or TLS only")
    user, at, _ = parts.netloc.rpartition("@")
    return dict(parse_url(urlunsplit(parts._replace(netloc=f"{user}{at}"))))


def _driver() -> DriverInfo:
    return DriverInfo().add_upstream_driver(_NAME, __version__)
