"""
Queries across sessions, answered by Redis Search: `store.search`.

Rules kept here:
- An answer is complete, or an error is raised (see `admin`).
- Only sessions that exist are counted and found. Redis Search also knows keys that have expired but
  have not been removed yet, so exact queries read a hash field of each match.
- Each page of sessions is one atomic answer about a range of creation times. A session that matches
  from beginning to end is therefore found exactly once, even while sessions are written.

Sessions are read and ended on a connection of their own, apart from those of requests.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from statistics import median_low
from typing import Any, NamedTuple, NoReturn

from ..arguments import (
    refuse_no_bool,
    refuse_no_function,
    refuse_no_integer,
    refuse_other,
    shown,
)
from ..engine.codec import CorruptValue, check_name, encode
from ..engine.engine import Engine
from ..engine.notes import checked_reason
from ..engine.verbs import Ending, end_session
from ..errors import SearchUnavailable
from ..info import SessionInfo
from . import shapes
from .admin import IndexAdmin
from .backfill import Backfill
from .fields import Num, Tag, decode_tag, encode_tag
from .filters import Filter, Has
from .index import Index
from .replies import IndexStatus
from .shapes import Shape

__all__ = ["Search"]

#: Sessions in one answer. Redis takes one to two milliseconds for it, and does nothing else.
_PAGE = 1_000
#: The first answer and the first batch of reads are small, so that the first session comes soon.
_FIRST_PAGE = 100
#: In a Cluster, each page costs each master another look at all matches, so there are fewer pages.
_CLUSTER_PAGE = 10_000
_FIRST_BATCH, _BATCH = 25, 250
_MOST_ROWS = shapes.MOST_ROWS
#: Later than any session was created, in ms since 1970.
_END_OF_TIME_MS = 10**14


class Search:
    """
    Queries across all sessions of a store: `store.search`. Needs Redis 8 or Redis Stack.

    Filters are made of `Tag`, `Num` and `Text`: `(Tag("tenant") == "acme") & (Num("total") > 9)`.
    An answer describes the moment at which Redis gives it. A commit is visible to the next query.

    Every method raises `SearchUnavailable` if there is no complete answer, with the reason;
    `SessionUnavailable` if Redis does not answer; and `SessionValueError` for a field that is not
    declared in `SessionStore(index=...)`.
    """

    def __init__(self, engine: Engine, index: Index) -> None:
        self._engine = engine
        self._index = index
        self._admin = IndexAdmin(engine, index)

    async def count(self, where: Filter | None = None, *, exact: bool = True) -> int:
        """
        Return the number of sessions that match, or of all sessions.

        An exact count reads each match, which costs Redis about a microsecond per session.
        *exact=False* is faster, but includes sessions that have just expired.
        """
        refuse_no_bool("store.search.count(exact)", exact)
        answer = await self._admin.ask(where, shapes.count(exact=exact))
        return sum(int(row["_n"]) for row in answer.rows)

    def find(
        self, where: Filter | None = None, *, fields: Sequence[str] | None = None
    ) -> AsyncGenerator[SessionInfo, None]:
        """
        Iterate over the sessions that match, in no particular order.

            async for info in store.search.find(Tag("tenant") == "acme", fields=["total"]): ...

        *fields*: the names of the fields to read; all fields by default. A session that matches
        from beginning to end is found exactly once, even while sessions are written. A session that
        ends meanwhile is left out. Reading does not extend a session's TTL.
        """
        if isinstance(fields, str | bytes) or not isinstance(fields, Iterable | None):
            raise TypeError("find(fields=...) takes a list of names, as in fields=['cart'].")
        names = None if fields is None else tuple(check_name(name) for name in fields)
        self._index.query(where)  # so that a wrong filter raises here, not at the first step
        return self._found(where, names)

    async def count_by(
        self, field: Tag | str, where: Filter | None = None, *, exact: bool = True
    ) -> dict[Any, int]:
        """
        Return the number of sessions for each value of a `Tag`: `{"acme": 1203, …}`.

        Sessions without the field are left out. A session whose field is a list counts once for
        each distinct item. *exact=False* is faster for fields with few values, but includes
        sessions that have just expired. A value whose tag is longer than 96 characters is read
        from a session that has it.
        """
        refuse_no_bool("store.search.count_by(exact)", exact)
        tag = self._tag(field)
        shadow = None if exact or tag.is_metadata else self._index.alias(tag)
        groups = await self._groups(tag, where, shapes.counts_by(tag, shadow, _MOST_ROWS))
        return {value: int(number) for value, number in groups.items()}

    async def sum_by(
        self, field: Tag | str, number: Num | str, where: Filter | None = None
    ) -> dict[Any, float]:
        """
        Return the sum of a `Num` for each value of a `Tag`: `{"acme": 5230.5, …}`.

        Sessions without one of the two fields are left out. Sums are floats, exact up to 2^53.
        """
        tag = self._tag(field)
        summand = Num(number) if isinstance(number, str) else number
        refuse_other("store.search.sum_by(number)", summand, Num, "a Num or its name")
        self._index.alias(summand)
        return await self._groups(tag, where, shapes.sums_by(tag, summand, _MOST_ROWS))

    async def revoke(self, where: Filter, *, reason: str | None = None) -> int:
        """
        End all sessions that match. Returns the number of sessions that it ended.

        When it returns, every session that matched at the call has ended, even if it got a new id
        meanwhile, and no user's list contains it. A session that begins to match during the call
        may be ended, too. *reason*: `session.absence.reason` of their next requests, as for
        `store.users.revoke_all`. Raises `DurabilityNotReached` if all have ended, but may come back
        when Redis fails.
        """
        if not isinstance(where, Filter):
            raise TypeError(
                f"revoke needs a filter, not {type(where).__name__}. To end all sessions, say so: "
                'Num("@created") >= 0.'
            )
        note = checked_reason("store.search.revoke(reason)", reason)
        ended: list[Ending] = []
        client = self._engine.client
        is_settled = not client.is_sharded
        # Repeat until a round finds none, for sessions that got a new id during a round.
        while (more := await self._revoke_once(where, note)) or not is_settled:
            ended += more
            is_settled = not (more and client.is_sharded)
            if not more:
                # A session gets a new id in two steps on two servers, and is on neither of them in
                # between. After this time it has arrived, or is gone.
                await asyncio.sleep(client.timeout)
        for ending in ended:
            if ending.shortfall is not None:
                raise ending.shortfall
        return len(ended)

    async def create_index(
        self,
        *,
        rebuild: bool = False,
        backfill: bool = False,
        resume: int = 0,
        progress: Callable[[Backfill], None] | None = None,
    ) -> IndexStatus:
        """
        Make the index, wait until it is complete, and return its state. An index that exists
        already is left as it is.

        Call it once per deployment. If the index was made for another declaration, it raises
        `SearchUnavailable`, unless *rebuild* is true: then a new index is built beside the old one
        and replaces it when it is complete. Sessions are not touched.

        *backfill*: also write the shadows of sessions that were written before a field was
        declared, or by processes that do not declare it. Redis is never blocked for more than a few
        milliseconds, and no session's TTL changes. *progress* is called after each step. *resume*:
        the `cursor` from which to continue an interrupted backfill.
        """
        refuse_no_bool("store.search.create_index(rebuild)", rebuild)
        refuse_no_bool("store.search.create_index(backfill)", backfill)
        refuse_no_integer(
            "store.search.create_index(resume)", resume, 0, self._admin.largest_cursor
        )
        if progress is not None:
            refuse_no_function("store.search.create_index(progress)", progress, "a function")
        return await self._admin.create(
            rebuild=rebuild, backfill=backfill, resume=resume, progress=progress
        )

    async def drop_index(self) -> bool:
        """Remove the index, but no session. Returns whether there was an index."""
        return await self._admin.drop()

    async def status(self) -> IndexStatus:
        """
        Return the state of the index, for monitoring.

        Raises `SearchUnavailable` if there is no index, or one for another declaration.
        """
        return await self._admin.status()

    # --- Pages of sessions ---

    async def _found(
        self, where: Filter | None, names: Sequence[str] | None
    ) -> AsyncGenerator[SessionInfo, None]:
        size = _FIRST_BATCH
        async for handles in self._pages(where):
            start = 0
            while batch := handles[start : start + size]:
                for info in await asyncio.gather(
                    *[self._engine.outside.peek(handle, names) for handle in batch]
                ):
                    if info is not None:
                        yield info
                start, size = start + size, _BATCH

    async def _revoke_once(self, where: Filter, note: str | None) -> list[Ending]:
        endings: list[Ending] = []
        async for handles in self._pages(where):
            for start in range(0, len(handles), _BATCH):
                batch = handles[start : start + _BATCH]
                endings += await asyncio.gather(*[self._end(handle, note) for handle in batch])
        return [ending for ending in endings if ending.existed]

    async def _end(self, handle: str, note: str | None) -> Ending:
        return await end_session(
            self._engine,
            (handle,),
            reason="revoked",
            note=note,
            concern=self._engine.end_durability,
            own_connection=True,
        )

    async def _pages(self, where: Filter | None) -> AsyncIterator[list[str]]:
        """
        The handles of matching sessions, page by page. Each page is a range of creation times, cut
        in two until it fits.

        Cursors of Redis Search are not used: with a negation in the query, a cursor skips sessions
        that are written while it is open. The creation time of a session never changes, and each
        range is one atomic answer.
        """
        first: set[str] | None = None
        ranges = [(0, _END_OF_TIME_MS)]
        while ranges:
            low, high = ranges.pop()
            page = await self._page(where, low, high, is_first=first is None)
            if page.is_cut:
                middle = _middle(page.created.values(), low, high)
                ranges += [(middle + 1, high), (low, middle)]
            if first is None:
                # The first answer is used at once, although its range will be asked again.
                first = set(page.created)
                yield list(page.created)
            elif not page.is_cut:
                yield [handle for handle in page.created if handle not in first]

    async def _page(self, where: Filter | None, low: int, high: int, *, is_first: bool) -> "_Page":
        """The matches that were created from *low* to *high*, as many as fit on a page."""
        if not is_first:
            then = Num("@created").between(low, high)
            where = then if where is None else where & then
        # A single millisecond can't be cut any further.
        page = _CLUSTER_PAGE if self._engine.client.is_cluster else _PAGE
        most = _FIRST_PAGE if is_first else page if low < high else _MOST_ROWS
        rows, is_cut = await self._admin.ask(where, shapes.sessions(most))
        if len(rows) > _MOST_ROWS or (is_cut and low == high):
            _refuse_too_many()
        created = {
            handle: _instant_ms(row.get("_created"))
            for row in rows
            if row and (handle := self._admin.handle_of(row["__key"])) is not None
        }
        return _Page(is_cut, created)

    # --- Groups ---

    def _tag(self, field: Tag | str) -> Tag:
        tag = Tag(field) if isinstance(field, str) else field
        if not isinstance(tag, Tag):
            raise TypeError(f"Sessions are counted by a Tag or its name, not by {shown(field)}.")
        self._index.alias(tag)
        return tag

    async def _groups(self, tag: Tag, where: Filter | None, shape: Shape) -> dict[Any, float]:
        rows, is_cut = await self._admin.ask(where, shape)
        if is_cut:
            _refuse_too_many()
        groups: dict[Any, float] = {}
        for row in rows:
            raw = row.get("_w", b"")
            try:
                value = decode_tag(raw.decode())
            except LookupError:
                value = await self._value_of_digest(tag, raw.decode())
            except (CorruptValue, UnicodeDecodeError):  # another program has written it
                self._engine.reports.odd_tag()
                continue
            # In a dict, 1, 1.0 and True are the same key.
            groups[value] = groups.get(value, 0) + float(row["_n"])
        return groups

    async def _value_of_digest(self, tag: Tag, digest: str) -> Any:
        """The long value of a digest, read from a session that has it; else the digest itself."""
        holders = Has(tag, ((digest,),), "==", ())
        async for info in self.find(holders, fields=() if tag.is_metadata else (tag.name,)):
            metadata = {"@user": info.user_id, "@ip": info.address}
            value = metadata[tag.name] if tag.is_metadata else info.fields.get(tag.name)
            for item in value if isinstance(value, list) else [value]:
                if encode_tag(encode(item)) == digest:
                    return item
        return digest


class _Page(NamedTuple):
    """One answer about sessions."""

    #: Whether there are more sessions than fit on the page.
    is_cut: bool
    #: By handle, when the session was created, in ms since 1970; None if it has expired.
    created: dict[str, int | None]


def _instant_ms(raw: bytes | None) -> int | None:
    """An instant that Redis Search returned; None if it is none, because of another program."""
    try:
        return None if raw is None else int(float(raw))
    except (ValueError, OverflowError):
        return None


def _middle(created: Iterable[int | None], low: int, high: int) -> int:
    """Where to cut a range of times in two, so that both halves have sessions if possible."""
    known = [instant for instant in created if instant is not None]
    return min(median_low(known) if known else (low + high) // 2, high - 1)


def _refuse_too_many() -> NoReturn:
    raise SearchUnavailable(
        f"The answer would have more than {_MOST_ROWS:,} rows. Ask for less at a time."
    )
