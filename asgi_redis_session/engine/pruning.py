"""
Forgetting places of a user's index whose session has ended without giving its place back.

A crash between two steps, or an expiry, leaves such a place. It is harmless, and is forgotten when
the index is next counted, or sooner by chance: whenever an index is written, a few places are
looked at.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ..errors import SessionUnavailable
from .claims import NONE, Claims
from .engine import Engine
from .ids import is_handle
from .places import Place
from .scripts import GONE

PAGE = 500
#: How many places are looked at, taken at random, whenever an index is written. A login adds fewer,
#: so an index that is never listed does not grow beyond its user's sessions.
_SAMPLE = 10
#: A place that was reserved this long ago (ms) without a hash belongs to a login that never
#: completed.
_ABANDONED = 60_000


class Pruned(NamedTuple):
    """
    What an index lists: the number of live sessions, and the handles of unreadable ones, and of
    those in which somebody acts for the user.
    """

    live: int
    unreadable: list[str]
    acted: list[str]


async def prune(engine: Engine, key: bytes) -> Pruned:
    """Forget the places without a session; returns what is known of the others."""
    live, offset = 0, 0
    unreadable: list[str] = []
    acted: list[str] = []
    while True:
        now_ms, places = await engine.places.page(key, offset, PAGE)
        if not places:
            return Pruned(live, unreadable, acted)
        known = await asyncio.gather(*[_look(engine, place.handle) for place in places])
        states = [state for state, _ in known]
        acted += [p.handle for p, (_, by) in zip(places, known, strict=True) if by.actor]
        live += sum(state > 0 for state in states)
        unreadable += [p.handle for p, state in zip(places, states, strict=True) if state < GONE]
        dead = [place for place, state in zip(places, states, strict=True) if state == GONE]
        offset += len(places) - await _forget(engine, key, now_ms, dead)


def prune_some_soon(engine: Engine, key: bytes) -> None:
    """Look at some places without waiting: a node that is down delays no login."""

    async def prune_some() -> None:
        with suppress(SessionUnavailable):  # it was reported when it was raised
            now_ms, places = await engine.places.sample(key, _SAMPLE)
            await _forget(engine, key, now_ms, await dead_places(engine, places))

    engine.background.start(prune_some())


async def dead_places(engine: Engine, places: Sequence[Place]) -> list[Place]:
    """Return those whose session does not exist."""
    known = await asyncio.gather(*[_look(engine, place.handle) for place in places])
    return [place for place, (state, _) in zip(places, known, strict=True) if state == GONE]


async def _look(engine: Engine, handle: str) -> tuple[int, Claims]:
    if is_handle(handle):
        return await engine.outside.claims(handle)
    engine.reports.garbage()
    return GONE, NONE


async def _forget(engine: Engine, key: bytes, now_ms: int, dead: Sequence[Place]) -> int:
    """Give dead places back, but not that of a login under way; returns how many."""
    gone = [p for p in dead if p.is_confirmed or now_ms - p.reserved_ms > _ABANDONED]
    return await engine.places.release_seen(key, gone)
