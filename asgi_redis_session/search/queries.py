"""
Questions across sessions, answered by Redis Search: `store.search`.

Rules kept here:
- an answer is whole or an error (`indexing`);
- only sessions that exist: Redis Search also knows keys that have expired and are not reaped yet,
  so what counts is what could still be read;
- each page of sessions is one atomic answer, so a session that matches all the time is found once,
  whatever is written meanwhile.

What is looked up of sessions goes through the store, and none of it travels with the requests.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from statistics import median_low
from typing import Any, Protocol

from ..engine.codec import check_name, encode
from ..engine.record import is_handle
from ..errors import SearchUnavailable
from ..info import SessionInfo
from ..transport.client import Client as Wire
from .admin import Indexing, Shades, mapping
from .fields import SEPARATOR, Index, Num, Tag, spell, unspell
from .filters import Filter, Has

__all__ = ["Search"]

#: Sessions of one atomic answer. It holds up other clients for one to two milliseconds.
_PAGE = 1_000
#: Few at first, so that the first one comes at once: of the first answer, and read in one batch.
_FIRST_PAGE = 100
_FIRST_BATCH, _BATCH = 25, 250
#: The longest answer: of groups, or of sessions that were created in the same millisecond.
_MOST_ROWS = 1_000_000
_FAR_MS = 10**14


class Sessions(Shades, Protocol):
    """What a search asks of the store of sessions."""

    async def peek(self, handle: str, names: Sequence[str] | None = None) -> SessionInfo | None:
        """A session without using it, with all of its fields or with those of these names."""
        ...

    async def end(self, handles: tuple[str, ...], *, side: bool = False) -> bool:
        """End a session; whether there was one."""
        ...


class Search(Indexing):
    """
    Questions across all sessions of a store: `store.search`.

    Filters are made of `Tag`, `Num` and `Text`: `(Tag("tenant") == "acme") & (Num("total") > 9)`.
    An answer holds for the moment at which Redis gives it; a commit is in the next one.

    Every verb raises `SearchUnavailable`, with the reason, when it can't be answered whole,
    `SessionUnavailable` when Redis is away, and `SessionValueError` for a field that is not
    declared.
    """

    def __init__(self, wire: Wire, sessions: Sessions, index: Index) -> None:
        super().__init__(wire, sessions, index)
        self._sessions = sessions

    # --- Questions ---

    async def count(self, where: Filter | None = None, *, exact: bool = True) -> int:
        """
        How many sessions there are, or how many match.

        Exact counts look at each match, about a microsecond of Redis' time each. *exact=False* also
        counts sessions that have just expired and that Redis has not reaped yet.
        """
        live = _live(_v="@v") if exact else ()
        rows = await self._rows(where, *live, *_count_per())
        return int(rows[0]["_n"]) if rows else 0

    def find(
        self, where: Filter | None = None, *, fields: Sequence[str] | None = None
    ) -> AsyncGenerator[SessionInfo, None]:
        """
        The sessions that match, in no particular order, as they are when they are read.

            async for info in store.search.find(Tag("tenant") == "acme", fields=["total"]): ...

        *fields*: names of those that you need; all by default. A session that matches from
        beginning to end is found once, however much is written meanwhile; one that ends is
        left out.
        """
        if isinstance(fields, str):
            raise TypeError("find(fields=...) takes a list of names, as in fields=['cart'].")
        names = None if fields is None else tuple(check_name(name) for name in fields)
        self._index.query(where)  # what is wrong with it is said here, not at the first step
        return self._found(where, names)

    async def count_by(
        self, field: Tag | str, where: Filter | None = None, *, exact: bool = True
    ) -> dict[Any, int]:
        """
        How many sessions there are for each value of a `Tag`: `{"acme": 1203, …}`.

        Sessions that lack the field are left out, one whose field is a list counts for each item.
        *exact=False* is faster for fields of few values, and counts the just expired.
        """
        tag = self._tag(field)
        if exact or tag.is_ours:
            shadow, steps = "_t", ["LOAD", "3", f"@{tag.shadow}", "AS", "_t"]
        else:
            shadow, steps = self._index.alias(tag), []
        # Groups of whole shadows first: there are few, and only these have to be split. One is for
        # sessions that lack the field, or have expired; it is not a text, so not after "".
        steps += [*_count_per(f"@{shadow}"), "FILTER", f'@{shadow} > ""', *_split(shadow)]
        steps += ["GROUPBY", "1", "@_w", "REDUCE", "SUM", "1", "@_n", "AS", "_n"]
        groups = await self._groups(tag, where, steps)
        return {value: int(float(number)) for value, number in groups.items()}

    async def sum_by(
        self, field: Tag | str, number: Num | str, where: Filter | None = None
    ) -> dict[Any, float]:
        """
        The sum of a `Num` for each value of a `Tag`: `{"acme": 5230.5, …}`.

        Sessions that lack one of both are left out. Sums are floats, exact up to 2^53.
        """
        tag = self._tag(field)
        summand = Num(number) if isinstance(number, str) else number
        self._index.alias(summand)
        steps = [*_live(_t=tag.shadow, _s=summand.shadow), *_split("_t")]
        steps += ["GROUPBY", "1", "@_w", "REDUCE", "SUM", "1", "@_s", "AS", "_n"]
        return await self._groups(tag, where, steps)

    async def revoke(self, where: Filter) -> int:
        """
        End all sessions that match; returns how many.

        When it returns, none of those that matched at the call is left, under whatever id, and no
        user's list shows them. A session that begins to match meanwhile may be ended, too.
        """
        if not isinstance(where, Filter):
            raise TypeError(
                f"revoke needs a filter, not {type(where).__name__}. To end all sessions, say so: "
                'Num("@created") >= 0.'
            )
        ended = 0
        while (more := await self._revoke_once(where)) > 0:
            # Once more, for those that got a new id while we looked.
            ended += more
        return ended

    # --- Inside: questions ---

    async def _found(
        self, where: Filter | None, names: Sequence[str] | None
    ) -> AsyncGenerator[SessionInfo, None]:
        size = _FIRST_BATCH
        async for handles in self._pages(where):
            start = 0
            while batch := handles[start : start + size]:
                for info in await asyncio.gather(
                    *[self._sessions.peek(handle, names) for handle in batch]
                ):
                    if info is not None:
                        yield info
                start, size = start + size, _BATCH

    async def _pages(self, where: Filter | None) -> AsyncIterator[list[str]]:
        """
        The handles of matching sessions, in slices of the time at which they were created.

        Not by a cursor of Redis Search: one that meets a negation passes over sessions that are
        written while it is open. The time of creation never changes, and each slice is one answer.
        """
        told: set[str] | None = None
        slices = [(0, _FAR_MS)]
        while slices:
            low, high = slices.pop()
            is_cut, hits = await self._hits(where, low, high, is_first=told is None)
            if is_cut:
                middle = _middle(hits.values(), low, high)
                slices += [(middle + 1, high), (low, middle)]
            if told is None:
                # What the first look has got is shown at once, whatever comes of its slice.
                told = set(hits)
                yield list(hits)
            elif not is_cut:
                yield [handle for handle in hits if handle not in told]

    async def _hits(
        self, where: Filter | None, low: int, high: int, *, is_first: bool
    ) -> tuple[bool, dict[str, int | None]]:
        """
        Matches that were created then: whether there are more than a page has room for, and those
        of a page, with the time of their creation as far as they still exist.
        """
        if not is_first:
            then = Num("@created").between(low, high)
            where = then if where is None else where & then
        most = _FIRST_PAGE if is_first else _PAGE if low < high else _MOST_ROWS
        rows = await self._rows(where, "LOAD", "2", "@__key", "@_created", *_limit(most))
        _refuse_too_many(rows)
        start = len(self._wire.prefix) + 1
        hits = {row["__key"].decode()[start:]: row.get("_created") for row in rows if row}
        return len(rows) > most, {
            handle: None if created is None else int(float(created))
            for handle, created in hits.items()
            if is_handle(handle)
        }

    async def _revoke_once(self, where: Filter) -> int:
        ended = 0
        async for handles in self._pages(where):
            for start in range(0, len(handles), _BATCH):
                batch = handles[start : start + _BATCH]
                ended += sum(
                    await asyncio.gather(
                        *[self._sessions.end((handle,), side=True) for handle in batch]
                    )
                )
        return ended

    def _tag(self, field: Tag | str) -> Tag:
        tag = Tag(field) if isinstance(field, str) else field
        if not isinstance(tag, Tag):
            raise TypeError(f"Sessions are counted by a Tag or its name, not by {field!r}.")
        self._index.alias(tag)
        return tag

    async def _groups(
        self, tag: Tag, where: Filter | None, steps: Sequence[str]
    ) -> dict[Any, float]:
        rows = await self._rows(where, *steps, *_limit(_MOST_ROWS))
        _refuse_too_many(rows)
        groups: dict[Any, float] = {}
        for row in rows:
            spelled = row["_w"].decode()
            try:
                value = unspell(spelled)
            except LookupError:
                value = await self._spelled_out(tag, spelled)
            # As in any dict, 1, 1.0 and True are one key.
            groups[value] = groups.get(value, 0) + float(row["_n"])
        return groups

    async def _spelled_out(self, tag: Tag, spelled: str) -> Any:
        """The long value that a digest stands for, from a session that has it; else the digest."""
        holders = Has(tag, ((spelled,),), "==", ())
        async for info in self.find(holders, fields=() if tag.is_ours else (tag.name,)):
            ours = {"@user": info.user_id, "@ip": info.address}
            value = ours[tag.name] if tag.is_ours else info.fields.get(tag.name)
            for item in value if isinstance(value, list) else [value]:
                if spell(encode(item)) == spelled:
                    return item
        return spelled

    async def _rows(self, where: Filter | None, *steps: str) -> list[dict[str, bytes]]:
        self._refuse_unusable()
        text, params = self._index.query(where)
        fixed = ("TIMEOUT", str(self._timeout_ms), "DIALECT", "2")
        command = ("FT.AGGREGATE", self._alias, text, *params, *fixed, *steps)
        return _rows_of(await self._ask(command))


# --- The words of a question ---


def _live(**fields: str) -> list[str]:
    """Read hash fields, and leave out what lacks one: a hash that has expired lacks all."""
    words = ["LOAD", str(3 * len(fields))]
    for name, field in fields.items():
        words += [f"@{field}", "AS", name]
    return [*words, "FILTER", " && ".join(f"exists(@{name})" for name in fields)]


def _split(name: str) -> tuple[str, ...]:
    """Each value of a shadow for itself."""
    return ("APPLY", f'split(@{name}, "{SEPARATOR}", "")', "AS", "_w")


def _count_per(*properties: str) -> tuple[str, ...]:
    grouped = ("GROUPBY", str(len(properties)), *properties)
    return (*grouped, "REDUCE", "COUNT", "0", "AS", "_n")


def _limit(most: int) -> tuple[str, ...]:
    """One row more than there should be, to know if there are more."""
    return ("LIMIT", "0", str(most + 1))


def _middle(instants: Any, low: int, high: int) -> int:
    """Where to cut a slice of time in two, so that both halves have sessions if possible."""
    known = [instant for instant in instants if instant is not None]
    return min(median_low(known) if known else (low + high) // 2, high - 1)


# --- The answers, in RESP2 and RESP3 ---


def _rows_of(answer: Any) -> list[dict[str, bytes]]:
    """What was found; an empty row for a hash that has expired."""
    if isinstance(answer, dict):
        rows = [row and row[b"extra_attributes"] for row in answer[b"results"]]
    else:
        rows = answer[1:]
    mappings = [mapping(row or {}) for row in rows]
    return [{key: raw for key, raw in row.items() if raw is not None} for row in mappings]


def _refuse_too_many(rows: Sequence[Any]) -> None:
    if len(rows) > _MOST_ROWS:
        raise SearchUnavailable(
            f"The answer would have more than {_MOST_ROWS:,} rows. Ask for less at a time."
        )
