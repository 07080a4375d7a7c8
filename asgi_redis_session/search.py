"""
Questions across sessions, answered by Redis Search: `store.search`.

Rules kept here:
- an answer is whole or an error: the index is looked at in the same breath as it is asked. If it
  is missing, being built, or made for another declaration, that is said;
- only sessions that exist: Redis Search also knows keys that have expired and are not reaped yet,
  so what counts is what could still be read;
- only sessions of ours: the index leaves out the keys of an app whose prefix begins with ours;
- each page of sessions is one atomic answer, so a session that matches all the time is found once,
  whatever is written meanwhile.

Every FT command is in this file. None of them travels with the requests.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, NoReturn, Protocol

from redis.exceptions import ResponseError

from .codec import check_name, encode
from .errors import SearchUnavailable
from .index import SEPARATOR, Filter, Index, Num, Tag, holds, spell, unspell
from .record import SessionInfo, is_handle
from .wire import Wire

__all__ = ["Backfill", "IndexStatus", "Search"]

logger = logging.getLogger("asgi_redis_session")

#: How long Redis may work on one question (ms): it does nothing else meanwhile.
_TIMEOUT_MS = 10_000
#: Sessions of one atomic answer. It holds up other clients for one to two milliseconds.
_PAGE = 1_000
#: Few at first, so that the first one comes at once: of the first answer, and read in one batch.
_FIRST_PAGE = 100
_FIRST_BATCH, _BATCH = 25, 250
#: The longest answer: of groups, or of sessions that were created in the same millisecond.
_MOST_ROWS = 1_000_000
_FAR_MS = 10**14
_POLL = 0.02
#: Keys looked at by one SCAN, and sessions rewritten in one batch: each about a millisecond.
_SCAN_COUNT, _SHADE_BATCH = 200, 50
_MOST_PASSES = 5

_NOTHING = (
    "SessionStore(index=()) declares nothing to search by. Declare the fields that you ask for, as "
    'in SessionStore(..., index=[Tag("tenant"), Num("total")]).'
)
_NO_SEARCH = (
    "This Redis has no Search. Use Redis 8 or Redis Stack, or load the module redisearch; all "
    "else in this library works without it."
)
_MISSING = (
    "These sessions have no index yet. Call `await store.search.create_index()` once, when you "
    "deploy; with backfill=True it reaches the sessions that exist already."
)
_OTHER = (
    "The index was made for another declaration than that of this SessionStore. Call `await "
    "store.search.create_index(rebuild=True, backfill=True)`, or give this process the declaration "
    "that the index has."
)
_SLOW = (
    "Redis Search has stopped the query after {seconds:g} s, and a part of an answer is none. Ask "
    "for less at a time, or count with exact=False."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """
    How an index is doing.

    *documents*: sessions in it, also ones that have just expired. *failures*: hashes that could not
    be indexed since it was made; 0 unless somebody else writes into our keys. *progress*: how much
    of it is built, from 0 to 1. *memory*: bytes, as far as Redis Search counts them.
    """

    name: str
    documents: int
    failures: int
    progress: float
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """
    How far a backfill has got: keys *scanned*, sessions *written*, and the *cursor* to go on from,
    with `create_index(backfill=True, resume=cursor)`, if it is interrupted now.
    """

    scanned: int
    written: int
    cursor: int


class Sessions(Protocol):
    """What a search asks of the store of sessions."""

    async def peek(self, handle: str, names: Sequence[str] | None = None) -> SessionInfo | None:
        """A session without using it, with all of its fields or with those of these names."""
        ...

    async def end(self, handles: tuple[str, ...], *, side: bool = False) -> bool:
        """End a session; whether there was one."""
        ...

    async def shade(self, handle: str) -> bool:
        """Write the shadows that a session lacks; whether it lacked any."""
        ...


class Search:
    """
    Questions across all sessions of a store: `store.search`.

    Filters are made of `Tag`, `Num` and `Text`: `(Tag("tenant") == "acme") & (Num("total") > 9)`.
    An answer holds for the moment at which Redis gives it; a commit is in the next one.

    Every verb raises `SearchUnavailable`, with the reason, when it can't be answered whole,
    `SessionUnavailable` when Redis is away, and `SessionValueError` for a field that is not
    declared.
    """

    def __init__(self, wire: Wire, sessions: Sessions, index: Index) -> None:
        self._wire = wire
        self._sessions = sessions
        self._index = index
        self._alias = wire.key("idx")
        self._timeout_ms = _TIMEOUT_MS

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
    ) -> AsyncIterator[SessionInfo]:
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
            steps = [*_live(_t=tag.shadow), *_split("_t"), *_count_per("@_w")]
        else:
            alias = self._index.alias(tag)
            # Groups of whole shadows first: there are few, and only these have to be split. One is
            # for sessions that lack the field; it is not a text, so not after "".
            steps = [*_count_per(f"@{alias}"), "FILTER", f'@{alias} > ""', *_split(alias)]
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

    # --- The index ---

    async def create_index(
        self,
        *,
        rebuild: bool = False,
        backfill: bool = False,
        resume: int = 0,
        progress: Callable[[Backfill], None] | None = None,
    ) -> IndexStatus:
        """
        Make the index, and return when it is complete; if there is one already, only look at it.

        Call it when you deploy. Raises `SearchUnavailable` if the index was made for another
        declaration, unless *rebuild*: then a new one is built beside it and takes its place when it
        is complete. Sessions are not touched.

        *backfill*: also write what is indexed of the sessions that were written before the field
        was declared, or by processes that do not declare it. Redis is never held up for longer
        than some milliseconds, and sessions neither live longer for it nor come back. *progress*
        is called after each step; *resume* goes on from its `cursor`.
        """
        current = await self._current()
        if current is not None and not self._is_ours(current.name) and not rebuild:
            raise SearchUnavailable(_OTHER)
        if backfill:
            await self._backfill(resume, progress or _ignore)
        if current is None or rebuild:
            await self._build(current)
        status = await self._built(self._alias)
        if status.failures:
            logger.warning(
                "%d hashes could not be indexed by Redis Search: something else writes to our "
                "keys. See 'Index Errors' of `redis-cli FT.INFO %s`.",
                status.failures,
                status.name,
            )
        return status

    async def drop_index(self) -> bool:
        """Remove the index, and leave all sessions alone; whether there was one."""
        names = await self._names()
        for name in names:
            await self._command("FT.DROPINDEX", name)
        return bool(names)

    async def status(self) -> IndexStatus:
        """How the index is doing: to be watched, and to be asked before you ask it."""
        current = await self._current()
        if current is None:
            await self._say_missing()
        if not self._is_ours(current.name):
            raise SearchUnavailable(_OTHER)
        return current

    # --- Inside: questions ---

    async def _found(
        self, where: Filter | None, names: Sequence[str] | None
    ) -> AsyncIterator[SessionInfo]:
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
        async for info in self.find(holds(tag, spelled), fields=() if tag.is_ours else (tag.name,)):
            ours = {"@user": info.user_id, "@ip": info.address}
            value = ours[tag.name] if tag.is_ours else info.fields.get(tag.name)
            for item in value if isinstance(value, list) else [value]:
                if spell(encode(item)) == spelled:
                    return item
        return spelled

    async def _rows(self, where: Filter | None, *steps: str) -> list[dict[str, bytes]]:
        if not self._index:
            raise SearchUnavailable(_NOTHING)
        text, params = self._index.query(where)
        fixed = ("TIMEOUT", str(self._timeout_ms), "DIALECT", "2")
        return await self._ask(("FT.AGGREGATE", self._alias, text, *params, *fixed, *steps))

    async def _ask(self, command: Sequence[str]) -> list[dict[str, bytes]]:
        """Ask the index, and in the same breath how it is."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        seconds = self._timeout_ms / 1000
        info, answer = await self._wire.commands(("FT.INFO", self._alias), command)
        if isinstance(info, ResponseError):
            await self._explain(info)
        status = _status(info)
        if not self._is_ours(status.name):
            raise SearchUnavailable(_OTHER)
        _refuse_unbuilt(status)
        if isinstance(answer, ResponseError):
            await self._explain(answer)
        if isinstance(answer, dict):
            is_cut = bool(answer.get(b"warning"))
        else:  # RESP2 has no place for a warning: whoever took that long was stopped
            is_cut = loop.time() - started >= seconds
        if is_cut:
            raise SearchUnavailable(_SLOW.format(seconds=seconds))
        return _rows_of(answer)

    # --- Inside: the index ---

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self._alias}:{self._index.fingerprint}:")

    async def _current(self) -> IndexStatus | None:
        """The index that the alias leads to; None if there is none."""
        if not self._index:
            raise SearchUnavailable(_NOTHING)
        return await self._look(self._alias)

    async def _look(self, name: str) -> IndexStatus | None:
        (info,) = await self._wire.commands(("FT.INFO", name))
        if not isinstance(info, ResponseError):
            return _status(info)
        if not _is_missing(info):
            await self._explain(info)
        return None

    async def _names(self) -> list[str]:
        """All indexes of ours, under whatever declaration, complete or not."""
        ours = re.compile(re.escape(self._alias) + r":[0-9a-f]{12}:\d+")
        listed = await self._command("FT._LIST")
        return [name for raw in listed if ours.fullmatch(name := raw.decode())]

    async def _build(self, replaced: IndexStatus | None) -> None:
        """Make an index beside the one that there is, then let it take over."""
        number = 1
        if replaced is not None and self._is_ours(replaced.name):
            number += int(replaced.name.rpartition(":")[2])
        name = f"{self._alias}:{self._index.fingerprint}:{number}"
        prefix = f"{self._wire.prefix}:"
        # Longer keys are those of an app whose prefix begins with ours.
        only_ours = f"strlen(@__key) == {len(prefix) + 32} && exists(@_created)"
        command = ["FT.CREATE", name, "ON", "HASH", "PREFIX", "1", prefix, "FILTER", only_ours]
        command += ["NOOFFSETS", "NOFREQS", "NOFIELDS", "NOHL", "STOPWORDS", "0"]
        # If there is one of this name, somebody else is building it, or has not finished.
        await self._command(*command, "SCHEMA", *self._index.schema, allow="already exists")
        await self._built(name)
        await self._command("FT.ALIASUPDATE", self._alias, name)
        for other in await self._names():
            if other != name:
                await self._command("FT.DROPINDEX", other, allow="nknown index")

    async def _built(self, name: str) -> IndexStatus:
        while True:
            status = await self._look(name)
            if status is None:
                raise SearchUnavailable(_MISSING)
            if status.progress >= 1:
                return status
            await asyncio.sleep(_POLL)

    async def _backfill(self, cursor: int, progress: Callable[[Backfill], None]) -> None:
        """
        Pass over all keys until nothing is left to write: a session that gets a new id meanwhile
        may move to where the scan has been.
        """
        scanned = written = 0
        for _ in range(_MOST_PASSES):
            before = written
            while True:
                cursor, handles = await self._scan(cursor)
                for start in range(0, len(handles), _SHADE_BATCH):
                    batch = handles[start : start + _SHADE_BATCH]
                    written += sum(await asyncio.gather(*map(self._sessions.shade, batch)))
                scanned += len(handles)
                progress(Backfill(scanned=scanned, written=written, cursor=cursor))
                if cursor == 0:
                    break
            if written == before:
                break

    async def _scan(self, cursor: int) -> tuple[int, list[str]]:
        pattern = f"{self._wire.prefix}:*"  # no prefix has a character that means something here
        reply = await self._command("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
        handles = [key.decode(errors="replace")[len(pattern) - 1 :] for key in reply[1]]
        return int(reply[0]), [handle for handle in handles if is_handle(handle)]

    async def _command(self, *command: Any, allow: str | None = None) -> Any:
        """One command of those that keep the index; *allow* names an error that is none."""
        (answer,) = await self._wire.commands(command)
        if isinstance(answer, ResponseError):
            if allow is not None and allow in str(answer):
                return None
            await self._explain(answer)
        return answer

    async def _explain(self, error: ResponseError) -> NoReturn:
        """Say what it is that Redis would not do."""
        said = str(error).partition("\n")[0]
        if "unknown command" in said.lower():
            raise SearchUnavailable(_NO_SEARCH)
        if "timeout" in said.lower():
            raise SearchUnavailable(_SLOW.format(seconds=self._timeout_ms / 1000))
        if not _is_missing(error):
            raise SearchUnavailable(f"Redis Search has refused the question ({said[:200]}).")
        await self._say_missing()

    async def _say_missing(self) -> NoReturn:
        """Nothing answers to the alias: there is no index, or it is not complete."""
        for name in await self._names():
            if self._is_ours(name) and (status := await self._look(name)):
                _refuse_unbuilt(status)
        raise SearchUnavailable(_MISSING)


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


def _mapping(reply: Any) -> Mapping[str, Any]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}


def _rows_of(answer: Any) -> list[dict[str, bytes]]:
    """What was found; an empty row for a hash that has expired."""
    if isinstance(answer, dict):
        rows = [row and row[b"extra_attributes"] for row in answer[b"results"]]
    else:
        rows = answer[1:]
    mappings = [_mapping(row or {}) for row in rows]
    return [{key: raw for key, raw in row.items() if raw is not None} for row in mappings]


def _status(info: Any) -> IndexStatus:
    said = _mapping(info)
    is_built = not int(said["indexing"])
    return IndexStatus(
        name=said["index_name"].decode(),
        documents=int(said["num_docs"]),
        failures=int(said["hash_indexing_failures"]),
        progress=1.0 if is_built else min(float(said["percent_indexed"]), 0.999),
        memory=round(float(said.get("total_index_memory_sz_mb", 0)) * 2**20),
    )


def _refuse_unbuilt(status: IndexStatus) -> None:
    if status.progress < 1:
        raise SearchUnavailable(
            f"The index is being built, {status.progress:.0%} of it is done. Ask again when it is "
            "complete; `store.search.status()` tells."
        )


def _refuse_too_many(rows: Sequence[Any]) -> None:
    if len(rows) > _MOST_ROWS:
        raise SearchUnavailable(
            f"The answer would have more than {_MOST_ROWS:,} rows. Ask for less at a time."
        )


def _is_missing(error: ResponseError) -> bool:
    said = str(error).lower()
    return any(words in said for words in ("unknown index", "no such index", "index not found"))


def _ignore(_: Backfill) -> None:
    return None
