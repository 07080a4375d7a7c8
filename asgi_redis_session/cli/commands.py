"""What the command can do, written with typer and rich (the extra `cli`)."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..cookie import CookiePolicy
from ..doctor import CheckReport, count_plain
from ..errors import SessionError, SessionValueError
from ..gateway import ForwardAuth
from ..options import Durability, Lifetime
from ..store import SessionStore, engine_of

__all__ = ["commands"]

# A traceback never shows variables, because one may hold a URL with a password.
commands = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_show_locals=False
)
_URI_HEADER = "X-Forwarded-Uri"
_COLOURS = {"ok": "green", "advice": "yellow", "problem": "red", "unseen": "blue"}

_Url = Annotated[str, typer.Argument(help="as SessionStore.from_url takes it", show_default=False)]
_Prefix = Annotated[str, typer.Option(help="the store's prefix")]
_User = Annotated[str | None, typer.Option(help="a user id")]
_IdleFor = Annotated[float | None, typer.Option(help="seconds without use, at least")]

R = TypeVar("R")


@commands.callback()
def main() -> None:
    """Server-side sessions in Redis: examine a deployment, count and end, answer a proxy."""


@commands.command()
def doctor(
    url: _Url,
    prefix: _Prefix = "session",
    replicas: Annotated[int, typer.Option(help="of the store's Durability")] = 0,
    fsync: Annotated[bool, typer.Option("--fsync", help="of the store's Durability")] = False,  # noqa: FBT002
    write: Annotated[bool, typer.Option(help="write, read and end a session")] = True,  # noqa: FBT002
) -> None:
    """Check whether Redis is set up well for sessions. The exit status is 1 if not."""
    try:
        level = Durability(replicas=replicas, fsync=fsync) if replicas or fsync else None
        store = SessionStore.from_url(url, prefix=prefix, durability=level)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    report = asyncio.run(_check(store, write=write))
    _print(report)
    raise typer.Exit(0 if report.is_ok else 1)


@commands.command()
def plain(
    url: _Url,
    prefix: _Prefix = "session",
    keep: Annotated[
        list[str] | None, typer.Option(help="a field that is not encrypted: of plain= or index=")
    ] = None,
) -> None:
    """
    Count the sessions whose values are not encrypted yet, as encryption=True needs it.

    It reads all of them. The exit status is 1 if any is left.
    """
    try:
        store = SessionStore.from_url(url, prefix=prefix, encryption="read", plain=keep or ())
    except (ValueError, TypeError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    number = asyncio.run(_count_plain(store))
    typer.echo(f"{number} sessions hold values that are not encrypted.")
    raise typer.Exit(1 if number else 0)


@commands.command()
def count(url: _Url, prefix: _Prefix = "session") -> None:
    """Count all sessions, by a pass over all keys. The Redis user needs +scan."""
    typer.echo(_with_store(url, prefix, lambda store: store.count()))


@commands.command("list")
def list_(
    url: _Url,
    prefix: _Prefix = "session",
    user: _User = None,
    idle_for: _IdleFor = None,
) -> None:
    """List sessions, one in each line: handle, user, times of login and last use, address."""

    async def show(store: SessionStore) -> None:
        async for info in store.scan(user, idle_for=idle_for):
            times = [info.created_at, info.last_seen]
            columns = [info.handle, info.user_id, *[f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in times]]
            line = [_printable(column) for column in (*columns, info.address)]
            typer.echo("\t".join(line))

    _with_store(url, prefix, show)


@commands.command()
def revoke(  # noqa: PLR0917  (typer calls it with keywords)
    url: _Url,
    prefix: _Prefix = "session",
    user: _User = None,
    idle_for: _IdleFor = None,
    reason: Annotated[str | None, typer.Option(help="for absence.reason")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,  # noqa: FBT002
) -> None:
    """End the sessions of a user, or those that were not used for so long, or both."""
    if user is None and idle_for is None:
        raise typer.BadParameter("Give --user, --idle-for or both: they say which sessions end.")

    def end(store: SessionStore) -> Coroutine[Any, Any, int]:
        if user is not None and idle_for is None and not dry_run:
            return store.users.revoke_all(user, reason=reason)
        return store.revoke_where(
            lambda info: user in (None, info.user_id),
            idle_for=idle_for,
            reason=reason,
            dry_run=dry_run,
        )

    number = _with_store(url, prefix, end)
    typer.echo(f"{number} sessions {'would end' if dry_run else 'have ended'}.")


@commands.command()
def gateway(  # noqa: PLR0917  (typer calls it with keywords)
    redis: Annotated[str, typer.Option(help="as SessionStore.from_url takes it")],
    cookie: Annotated[str, typer.Option(help="the name of the app's cookie")] = "__Host-session",
    prefix: _Prefix = "session",
    secret_file: Annotated[
        Path | None, typer.Option(help="the store's secrets, one in each line, the newest first")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(help="the store's idle time in seconds, if it is not 1800")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="another header: X-Session-Plan=plan")
    ] = None,
    encryption: Annotated[
        str | None, typer.Option(help="the store's encryption: read, migrate or true")
    ] = None,
    plain: Annotated[list[str] | None, typer.Option(help="a field of the store's plain=")] = None,
    login_url: Annotated[str | None, typer.Option(help="where to send a browser")] = None,
    uri_header: Annotated[str, typer.Option(help="what the proxy calls the path")] = _URI_HEADER,
    host: Annotated[str, typer.Option(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen")] = 9000,
) -> None:
    """Answer a proxy that asks whose request this is: docs/gateways.md."""
    import uvicorn  # noqa: PLC0415  (of the extra `gateway`)

    try:
        lifetime = Lifetime() if idle is None else Lifetime(idle=idle)
        secret = None if secret_file is None else secret_file.read_text().split()
        store = SessionStore.from_url(
            redis,
            prefix=prefix,
            secret=secret,
            lifetime=lifetime,
            encryption=_step(encryption),
            plain=plain or (),
        )
        app = ForwardAuth(
            store,
            cookie=CookiePolicy(name=cookie),
            fields=dict(_pair(text) for text in field or ()),
            idle_is_known=idle is not None,
            login_url=login_url,
            uri_header=uri_header,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False)


def _with_store(url: str, prefix: str, work: Callable[[SessionStore], Coroutine[Any, Any, R]]) -> R:
    """Do something with a store. What it raises is a sentence, and the exit status is 1."""

    async def run() -> R:
        async with SessionStore.from_url(url, prefix=prefix) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except SessionValueError as error:
        raise typer.BadParameter(str(error)) from None
    except SessionError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _printable(text: str | None) -> str:
    """What a login has stored must not control the terminal."""
    return "-" if text is None else text.encode("unicode_escape").decode()


def _step(encryption: str | None) -> Any:
    """Return the store's option: it refuses what it does not know."""
    return {None: False, "true": True}.get(encryption, encryption)


def _pair(text: str) -> tuple[str, str]:
    header, mark, field = text.partition("=")
    if not mark:
        raise ValueError(f"--field {text}: give a header and a field, as in X-Session-Plan=plan.")
    return header, field


async def _count_plain(store: SessionStore) -> int:
    engine = engine_of(store)
    assert engine.sealing is not None  # noqa: S101  (the store is made with encryption=)
    async with store:
        return await count_plain(engine, engine.sealing)


async def _check(store: SessionStore, *, write: bool) -> CheckReport:
    async with store:
        return await store.check(write=write)


def _print(report: CheckReport) -> None:
    table = Table("", "what", "finding", box=None, pad_edge=False)
    server: str | None = None
    for finding in report.findings:
        if finding.server != server:
            server = finding.server
            table.add_row("", "", f"[bold]{escape((server or '').rstrip(','))}")
        colour = _COLOURS[finding.level]
        table.add_row(f"[{colour}]{finding.level}", finding.name, escape(finding.message))
    Console(soft_wrap=False).print(table)
