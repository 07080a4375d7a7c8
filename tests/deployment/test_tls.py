"""TLS as docs/deployment.md has it."""

import re
from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.deployment import STORES, documented
from ..support.servers import Cluster
from ..support.sessions import create, works
from ..support.tls import Certificates, free_port, issue_all, tls_server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue_all(tmp_path_factory.mktemp("tls"))


def tls_store(certificates: Certificates, port: int, **options: Any) -> SessionStore:
    replace = {"localhost:6379": f"localhost:{port}", "/etc/redis/tls": str(certificates.folder)}
    return documented(3, replace, **options)


async def test_tls(certificates: Certificates, prefix: str) -> None:
    """With the CA and a client's certificate every verb works, and the doctor's, too."""
    with tls_server(certificates) as (_, port):
        async with tls_store(certificates, port, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            assert (await store.check()).is_ok


@pytest.mark.parametrize(
    ("certificate", "change", "says"),
    [
        ("redis", ("ca.crt", "wrong-ca.crt"), "CERTIFICATE_VERIFY_FAILED"),
        ("expired", ("", ""), "certificate has expired"),
        ("elsewhere", ("", ""), "Hostname mismatch"),
        ("redis", ("&ssl_certfile=", "&ssl_password="), "can't be used"),
        ("redis", ("rediss://", "redis://"), "can't be used"),
    ],
    ids=["wrong CA", "expired", "wrong host", "no client certificate", "no TLS"],
)
async def test_tls_is_refused(
    certificates: Certificates, prefix: str, certificate: str, change: tuple[str, str], says: str
) -> None:
    """One sentence that says why; nothing falls back to less."""
    with tls_server(certificates, certificate) as (_, port):
        code = STORES[3]
        url = "".join(re.findall(r'"([^"]+)"', code))
        url = url.replace("localhost:6379", f"localhost:{port}")
        url = url.replace("/etc/redis/tls", str(certificates.folder)).replace(*change)
        if change[0] in ("&ssl_certfile=", "rediss://"):
            url = url.partition("&ssl_")[0]
        if url.startswith("redis://"):
            url = url.partition("?")[0]
        async with SessionStore.from_url(url, prefix=prefix, timeout=20) as store:
            with pytest.raises(SessionUnavailable, match=says) as error:
                await create(store, n=0)
            assert "\n" not in str(error.value)
            assert f"localhost:{port}" in str(error.value)


async def test_a_cluster_by_tls(certificates: Certificates, prefix: str) -> None:
    """rediss+cluster: the nodes announce their TLS ports."""
    files = {
        "tls-cert-file": str(certificates.folder / "redis.crt"),
        "tls-key-file": str(certificates.folder / "redis.key"),
        "tls-ca-cert-file": str(certificates.folder / "ca.crt"),
        "tls-auth-clients": "no",
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
    }
    with Cluster(1, options={**files, "tls-port": str(port := free_port())}) as _:
        url = f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificates.folder}/ca.crt"
        async with SessionStore.from_url(url, prefix=prefix) as store:
            await works(store, await create(store, n=0))
            assert (await store.check()).is_ok
