"""
Ending sessions by their places in a user's index, and making room for one more.

A session is ended before its place is given back, and a place is given back only as it was seen. So
a login that was confirmed in between stays listed, and the next round finds it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ..absence import AbsenceKind
from ..errors import DurabilityNotReached, SessionLimitReached
from ..events import EndReason
from ..options import Durability
from .engine import Engine
from .places import Place
from .pruning import PAGE, prune, prune_some_soon

#: What a tombstone says, by the reason for which a session ends. One whose login has failed has an
#: id that nobody was given.
_KINDS: dict[EndReason, AbsenceKind | None] = {
    "logout": "logged_out",
    "revoked": "revoked",
    "limit": "limit",
    "replaced": "replaced",
    "login_failed": None,
}


async def end_one(engine: Engine, user_id: str | int | UUID, handle: str) -> bool:
    """End one session of this user; False if it is not one of theirs."""
    index = engine.places.key_of(user_id)
    places = await engine.places.find(index, handle)
    prune_some_soon(engine, index)
    return bool(places) and bool(await _end_places(engine, index, places, "revoked"))


async def end_all(engine: Engine, user_id: str | int | UUID, *spared: str) -> int:
    """End the user's sessions, but those of the handles *spared*; returns how many."""
    index, ended, until = engine.places.key_of(user_id), 0, ""
    while True:
        # 1. Read a page of places, also those that are only reserved.
        until, places = await engine.places.until(index, until, PAGE, spared)
        if not places:
            return ended
        # 2. Delete their hashes. 3. Give those places back that have not changed.
        ended += await _end_places(engine, index, places, "revoked")


async def _end_places(
    engine: Engine, index: bytes, places: Sequence[Place], reason: EndReason
) -> int:
    """
    End the sessions of these places, then give the places back, each only as it was seen.

    If a session can't be ended, or may come back, its place is kept, so that the next try finds it.
    The error is raised when all the others have ended.
    """
    concern = engine.end_durability
    results = await asyncio.gather(
        *[
            delete(engine, place.handle, reason, concern=concern, own_connection=True)
            for place in places
        ],
        return_exceptions=True,
    )
    ended, released = 0, []
    errors: list[BaseException] = []
    for place, result in zip(places, results, strict=True):
        if isinstance(result, BaseException):
            errors.append(result)
            continue
        user_id, shortfall = result
        ended += user_id is not None
        if shortfall is None:
            released.append(place)
        else:
            errors.append(shortfall)
    await engine.places.release_seen(index, released)
    if errors:
        # What can't be ended is worse news than what may come back.
        raise min(errors, key=lambda error: isinstance(error, DurabilityNotReached))
    return ended


async def reserve(
    engine: Engine,
    user_id: str,
    handle: str,
    lifetime_ms: int | None,
    replaced: Sequence[str],
) -> int:
    """Reserve a place, making room for it if that is allowed; returns the time."""
    index = engine.places.key_of(user_id)

    async def attempt(when_full: int) -> Any:
        return await engine.places.reserve(
            index,
            handle,
            limit=engine.max_sessions,
            when_full=when_full,
            lifetime_ms=lifetime_ms,
            replaced=replaced,
        )

    reserved = await attempt(0)
    if not reserved.is_granted:
        await prune(engine, index)
        reserved = await attempt(int(engine.evicts))
    if not reserved.is_granted:
        raise SessionLimitReached(engine.max_sessions)
    now_ms: int = reserved.now_ms
    try:
        while reserved.victims:
            await _end_places(engine, index, reserved.victims, "limit")
            # Look again: a victim may have been renewed or confirmed meanwhile.
            reserved = await attempt(2)
    except BaseException:  # cancelled, too: the next try must not find this place reserved
        engine.places.release_soon(index, handle)
        raise
    prune_some_soon(engine, index)
    return now_ms


async def delete(
    engine: Engine,
    handle: str,
    reason: EndReason,
    *,
    concern: Durability | None = None,
    own_connection: bool = False,
) -> tuple[str | None, DurabilityNotReached | None]:
    """Delete a hash; returns its user ("" for nobody), or None if there was no session."""
    reply, shortfall = await engine.hashes.delete(
        handle, _KINDS[reason], concern=concern, own_connection=own_connection
    )
    if reply.state <= 0:
        return None, shortfall
    user_id = (reply.user or b"").decode(errors="replace")
    engine.events.emit("ended", handle, user_id=user_id or None, reason=reason)
    return user_id, shortfall
