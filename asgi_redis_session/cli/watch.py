"""The command that shows what the servers do."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import typer
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from ..errors import SessionUnavailable
from ..store import SessionStore, engine_of
from ..transport.failures import LaneBroken
from ..transport.reasons import reason_of
from .common import AsJson, Prefix, Redis, print_json, with_store

#: The columns of `watch`: what INFO calls them, and whether it counts them up.
_FIGURES: Mapping[str, tuple[str, bool]] = {
    "keys": ("keys", False),
    "memory_mb": ("used_memory", False),
    "clients": ("connected_clients", False),
    "commands/s": ("total_commands_processed", True),
    "reads/s": ("hgetall", True),
    "scripts/s": ("evalsha", True),
    "expired/s": ("expired_keys", True),
    "evicted/s": ("evicted_keys", True),
    "errors/s": ("total_error_replies", True),
}
_MB = 1024 * 1024


def watch(
    redis: Redis,
    prefix: Prefix = "session",
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two lines")] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="so many lines, then end")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """
    Show what each server does, a line for each interval, until Ctrl-C.

    The figures are the server's own (INFO), so they count other programs, too. A read of a session
    is one HGETALL, every change is a script.
    """

    async def look(store: SessionStore) -> None:
        async with _servers(store) as servers:
            before: dict[str, Mapping[str, float]] = {}
            left = times
            while left is None or left >= 0:
                for name, client in servers.items():
                    found = await _figures(name, client)
                    if name in before:
                        _print(name, _rates(before[name], found), as_json=as_json)
                    elif not as_json and not before:
                        typer.echo("\t".join(["time", "server", *_FIGURES]))
                    before[name] = found
                left = None if left is None else left - 1
                if left != -1:
                    await asyncio.sleep(every)

    with suppress(KeyboardInterrupt):
        with_store(redis, prefix, look)


@asynccontextmanager
async def _servers(store: SessionStore) -> AsyncIterator[dict[str, Client]]:
    try:
        servers = await engine_of(store).client.routes.here.servers()
    except LaneBroken as error:
        raise SessionUnavailable(f"{error}.") from None
    try:
        yield {server.name: Client.from_pool(server.pool) for server in servers}
    finally:
        for server in servers:
            with suppress(RedisError, OSError):
                await server.pool.aclose()


async def _figures(name: str, client: Client) -> Mapping[str, float]:
    try:
        info = await client.info("all")
    except (RedisError, OSError) as error:
        raise SessionUnavailable(f"{name}: {reason_of(error) or 'no answer'}.") from None
    keys = sum(found["keys"] for at, found in info.items() if at.startswith("db"))
    calls = {at: info.get(f"cmdstat_{at}", {}).get("calls", 0) for at in ("hgetall", "evalsha")}
    known = {**info, **calls, "keys": keys}
    return {"at": time.monotonic(), **{of: known.get(of, 0) for of, _ in _FIGURES.values()}}


def _rates(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    seconds = now["at"] - before["at"]
    rates = {}
    for column, (name, is_counted) in _FIGURES.items():
        rates[column] = (now[name] - before[name]) / seconds if is_counted else now[name]
    rates["memory_mb"] = now["used_memory"] / _MB
    return {column: round(value, 1) for column, value in rates.items()}


def _print(server: str, rates: Mapping[str, float], *, as_json: bool) -> None:
    at = time.strftime("%H:%M:%S")
    if as_json:
        print_json({"time": at, "server": server, **rates})
    else:
        typer.echo("\t".join([at, server, *[f"{value:g}" for value in rates.values()]]))
