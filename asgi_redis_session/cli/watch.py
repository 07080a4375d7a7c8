"""The command that shows what the servers do."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import typer
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from ..doctor.facts import keys_in
from ..errors import SessionUnavailable
from ..store import SessionStore, engine_of
from ..transport.failures import LaneBroken, broken_by
from .common import AsJson, Prefix, Redis, print_json, with_store
from .hearing import Hearing

#: The columns of `watch`: what INFO or the hearing calls them, and whether it counts them up.
_FIGURES: Mapping[str, tuple[str, bool]] = {
    "keys": ("keys", False),
    "memory_mb": ("used_memory", False),
    "clients": ("connected_clients", False),
    "commands/s": ("total_commands_processed", True),
    "reads/s": ("hgetall", True),
    "scripts/s": ("evalsha", True),
    "logins/s": ("logins", True),
    "ends/s": ("ends", True),
    "expired/s": ("expired_keys", True),
    "evicted/s": ("evicted_keys", True),
    "errors/s": ("total_error_replies", True),
}
_MB = 1024 * 1024

#: None is not known.
_Figures = Mapping[str, float | None]


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
    is one HGETALL, every change is a script. Logins (and renewals) and ends are those of the
    prefix. They are known where Redis reports changes of keys: notify-keyspace-events has Kz.
    """

    async def look(store: SessionStore) -> None:
        async with watched(store) as servers:
            before: dict[str, _Figures] = {}
            left = times
            while left is None or left >= 0:
                for server in servers:
                    found = await server.figures()
                    if server.name in before:
                        _print(server.name, _rates(before[server.name], found), as_json=as_json)
                    elif not as_json and not before:
                        typer.echo("\t".join(["time", "server", *_FIGURES]))
                    before[server.name] = found
                left = None if left is None else left - 1
                if left != -1:
                    await asyncio.sleep(every)

    with suppress(KeyboardInterrupt):
        with_store(redis, prefix, look)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A server, which has so many *seconds* for each answer."""

    name: str
    client: Client
    hearing: Hearing
    seconds: float

    async def begin(self) -> str | None:
        """Begin to listen; returns why nothing is heard."""
        async with self._asked():
            return await self.hearing.begin()

    async def figures(self) -> _Figures:
        """Ask for all figures."""
        async with self._asked():
            info = await self.client.info("all")
            await self.hearing.look()
        heard = (self.hearing.logins, self.hearing.ends) if self.hearing.is_on else (None, None)
        keys = keys_in(info)
        calls = {at: info.get(f"cmdstat_{at}", {}).get("calls", 0) for at in ("hgetall", "evalsha")}
        known = {**info, **calls, "keys": keys, "logins": heard[0], "ends": heard[1]}
        return {"at": time.monotonic(), **{of: known.get(of, 0) for of, _ in _FIGURES.values()}}

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.seconds):
                yield
        except (RedisError, OSError) as error:
            raise SessionUnavailable(f"{broken_by(error, self.name, self.seconds)}.") from None


@asynccontextmanager
async def watched(store: SessionStore) -> AsyncIterator[list[_Watched]]:
    """Listen to each server, and say once what can't be heard."""
    redis = engine_of(store).client
    try:
        servers = await redis.routes.here.servers()
    except LaneBroken as error:
        raise SessionUnavailable(f"{error}.") from None
    found = []
    for server in servers:
        client = Client.from_pool(server.pool)
        hearing = Hearing(client, store.prefix)
        found.append(_Watched(server.name, client, hearing, redis.timeout))
    try:
        reasons = [await one.begin() for one in found]
        for reason in dict.fromkeys(filter(None, reasons)):
            typer.echo(f"Logins and ends are not shown: {reason}.", err=True)
        yield found
    finally:
        for one in found:
            with suppress(RedisError, OSError):
                await one.hearing.aclose()
            with suppress(RedisError, OSError):
                await one.client.connection_pool.aclose()


def _rates(before: _Figures, now: _Figures) -> _Figures:
    seconds = (now["at"] or 0) - (before["at"] or 0)
    rates: dict[str, float | None] = {}
    for column, (name, is_counted) in _FIGURES.items():
        value, former = now[name], before[name]
        if value is not None and former is not None:
            value = (value - former) / seconds if is_counted else value
            value = round(value / _MB if column == "memory_mb" else value, 1)
        rates[column] = value
    return rates


def _print(server: str, rates: _Figures, *, as_json: bool) -> None:
    at, server = time.strftime("%H:%M:%S"), server.rstrip(",")
    if as_json:
        print_json({"time": at, "server": server, **rates})
    else:
        shown = ["-" if value is None else f"{value:g}" for value in rates.values()]
        typer.echo("\t".join([at, server, *shown]))
