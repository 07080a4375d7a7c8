"""The commands that show, count and end sessions."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import typer

from ..info import SEALED, SessionInfo
from ..store import SessionStore
from .common import (
    AsJson,
    Prefix,
    Redis,
    Where,
    described,
    print_json,
    print_number,
    printable,
    with_store,
)

_User = Annotated[str | None, typer.Option(help="a user id")]
_IdleFor = Annotated[float | None, typer.Option(help="seconds without use, at least")]
_Where = Annotated[
    list[str] | None,
    typer.Option(help="FIELD=VALUE, JSON or a text; all of several. Reads all sessions."),
]

#: The columns of `list`.
_COLUMNS = ("handle", "user_id", "created_at", "last_seen", "expires_at", "address", "label")


def count(
    redis: Redis,
    prefix: Prefix = "session",
    by: Annotated[str | None, typer.Option(help="a field: how many have each value")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Count all sessions, by a pass over all keys. The Redis user needs +scan."""
    if by is None:
        number = with_store(redis, prefix, lambda store: store.count())
        print_json({"sessions": number}) if as_json else typer.echo(number)
        return

    async def counted(store: SessionStore) -> Counter[str]:
        return Counter([_shown(info, by) async for info in store.scan()])

    for value, number in with_store(redis, prefix, counted).most_common():
        if as_json:
            print_json({by: value, "sessions": number})
        else:
            typer.echo(f"{number}\t{value}")


def list_(  # noqa: PLR0917  (typer calls it with keywords)
    redis: Redis,
    prefix: Prefix = "session",
    user: _User = None,
    where: _Where = None,
    idle_for: _IdleFor = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List sessions: handle, user, times of login, last use and end, address, device."""
    is_wanted = Where(where)

    async def show(store: SessionStore) -> None:
        async for info in store.scan(user, idle_for=idle_for):
            if not is_wanted(info):
                continue
            if as_json:
                print_json(described(info, with_fields=False))
            else:
                typer.echo("\t".join(printable(getattr(info, column)) for column in _COLUMNS))

    with_store(redis, prefix, show)
    is_wanted.warn()


def show(
    handle: str,
    redis: Redis,
    prefix: Prefix = "session",
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show one session with the values of its fields. The exit status is 1 if there is none."""
    info = with_store(redis, prefix, lambda store: store.get(handle))
    if info is None:
        typer.echo("There is no session of this handle.", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json(described(info, with_fields=True))
        return
    for name, value in described(info, with_fields=False).items():
        typer.echo(f"{name}\t{printable(value)}")
    for field, value in sorted(info.fields.items()):
        typer.echo(f"fields.{printable(field)}\t{printable(value)}")


def revoke(  # noqa: PLR0917  (typer calls it with keywords)
    redis: Redis,
    handle: Annotated[str | None, typer.Argument(show_default=False)] = None,
    prefix: Prefix = "session",
    user: _User = None,
    where: _Where = None,
    idle_for: _IdleFor = None,
    reason: Annotated[str | None, typer.Option(help="for absence.reason")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="don't ask")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """End one session by its handle, or those that all of the options are true for."""
    chosen = _Chosen(handle, user, Where(where), idle_for)
    chosen.refuse_all_and_both()
    if dry_run or not (yes or handle is not None):
        number = with_store(redis, prefix, chosen.count)
        if dry_run:
            print_number("would_end", number, "sessions would end.", as_json=as_json)
            chosen.where.warn()
            return
        if number > 1:
            typer.confirm(f"End {number} sessions?", abort=True, err=True)
    number = with_store(redis, prefix, lambda store: chosen.end(store, reason))
    print_number("ended", number, "sessions have ended.", as_json=as_json)
    chosen.where.warn()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which sessions end."""

    handle: str | None
    user: str | None
    where: Where
    idle_for: float | None

    def refuse_all_and_both(self) -> None:
        """Refuse a call that names no session, or names some in two ways."""
        has_conditions = self.user is not None or self.where or self.idle_for is not None
        if self.handle is None and not has_conditions:
            raise typer.BadParameter(
                "Give a handle, or --user, --where or --idle-for: they say which sessions end."
            )
        if self.handle is not None and has_conditions:
            raise typer.BadParameter("Give a handle, or --user, --where and --idle-for; not both.")

    async def count(self, store: SessionStore) -> int:
        """Count them."""
        if self.handle is not None:
            return int(await store.get(self.handle) is not None)
        if self._of_user is not None:
            return await store.users.count(self._of_user)
        return await store.revoke_where(self._fits, idle_for=self.idle_for, dry_run=True)

    async def end(self, store: SessionStore, reason: str | None) -> int:
        """End them; returns how many."""
        if self.handle is not None:
            return int(await store.revoke(self.handle, reason=reason))
        if self._of_user is not None:
            return await store.users.revoke_all(self._of_user, reason=reason)
        return await store.revoke_where(self._fits, idle_for=self.idle_for, reason=reason)

    @property
    def _of_user(self) -> str | None:
        """The user, if all of their sessions end: that takes no pass over all keys."""
        return None if self.where or self.idle_for is not None else self.user

    def _fits(self, info: SessionInfo) -> bool:
        return self.user in (None, info.user_id) and self.where(info)


def _shown(info: SessionInfo, field: str) -> str:
    value = info.fields.get(field)
    return "(encrypted)" if value is SEALED else printable(value)
