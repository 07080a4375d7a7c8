"""What all commands have in common: which store, how it prints, and how a failure ends."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from ..errors import SessionError, SessionValueError
from ..info import SEALED, SessionInfo
from ..pages import explained
from ..store import SessionStore

Redis = Annotated[
    str,
    typer.Option("--redis", envvar="REDIS_URL", help="as SessionStore.from_url takes it"),
]
Prefix = Annotated[str, typer.Option(help="the store's prefix")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object in each line")]

#: For what is no result.
ASIDE = Console(stderr=True)

R = TypeVar("R")


def with_store(
    url: str, prefix: str, work: Callable[[SessionStore], Coroutine[Any, Any, R]], **options: Any
) -> R:
    """
    Do something with a store.

    A wrong argument is a sentence, and the exit status is 2; a failure is a sentence, and it is 1.
    """

    async def run() -> R:
        async with SessionStore.from_url(url, prefix=prefix, **options) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except SessionError as error:
        # Not in the box of a BadParameter, which would break the address of its page.
        typer.echo(explained(error), err=True)
        raise typer.Exit(2 if isinstance(error, SessionValueError) else 1) from None
    except (ValueError, TypeError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None


def print_json(shown: Mapping[str, Any]) -> None:
    """Print an object in one line."""
    typer.echo(json.dumps(shown, ensure_ascii=True, default=_plain))


def print_number(name: str, number: int, sentence: str, *, as_json: bool) -> None:
    """Print a number: as an object with this one name, or in a sentence that it begins."""
    print_json({name: number}) if as_json else typer.echo(f"{number} {sentence}")


def described(info: SessionInfo, *, with_fields: bool) -> dict[str, Any]:
    """Return what a session shows of itself, by name; without its fields if they are not asked."""
    left_out = {"current"} if with_fields else {"current", "fields"}
    names = [each.name for each in fields(info) if each.name not in left_out]
    return {name: getattr(info, name) for name in names}


def printable(value: object) -> str:
    """Return a value as text in one line, which can't control the terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    return text.encode("unicode_escape").decode()


def _plain(value: object) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Where:
    """A condition of the command line, `FIELD=VALUE`: JSON, or a text."""

    def __init__(self, conditions: list[str] | None) -> None:
        self._wanted = [self._parsed(condition) for condition in conditions or ()]
        #: How many sessions could not be compared, because the field is encrypted.
        self.sealed = 0

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def __call__(self, info: SessionInfo) -> bool:
        """Whether a session has all of these values."""
        if any(info.fields.get(field) is SEALED for field, _ in self._wanted):
            self.sealed += 1
            return False
        return all(info.fields.get(field, self) in values for field, values in self._wanted)

    def warn(self) -> None:
        """Say what could not be compared."""
        if self.sealed:
            typer.echo(f"{self.sealed} sessions hold that field encrypted: not compared.", err=True)

    def _parsed(self, condition: str) -> tuple[str, list[Any]]:
        field, mark, text = condition.partition("=")
        if not mark or not field:
            raise typer.BadParameter(f"{condition}: give a field and a value, as in tenant=acme.")
        try:
            return field, [text, json.loads(text)]
        except ValueError:
            return field, [text]
