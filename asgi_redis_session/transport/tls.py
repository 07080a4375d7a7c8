"""Whether a client checks who it talks to, by TLS."""

import ssl
import warnings
from typing import Any

from redis.asyncio import Redis, RedisCluster

from ..once import first_time
from ..pages import see
from .pool import node_pool, private_pool


def unchecked(redis: Redis | RedisCluster) -> str | None:
    """Return what TLS does not check, in words; None if it checks all, or is not used."""
    if isinstance(redis, RedisCluster):
        pool = node_pool(redis, "localhost", 6379)
    else:
        pool = private_pool(redis)
    connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
    context = getattr(connection, "ssl_context", None)
    if context is None:
        return None
    if context.cert_reqs == ssl.CERT_NONE:
        return "certificates are not checked"
    return None if context.check_hostname else "host names are not checked"


def warn_once(redis: Redis | RedisCluster) -> None:
    """Warn, once per process, if TLS does not check all."""
    what = unchecked(redis)
    if what is not None and first_time("TLS"):
        warnings.warn(
            f"TLS to Redis does not protect from somebody who pretends to be Redis: {what}. Give "
            "ssl_ca_certs=... instead. If your hosting service leaves no other way, say "
            f"SessionStore(insecure_tls=True). {see('tls_unchecked')}",
            stacklevel=4,
        )
