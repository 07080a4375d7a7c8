"""Row 37: what TLS refuses beyond a wrong certificate, which is in tests/deployment/test_tls.py."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.servers import ask
from ..support.sessions import create
from ..support.tls import Certificates, issue_all, tls_server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue_all(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[tuple[DevServer, int]]:
    with tls_server(certificates) as both:
        yield both


def _client(certificates: Certificates, port: int, **options: Any) -> Redis:
    files = {part: str(certificates.folder / part) for part in ("ca.crt", "client.crt")}
    return Redis(
        host="localhost",
        port=port,
        ssl=True,
        ssl_ca_certs=files["ca.crt"],
        ssl_certfile=files["client.crt"],
        ssl_keyfile=str(certificates.folder / "client.key"),
        **options,
    )


async def test_a_plain_port(
    server: tuple[DevServer, int], certificates: Certificates, prefix: str
) -> None:
    """TLS to a port that speaks none: refused in time, and nothing is sent in the clear instead."""
    client = _client(certificates, server[0].port)
    async with SessionStore(client, prefix=prefix, timeout=1) as store:
        with pytest.raises(SessionUnavailable, match=r"can't be used|did not answer"):
            await create(store, n=1)
    await client.aclose()
    assert ask(server[0], "DBSIZE") == 0


async def test_an_older_protocol(
    server: tuple[DevServer, int], certificates: Certificates, prefix: str
) -> None:
    """A client that insists on TLS 1.3 refuses a server that knows 1.2 only."""
    ask(server[0], "CONFIG", "SET", "tls-protocols", "TLSv1.2")
    client = _client(certificates, server[1], ssl_min_version=ssl.TLSVersion.TLSv1_3)
    async with SessionStore(client, prefix=prefix, timeout=20) as store:
        with pytest.raises(SessionUnavailable, match="can't be used"):
            await create(store, n=1)
    await client.aclose()
