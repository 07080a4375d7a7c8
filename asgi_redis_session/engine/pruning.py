"""
Forgetting places of a user's index whose session has ended without giving its place back.

A crash between two steps, or an expiry, leaves such a place. It is harmless, and is forgotten when
the index is next counted, or sooner by chance: whenever an index is written, a few places are
looked at.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ..errors import SessionUnavailable
from .engine import Engine
from .places import Place

PAGE = 500
#: How many places are looked at, taken at random, whenever an index is written. It is more than a
#: login adds, so that an index which nobody lists stays as short as its user has sessions.
_SAMPLE = 10
#: A place that was reserved this long ago (ms) without a hash belongs to a login that never
#: completed.
_ABANDONED = 60_000


async def prune(engine: Engine, key: bytes) -> int:
    """Forget the places without a session; returns how many sessions there are."""
    live, offset = 0, 0
    while True:
        now_ms, places = await engine.places.page(key, offset, PAGE)
        if not places:
            return live
        dead, released = await _forget(engine, key, now_ms, places)
        live += len(places) - dead
        offset += len(places) - released


def prune_some_soon(engine: Engine, key: bytes) -> None:
    """Look at some places without waiting: a node that is down delays no login."""

    async def prune_some() -> None:
        with suppress(SessionUnavailable):  # it was reported when it was raised
            await _forget(engine, key, *await engine.places.sample(key, _SAMPLE))

    engine.background.start(prune_some())


async def dead_places(engine: Engine, places: Sequence[Place]) -> list[Place]:
    """Return those whose session does not exist."""
    occupied = await asyncio.gather(*[engine.outside.is_occupied(p.handle) for p in places])
    return [place for place, is_held in zip(places, occupied, strict=True) if not is_held]


async def _forget(
    engine: Engine, key: bytes, now_ms: int, places: Sequence[Place]
) -> tuple[int, int]:
    """Give dead places back; returns how many are dead, and how many were given back."""
    dead = await dead_places(engine, places)
    gone = [p for p in dead if p.is_confirmed or now_ms - p.reserved_ms > _ABANDONED]
    return len(dead), await engine.places.release_seen(key, gone)
