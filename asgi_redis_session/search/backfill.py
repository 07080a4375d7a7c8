"""
The backfill: shadows for sessions that were written before a field was declared.

In a Cluster, one master is filled after the other, so that a single number says how far it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from ..engine.engine import Engine
from ..engine.ids import is_handle
from .part import Part, Unsettled
from .spread import Known, Spread

#: Keys looked at by one SCAN, and sessions rewritten in one batch. Each takes Redis less than a
#: millisecond.
_SCAN_COUNT, _WRITE_BATCH = 50, 10
_MOST_PASSES = 5
_MOST_OF_SCAN = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """
    The progress of a backfill.

    *scanned*: keys looked at. *written*: sessions whose shadows were written. *cursor*: where to
    continue after an interruption, with `create_index(backfill=True, resume=cursor)`.
    """

    scanned: int
    written: int
    cursor: int


class Filler:
    """Writes the shadows that sessions lack. *spread*: the masters; None: there is one *server*."""

    def __init__(self, engine: Engine, server: Part, spread: Spread | None) -> None:
        self._write_shadows = engine.outside.write_shadows
        self._key_prefix = f"{engine.client.prefix}:"
        self._server = server
        self._spread = spread

    def handle_of(self, key: bytes) -> str | None:
        """The handle in a session's key; None if it is not a session's key."""
        name = key.decode(errors="replace")[len(self._key_prefix) :]
        return name if is_handle(name) else None

    @property
    def largest_cursor(self) -> int:
        """The largest cursor, which in a Cluster also says which master it is of."""
        masters = 1 if self._spread is None else REDIS_CLUSTER_HASH_SLOTS
        return _MOST_OF_SCAN * masters - 1

    async def fill(self, cursor: int, progress: Callable[[Backfill], None]) -> None:
        """
        Pass over all keys until a pass finds nothing to write. One pass is not enough: a session
        that gets a new id meanwhile may move to where the scan has already been. In a Cluster its
        slot may, so no slot must have moved during the last pass.
        """
        scanned = written = 0
        is_still = True
        for _ in range(_MOST_PASSES):
            before = written
            known = None if self._spread is None else await self._spread.survey()
            async for following, handles in self._pass(known, cursor):
                for start in range(0, len(handles), _WRITE_BATCH):
                    batch = handles[start : start + _WRITE_BATCH]
                    written += sum(await asyncio.gather(*map(self._write_shadows, batch)))
                scanned += len(handles)
                progress(Backfill(scanned=scanned, written=written, cursor=following))
            cursor = 0
            if known is not None and self._spread is not None:
                is_still = known.is_still_so(await self._spread.survey())
            if written == before and is_still:
                return
        if not is_still:
            raise Unsettled("slots move, so the backfill may have missed sessions")

    async def _pass(
        self, known: Known | None, cursor: int
    ) -> AsyncIterator[tuple[int, Sequence[str]]]:
        """Yield all handles from *cursor* on, some at a time, each with the cursor behind them."""
        if known is None:
            async for step in self._scan(self._server, cursor):
                yield step
            return
        firsts = known.first_slots
        position, first = divmod(cursor, REDIS_CLUSTER_HASH_SLOTS)
        if first not in firsts:  # the masters have changed since the interruption
            position, first = 0, firsts[0]
        begin = firsts.index(first)
        behind = [*firsts[begin + 1 :], 0]
        for (server, view), following in zip(known.masters[begin:], behind, strict=True):
            async for reached, handles in self._scan(server, position):
                here = reached * REDIS_CLUSTER_HASH_SLOTS + view.first_slot
                yield here if reached else following, handles
            position = 0

    async def _scan(self, server: Part, position: int) -> AsyncIterator[tuple[int, Sequence[str]]]:
        # A prefix has no characters with a meaning in patterns.
        options = ("MATCH", f"{self._key_prefix}*", "COUNT", _SCAN_COUNT)
        while True:
            position, keys = await server.command("SCAN", position, *options)
            position = int(position)
            yield position, [name for key in keys if (name := self.handle_of(key)) is not None]
            if position == 0:
                break
