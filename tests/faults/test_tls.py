"""Row 37: certificates that are wrong, and ports that speak something else."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from redis.asyncio import Redis

from asgi_redis_session import Session, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer, DevServerError

from ..test_concurrency import create
from .servers import BINARY

pytestmark = pytest.mark.anyio

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority of our own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.file = folder / "ca.crt"
        self._openssl(
            "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=x"
        )

    def certificate(self, name: str, address: str = "127.0.0.1", days: int = 2) -> dict[str, Path]:
        """A certificate for an address, and its key."""
        (self._folder / "names").write_text(f"subjectAltName=IP:{address}\n")
        self._openssl(
            "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=y"
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-extfile", "names", "-days", str(days), "-out", f"{name}.crt"),
        )
        return {part: self._folder / f"{name}.{part}" for part in ("crt", "key")}

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self._folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    try:
        return Authority(tmp_path_factory.mktemp("tls") / "ours")
    except FileNotFoundError:
        pytest.skip("no openssl to make certificates with")


class TlsServer:
    """A redis-server with a port for TLS, beside its plain one."""

    def __init__(self, process: DevServer, port: int) -> None:
        self.process = process
        self.port = port

    def url(self, scheme: str = "rediss", **options: Any) -> str:
        """The TLS port, whatever the scheme says."""
        return f"{scheme}://127.0.0.1:{self.port}/0?{urlencode(options)}"


@contextmanager
def _serving(
    authority: Authority, certificate: dict[str, Path], **options: Any
) -> Iterator[TlsServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = {
        "tls-port": port,
        "tls-cert-file": certificate["crt"],
        "tls-key-file": certificate["key"],
        "tls-ca-cert-file": authority.file,
        "tls-auth-clients": "no",
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    quoted = {name: f'"{line}"' for name, line in lines.items()}
    try:
        process = DevServer(options=quoted, search=False, binary=BINARY).start()
    except DevServerError as error:
        if "Bad directive" in str(error):
            pytest.skip("this redis-server is built without TLS")
        raise
    with process:
        yield TlsServer(process, port)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[TlsServer]:
    with _serving(authority, authority.certificate("server")) as server:
        yield server


async def _is_refused(url: str, prefix: str, match: str) -> None:
    """Every request is refused in time, with a reason; nothing is sent in the clear instead."""
    async with SessionStore.from_url(url, prefix=prefix, timeout=1) as store:
        with pytest.raises(SessionUnavailable, match=match):
            await create(store, n=1)


async def test_the_right_certificate(server: TlsServer, authority: Authority, prefix: str) -> None:
    """With the authority named, sessions travel by TLS."""
    async with SessionStore.from_url(
        server.url(ssl_ca_certs=authority.file), prefix=prefix
    ) as store:
        session_id = await create(store, n=1)
        assert (await Session(store, session_id).load())["n"] == 1


async def test_an_unknown_authority(server: TlsServer, prefix: str, tmp_path: Path) -> None:
    """A certificate that nobody we trust has signed: refused."""
    other = Authority(tmp_path / "other")
    for url in (server.url(), server.url(ssl_ca_certs=other.file)):
        await _is_refused(url, prefix, "CERTIFICATE_VERIFY_FAILED")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [({"address": "192.0.2.1"}, "IP address mismatch"), ({"days": -1}, "expired")],
    ids=["another host's", "expired"],
)
async def test_a_wrong_certificate(
    authority: Authority, prefix: str, fault: dict[str, Any], reason: str
) -> None:
    """A certificate of another host, or an expired one: refused, and the reason is told."""
    with _serving(authority, authority.certificate("wrong", **fault)) as server:
        await _is_refused(server.url(ssl_ca_certs=authority.file), prefix, reason)


async def test_tls_and_plain_ports_are_not_mixed_up(
    server: TlsServer, authority: Authority, prefix: str
) -> None:
    """rediss:// to a plain port and redis:// to a TLS port: refused in time, no downgrade."""
    plain = server.process.url.replace("redis://", "rediss://")
    reasons = "can't be used|did not answer"
    await _is_refused(f"{plain}?ssl_ca_certs={authority.file}", prefix, reasons)
    await _is_refused(server.url("redis"), prefix, reasons)


async def test_clients_need_a_certificate(authority: Authority, prefix: str) -> None:
    """A server that asks for client certificates: refused without, served with one."""
    certificate, mine = authority.certificate("strict"), authority.certificate("client")
    with _serving(authority, certificate, tls_auth_clients="yes") as server:
        await _is_refused(server.url(ssl_ca_certs=authority.file), prefix, "can't be used")
        keys: dict[str, Any] = {"ssl_certfile": mine["crt"], "ssl_keyfile": mine["key"]}
        url = server.url(ssl_ca_certs=authority.file, **keys)
        async with SessionStore.from_url(url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            assert (await Session(store, session_id).load())["n"] == 1


async def test_an_older_protocol(authority: Authority, prefix: str) -> None:
    """A client that insists on TLS 1.3 refuses a server that knows 1.2 only."""
    with _serving(authority, authority.certificate("old"), tls_protocols="TLSv1.2") as server:
        client = Redis(
            host="127.0.0.1",
            port=server.port,
            ssl=True,
            ssl_ca_certs=str(authority.file),
            ssl_min_version=ssl.TLSVersion.TLSv1_3,
        )
        async with SessionStore(client, prefix=prefix, timeout=2) as store:
            with pytest.raises(SessionUnavailable, match="can't be used"):
                await create(store, n=1)
        await client.aclose()
