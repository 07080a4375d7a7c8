"""
The doctor: `await store.check()` looks at the deployment and reports what it finds, as data.

It looks at each server that holds sessions, with the permissions of the store's user, and reports
what it had no permission to see. It writes one key, under the store's prefix, and deletes it.
`facts` asks, `contents` reads a sample, `checks` judges, `trial` lets a session live and end.
"""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..engine.engine import Engine
from ..engine.sealing import Sealing
from ..transport.failures import LaneBroken
from ..transport.reasons import reason_of
from ..transport.route import Server
from ..transport.tls import unchecked
from . import contents
from .checks import (
    CHECKS,
    Verdict,
    judge_client,
    judge_counted,
    judge_sentinel,
    judge_tls,
    problem,
)
from .facts import ask_sentinels, ask_server, client_options
from .report import CheckReport, Finding, Level
from .trial import try_out

__all__ = ["CheckReport", "Finding", "Level", "count_plain", "examine"]


async def examine(
    engine: Engine,
    *,
    is_own: bool,
    insecure_tls: bool,
    write: bool,
) -> CheckReport:
    """
    Examine every server that holds sessions of this store.

    *is_own*: whether the store has made its client itself. *insecure_tls*: whether it is known that
    TLS does not check all. *write*: whether a session is written, read and ended on each of them.
    Never raises for what it finds, not even for a server that does not answer.
    """
    client = engine.client
    findings: list[Finding] = []
    if not is_own:
        findings.append(_finding("client", judge_client(client_options(client.redis))))
    if (verdict := judge_tls(unchecked(client.redis), is_known=insecure_tls)) is not None:
        findings.append(_finding("tls", verdict))
    if (verdict := judge_counted(engine.events.counted.corrupt)) is not None:
        findings.append(_finding("contents", verdict))
    try:
        servers = await client.routes.here.servers()
    except LaneBroken as error:
        return CheckReport(findings=(*findings, _unreached("the Redis Cluster", str(error))))
    # A server that does not answer delays the report, but does not hide the others.
    for found in await asyncio.gather(*[_examine(engine, server, write) for server in servers]):
        findings += found
    for sentinel in await ask_sentinels(client.redis):
        findings.append(_finding("sentinel", judge_sentinel(sentinel), sentinel.server))
    return CheckReport(findings=tuple(findings))


async def count_plain(engine: Engine, sealing: Sealing) -> int:
    """
    Count the sessions that hold values which *sealing* would encrypt. It reads all sessions.

    Raises `RedisError`, `OSError` or `LaneBroken` for a server that does not answer.
    """
    number = 0
    for server in await engine.client.routes.here.servers():
        try:
            redis = Redis.from_pool(server.pool)
            number += await contents.count_plain(redis, engine.client.key(""), sealing)
        finally:
            await server.pool.aclose()
    return number


async def _examine(engine: Engine, server: Server, write: bool) -> list[Finding]:  # noqa: FBT001
    client = engine.client
    redis = Redis.from_pool(server.pool)
    try:
        async with asyncio.timeout(client.timeout):
            facts = await ask_server(redis, server, engine)
    except (RedisError, OSError, TimeoutError) as error:
        reason = reason_of(error) or f"no answer within {client.timeout:g} s"
        return [_unreached(server.name, reason)]
    finally:
        with suppress(RedisError, OSError):
            # Not redis.aclose(), which would forget the pool's Sentinels.
            await server.pool.aclose()
    verdicts = [(check.name, verdict) for check in CHECKS for verdict in check.judge(facts)]
    if write:
        verdicts.append(("write", await try_out(engine, server)))
    return [_finding(name, verdict, server.name) for name, verdict in verdicts]


def _unreached(server: str, reason: str) -> Finding:
    message = (
        f"It can't be reached: {reason.rstrip('.')}. Check its state, the address, the "
        "database, the credentials and the network."
    )
    return _finding("reach", problem(message), server)


def _finding(name: str, verdict: Verdict, server: str | None = None) -> Finding:
    level, message = verdict
    return Finding(name=name, level=level, message=message, server=server)
