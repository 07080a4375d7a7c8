"""
A pass over the keys of all servers, by SCAN: it needs no index, and looks at every key.

SCAN guarantees that a key which is there during the whole pass is shown, at least once. Its cursor
means something to one server only, so each server is asked on one connection: if that breaks, the
next one may lead to another server (Sentinel), and the pass fails.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ..errors import SessionUnavailable
from .client import Client
from .failures import LaneBroken, broken_by
from .reasons import reason_of
from .route import Server

#: Keys that one SCAN looks at. It takes Redis a tenth of a millisecond, and delays others by that.
_STEP = 100


async def pass_over(
    client: Client, pattern: str, keys_per_second: int | None
) -> AsyncGenerator[Sequence[bytes], None]:
    """
    Yield the keys of hashes that match *pattern*, step by step.

    *keys_per_second*: how many keys, of all, are looked at in a second; None: as fast as possible.
    Raises `SessionUnavailable`, also at the end if the servers have changed meanwhile.
    """
    servers = await _servers(client)
    step = min(keys_per_second or _STEP, _STEP)
    pause = 0.0 if keys_per_second is None else step / keys_per_second
    for server in servers:
        async for keys in _pass_over_one(client, server, (pattern, step), pause):
            yield keys
    if _names(await _servers(client)) != _names(servers):
        raise _failed(client, "the masters of the Redis Cluster have changed meanwhile")


async def _pass_over_one(
    client: Client, server: Server, what: tuple[str, int], pause: float
) -> AsyncGenerator[Sequence[bytes], None]:
    loop = asyncio.get_running_loop()
    connection: Any = None
    cursor, next_at = b"0", loop.time()
    try:
        while True:
            if next_at > loop.time():
                await asyncio.sleep(next_at - loop.time())
            next_at = loop.time() + pause
            try:
                async with asyncio.timeout(client.timeout):
                    if connection is None:
                        connection = await server.pool.get_connection()  # type: ignore[no-untyped-call]
                    cursor, keys = await _scan(connection, cursor, *what)
            except (RedisError, OSError, TimeoutError) as error:
                raise _failed(client, _reason(server, error, client.timeout)) from error
            if keys:
                yield keys
            if cursor == b"0":
                return
    finally:
        with suppress(RedisError, OSError):
            if connection is not None:
                await server.pool.release(connection)
            await server.pool.aclose()


async def _scan(
    connection: Any, cursor: bytes, pattern: str, step: int
) -> tuple[bytes, Sequence[bytes]]:
    await connection.send_command("SCAN", cursor, "MATCH", pattern, "COUNT", step, "TYPE", "hash")
    following, keys = await connection.read_response()
    return bytes(following), keys


async def _servers(client: Client) -> Sequence[Server]:
    try:
        return await client.routes.here.servers()
    except LaneBroken as error:
        raise _failed(client, str(error)) from error


def _names(servers: Sequence[Server]) -> list[str]:
    return sorted(server.name for server in servers)


def _reason(server: Server, error: Exception, timeout: float) -> str:
    if isinstance(error, NoPermissionError):
        return (
            f"{server.name} refused it ({reason_of(error)}). Give the store's Redis user +scan, "
            'see "ACL" in docs/deployment.md'
        )
    if isinstance(error, ResponseError):
        return f"{server.name} refused it ({reason_of(error)})"
    return str(broken_by(error, server.name, timeout))


def _failed(client: Client, reason: str) -> SessionUnavailable:
    client.events.counted.errors += 1
    client.events.emit("unavailable", detail=reason)
    return SessionUnavailable(
        f"The pass over all sessions was not completed: {reason}. Begin it again."
    )
