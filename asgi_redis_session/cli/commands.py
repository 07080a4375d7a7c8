"""What the command can do, written with typer and rich (the extra `cli`)."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..doctor import CheckReport
from ..options import Durability
from ..store import SessionStore

__all__ = ["commands"]

# A traceback never shows variables, because one may hold a URL with a password.
commands = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_show_locals=False
)
_COLOURS = {"ok": "green", "advice": "yellow", "problem": "red", "unseen": "blue"}

_Url = Annotated[str, typer.Argument(help="as SessionStore.from_url takes it", show_default=False)]


@commands.callback()
def main() -> None:
    """Server-side sessions in Redis: examine a deployment."""


@commands.command()
def doctor(
    url: _Url,
    prefix: Annotated[str, typer.Option(help="the store's prefix")] = "session",
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
