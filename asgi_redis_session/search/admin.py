"""
The index of a store: making it, filling it, looking at it and asking it.

On one server that is one index (`part`); in a Cluster each master has a part of it (`spread`). All
commands travel on a connection of their own, apart from those of requests.
"""

import logging
from collections.abc import Callable, Sequence

from ..engine.engine import Engine
from ..errors import SearchUnavailable
from ..records import about
from ..transport.observing import answered
from .backfill import Backfill, Filler
from .filters import Filter
from .index import Index
from .part import Answer, Part, Question
from .replies import IndexStatus, merged
from .shapes import Shape
from .spread import Spread, side_by_side

logger = logging.getLogger("asgi_redis_session")

#: How long Redis may work on one question, in ms. It does nothing else in that time.
_TIMEOUT_MS = 10_000

_NOTHING_DECLARED = (
    "SessionStore(index=()) declares nothing to search by. Declare the fields that you ask for, as "
    'in SessionStore(..., index=[Tag("tenant"), Num("total")]).'
)
_NOT_REMOVED = (
    "An index could not be removed: {}. The slot in its name has moved to another master. "
    "docs/search.md says how to remove it."
)


class IndexAdmin:
    """One store's index. Every method raises `SearchUnavailable`."""

    def __init__(self, engine: Engine, index: Index) -> None:
        self._client = client = engine.client
        self._index = index
        self._part = Part(client, index)
        self._spread = Spread(client, index, self._part) if client.is_cluster else None
        self._filler = Filler(engine, self._part, self._spread)
        self.timeout_ms = _TIMEOUT_MS

    async def ask(self, where: Filter | None, shape: Shape) -> Answer:
        """Ask what this shape makes of the sessions that match."""
        self._refuse_nothing()
        question = Question(*self._index.query(where), self.timeout_ms, shape)
        asked = (self._spread or self._part).ask(question)
        return await answered(self._client.observers, "search", self._client.key("idx"), asked)

    async def status(self) -> IndexStatus:
        """The state of the index."""
        parts = await self._parts()
        return merged(await side_by_side(part.status() for part in parts))

    async def create(
        self,
        *,
        rebuild: bool,
        backfill: bool,
        resume: int,
        progress: Callable[[Backfill], None] | None,
    ) -> IndexStatus:
        """Make the index and wait until it is complete (see `Search.create_index`)."""
        parts = await self._parts()
        found = await side_by_side(part.current() for part in parts)
        if not rebuild:
            for part, current in zip(parts, found, strict=True):
                if current is not None:
                    part.refuse_other(current)
        if backfill:
            await self._filler.fill(resume, progress or _ignore)
        if rebuild or None in found:
            await self._build(rebuild=rebuild)
        parts = await self._parts()
        status = merged(await side_by_side(part.wait_until_built() for part in parts))
        if status.trouble is not None:
            logger.warning(
                "%s",
                status.trouble,
                extra=about("search_index_incomplete", reason=status.trouble),
            )
        return status

    async def _build(self, *, rebuild: bool) -> None:
        """Make what is missing, or all of it anew."""
        parts = await self._parts(to_build=True)
        found = await side_by_side(part.current() for part in parts)
        lacking = [
            (part, current)
            for part, current in zip(parts, found, strict=True)
            if rebuild or current is None
        ]
        names = await side_by_side(part.build(current) for part, current in lacking)
        # Not before all of them are complete: until then the old ones answer.
        await side_by_side(
            part.publish(name) for (part, _), name in zip(lacking, names, strict=True)
        )

    async def drop(self) -> bool:
        """Remove all indexes of the store. Returns whether there was one."""
        parts = await self._parts()
        names = await side_by_side(part.drop() for part in parts)
        if stranded := [f"{name} at {part.at}" for part in parts for name in part.stranded]:
            reason = _NOT_REMOVED.format(", ".join(stranded))
            logger.warning("%s", reason, extra=about("search_index_stranded", reason=reason))
        return any(names)

    async def names(self) -> list[str]:
        """All indexes of the store, for any declaration, complete or not."""
        names = await side_by_side(part.names() for part in await self._parts())
        return [name for of_part in names for name in of_part]

    def handle_of(self, key: bytes) -> str | None:
        """The handle in a session's key; None if it is not a session's key."""
        return self._filler.handle_of(key)

    @property
    def largest_cursor(self) -> int:
        """The largest cursor of a backfill."""
        return self._filler.largest_cursor

    # --- Parts ---

    def _refuse_nothing(self) -> None:
        if not self._index:
            raise SearchUnavailable(_NOTHING_DECLARED)

    async def _parts(self, *, to_build: bool = False) -> Sequence[Part]:
        self._refuse_nothing()
        if self._spread is None:
            return [self._part]
        return (await self._spread.survey(to_build=to_build)).parts


def _ignore(_: Backfill) -> None:
    return None
