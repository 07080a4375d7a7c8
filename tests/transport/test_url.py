"""What URLs stand for, and how those are refused that stand for nothing."""

import ssl
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from asgi_redis_session import SessionStore
from asgi_redis_session.transport.pool import node_pool, private_pool
from asgi_redis_session.transport.url import client_from_url

pytestmark = pytest.mark.anywhere


def kwargs_of(url: str) -> dict[str, Any]:
    client = client_from_url(url)
    if isinstance(client, RedisCluster):
        node = client.startup_nodes[0]
        return node_pool(client, node.host, int(node.port)).connection_kwargs
    return private_pool(client).connection_kwargs


def test_a_cluster() -> None:
    """Nodes with and without a port, IPv6 too; user, password and options for all of them."""
    url = "redis+cluster://ann:p%40ss%2Cword@one,two:7001,[::1]:7002/0?protocol=2&client_name=x"
    client = client_from_url(url)
    assert isinstance(client, RedisCluster)
    places = [(node.host, node.port) for node in client.startup_nodes]
    assert places == [("one", 6379), ("two", 7001), ("::1", 7002)]
    options = kwargs_of(url)
    assert (options["username"], options["password"]) == ("ann", "p@ss,word")
    assert (options["protocol"], options["client_name"]) == (2, "x")
    assert options["host"] == "one"


def test_localhost_stays_a_name() -> None:
    """TLS checks it against the certificate."""
    client = client_from_url("rediss+cluster://localhost:7000")
    assert isinstance(client, RedisCluster)
    assert client.startup_nodes[0].host == "localhost"
    pool = node_pool(client, "localhost", 7000)
    assert issubclass(pool.connection_class, SSLConnection)


def test_sentinel() -> None:
    """The Sentinels, the service, its database; credentials of the one and the other."""
    url = (
        "redis+sentinel://ann:secret@one,two:26380/main/3"
        "?sentinel_username=watch&sentinel_password=other&protocol=2"
    )
    client = client_from_url(url)
    assert not isinstance(client, RedisCluster)
    pool = private_pool(client)
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main"
    options = pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("ann", "secret", 3)
    sentinels = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in sentinels] == [("one", 26379), ("two", 26380)]
    assert {(one["username"], one["password"]) for one in sentinels} == {("watch", "other")}


def test_sentinel_by_tls() -> None:
    """Both the servers and the Sentinels, with the same CA."""
    client = client_from_url("rediss+sentinel://one/main?ssl_ca_certs=/ca.crt")
    assert not isinstance(client, RedisCluster)
    pool = private_pool(client)
    assert isinstance(pool, SentinelConnectionPool)
    assert issubclass(pool.connection_class, SentinelManagedSSLConnection)
    (sentinel,) = pool.sentinel_manager.sentinels
    assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
    for made in (pool, sentinel.connection_pool):
        assert made.connection_kwargs["ssl_ca_certs"] == "/ca.crt"


@pytest.mark.parametrize(
    "url",
    ["rediss://localhost:6379/0", "rediss+cluster://localhost", "rediss+sentinel://localhost/main"],
)
def test_tls_checks_certificate_and_name(url: str) -> None:
    """Whatever redis-py's defaults become."""
    client = client_from_url(url)
    if isinstance(client, RedisCluster):
        pool = node_pool(client, "localhost", 6379)
    else:
        pool = private_pool(client)
    connection = pool.make_connection()  # type: ignore[no-untyped-call]
    assert connection.ssl_context.check_hostname is True
    assert connection.ssl_context.cert_reqs == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://:hunter2@",
        "redis+cluster://:hunter2@one,,two",
        "redis+cluster://:hunter2@one/1",
        "redis+cluster://:hunter2@one:port",
        "redis+cluster://:hunter2@one?bogus=1",
        "redis+sentinel://:hunter2@one",
        "redis+sentinel://:hunter2@one/",
        "redis+sentinel://:hunter2@one/main/db",
        "redis+sentinel://:hunter2@/main",
        "redis+sentinel://:hunter2@one/main?bogus=1",
        "redis+replicas://:hunter2@one",
        "unix+cluster://:hunter2@/path",
        "http+cluster://:hunter2@one",
        "+cluster://:hunter2@one",
        "",
        None,
        7,
    ],
)
def test_what_stands_for_nothing_is_refused(url: Any) -> None:
    """One sentence with every form that there is, and without the password."""
    with pytest.raises(ValueError, match=r"redis\+cluster://.*redis\+sentinel://") as refusal:
        SessionStore.from_url(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
