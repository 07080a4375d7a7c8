"""The commands that examine a deployment."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..doctor import CheckReport, count_plain
from ..options import Durability
from ..pages import page
from ..store import SessionStore, engine_of
from .common import AsJson, Prefix, Redis, print_json, print_number, with_store

_COLOURS = {"ok": "green", "advice": "yellow", "problem": "red", "unseen": "blue"}


def doctor(  # noqa: PLR0917  (typer calls it with keywords)
    redis: Redis,
    prefix: Prefix = "session",
    replicas: Annotated[int, typer.Option(help="of the store's Durability")] = 0,
    fsync: Annotated[bool, typer.Option("--fsync", help="of the store's Durability")] = False,  # noqa: FBT002
    write: Annotated[bool, typer.Option(help="write, read and end a session")] = True,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Check whether Redis is set up well for sessions. The exit status is 1 if not."""
    try:
        level = Durability(replicas=replicas, fsync=fsync) if replicas or fsync else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    report = with_store(redis, prefix, lambda store: store.check(write=write), durability=level)
    if as_json:
        for finding in report.findings:
            print_json(
                {
                    "name": finding.name,
                    "level": finding.level,
                    "message": finding.message,
                    "server": finding.server,
                }
            )
    else:
        print_report(report)
        if not report.is_ok:
            typer.echo(page("deployment/"), err=True)
    raise typer.Exit(0 if report.is_ok else 1)


def plain(
    redis: Redis,
    prefix: Prefix = "session",
    keep: Annotated[
        list[str] | None, typer.Option(help="a field that is not encrypted: of plain= or index=")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """
    Count the sessions whose values are not encrypted yet, as encryption=True needs it.

    It reads all of them. The exit status is 1 if any is left.
    """
    number = with_store(redis, prefix, _count_plain, encryption="read", plain=keep or ())
    sentence = "sessions hold values that are not encrypted."
    print_number("not_encrypted", number, sentence, as_json=as_json)
    raise typer.Exit(1 if number else 0)


async def _count_plain(store: SessionStore) -> int:
    engine = engine_of(store)
    assert engine.sealing is not None  # noqa: S101  (the store is made with encryption=)
    return await count_plain(engine, engine.sealing)


def print_report(report: CheckReport) -> None:
    """Print what the doctor has found, server by server."""
    table = Table("", "what", "finding", box=None, pad_edge=False)
    server: str | None = None
    for finding in report.findings:
        if finding.server != server:
            server = finding.server
            table.add_row("", "", f"[bold]{escape((server or '').rstrip(','))}")
        colour = _COLOURS[finding.level]
        table.add_row(f"[{colour}]{finding.level}", finding.name, escape(finding.message))
    Console(soft_wrap=False).print(table)
