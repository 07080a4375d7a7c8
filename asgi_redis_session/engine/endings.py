"""
Ending sessions by their places in a user's index, and making room for one more.

A session is ended before its place is given back, and a place is given back only as it was seen. So
a login that was confirmed in between stays listed, and the next round finds it.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from ..absence import AbsenceKind
from ..errors import (
    DurabilityNotReached,
    SessionLimitReached,
    SessionUnavailable,
    SessionUnreadable,
)
from ..events import EndReason
from ..options import Durability
from .engine import Engine
from .ids import check_user_id, is_handle
from .links import Link, link_to_actor
from .places import Place, Reservation
from .pruning import PAGE, prune, prune_some_soon
from .scripts import CORRUPT

#: What a tombstone says, by the reason for which a session ends. A failed login leaves none: no
#: browser was given its id.
_KINDS: dict[EndReason, AbsenceKind | None] = {
    "logout": "logged_out",
    "revoked": "revoked",
    "limit": "limit",
    "replaced": "replaced",
    "login_failed": None,
}


#: How often an abandoned login is cleaned up again, if Redis does not answer. Then its place goes
#: when it is pruned.
_TRIES = 10


class Deleted(NamedTuple):
    """What was deleted: *user_id* is "" without a login, and None if there was no session."""

    user_id: str | None
    shortfall: DurabilityNotReached | None
    is_unreadable: bool = False


async def end_one(
    engine: Engine, user_id: str | int | UUID, handle: str, note: str | None = None
) -> bool:
    """End one session of this user; False if it is not one of theirs."""
    index = engine.places.key_of(user_id)
    places = await engine.places.find(index, handle)
    prune_some_soon(engine, index)
    if not places:
        return False
    ended, unreadable = await _end_places(engine, index, places, "revoked", note)
    if unreadable:
        raise SessionUnreadable(1)
    return ended > 0


async def end_all(
    engine: Engine, user_id: str | int | UUID, *spared: str, note: str | None = None
) -> int:
    """End the user's sessions, but those of the handles *spared*; returns how many."""
    index, ended, until = engine.places.key_of(user_id), 0, ""
    unreadable: list[str] = []
    while True:
        # 1. Read a page of places, also those that are only reserved.
        until, places = await engine.places.until(index, until, PAGE, (*spared, *unreadable))
        if not places:
            break
        # 2. Delete their hashes. 3. Give those places back that have not changed.
        newly, kept = await _end_places(engine, index, places, "revoked", note)
        ended += newly
        unreadable += kept
    if unreadable:
        raise SessionUnreadable(len(unreadable))
    return ended


async def end_everywhere(
    engine: Engine, user_id: str | int | UUID, *spared: str, note: str | None = None
) -> int:
    """
    End all sessions of the user, and all in which they act for others; returns how many.

    *spared*: handles of sessions that go on.
    """
    acting = link_to_actor(check_user_id(user_id))
    # 1. Note the end, if they have acted for others, so that no login under way completes.
    others = await engine.providers.end(acting, if_entered=True)
    # 2. End the user's own sessions, and those of the others that are tied to them.
    results = await asyncio.gather(
        end_all(engine, user_id, *spared, note=note),
        _end_tied(engine, acting, others, note),
        return_exceptions=True,
    )
    _raise_worst([result for result in results if isinstance(result, BaseException)])
    return sum(result for result in results if isinstance(result, int))


async def end_linked(engine: Engine, link: Link) -> int:
    """End the sessions that are tied to what an identity provider has ended; returns how many."""
    # 1. Note the end, so that no login under way completes. 2. Look at the sessions of its users.
    return await _end_tied(engine, link, await engine.providers.end(link))


async def _end_tied(
    engine: Engine, link: Link, users: Iterable[str], note: str | None = None
) -> int:
    ended = 0
    for user_id in users:
        index, until = engine.places.key_of(user_id), ""
        seen: list[str] = []
        while True:
            until, places = await engine.places.until(index, until, PAGE, seen)
            if not places:
                break
            handles = [place.handle for place in places if is_handle(place.handle)]
            known = await asyncio.gather(*[engine.outside.claims(handle) for handle in handles])
            for handle, (_, claims) in zip(handles, known, strict=True):
                # End those that are tied to it.
                if claims.link is not None and link.ends(claims.link):
                    ended += await end_one(engine, user_id, handle, note)
            seen += [place.handle for place in places]
    return ended


async def _end_places(
    engine: Engine,
    index: bytes,
    places: Sequence[Place],
    reason: EndReason,
    note: str | None = None,
) -> tuple[int, list[str]]:
    """
    End the sessions of these places, then give the places back, each only as it was seen.

    Returns how many have ended, and the handles of those that can't be read: they keep their
    places. If a session can't be ended, or may come back, its place is kept, too, so that the next
    try finds it. The error is raised when all the others have ended.
    """
    results = await asyncio.gather(
        *[_delete_place(engine, place.handle, reason, note) for place in places],
        return_exceptions=True,
    )
    ended, released = 0, []
    unreadable: list[str] = []
    errors: list[BaseException] = []
    for place, result in zip(places, results, strict=True):
        if isinstance(result, BaseException):
            errors.append(result)
            continue
        user_id, shortfall, is_unreadable = result
        ended += user_id is not None
        if is_unreadable:
            unreadable.append(place.handle)
        elif shortfall is None:
            released.append(place)
        else:
            errors.append(shortfall)
    await engine.places.release_seen(index, released)
    _raise_worst(errors)
    return ended, unreadable


def _raise_worst(errors: Sequence[BaseException]) -> None:
    """Raise one of them, if there are any. What can't be ended is worse than what may come back."""
    if errors:
        raise min(errors, key=lambda error: isinstance(error, DurabilityNotReached))


async def _delete_place(
    engine: Engine, handle: str, reason: EndReason, note: str | None
) -> Deleted:
    if is_handle(handle):
        concern = engine.end_durability
        return await delete(engine, handle, reason, note=note, concern=concern, own_connection=True)
    engine.reports.garbage()
    return Deleted(None, None)


async def reserve(
    engine: Engine,
    index: bytes,
    handle: str,
    lifetime_ms: int | None,
    replaced: Sequence[str],
    *,
    is_counted: bool,
) -> int:
    """
    Reserve a place, making room for it if that is allowed; returns the time.

    *index*: the user's. *is_counted*: whether the user's limit holds for it.
    """

    def attempt(when_full: int) -> Awaitable[Reservation]:
        return engine.places.reserve(
            index,
            handle,
            limit=engine.max_sessions if is_counted else 0,
            when_full=when_full,
            lifetime_ms=lifetime_ms,
            replaced=uncounted,
        )

    # Sessions that can't be read don't count: they can't be ended, and must not lock the user out.
    # Nor do those in which somebody acts for the user.
    uncounted = [*replaced]
    try:
        reserved = await attempt(0)
        if not reserved.is_granted:
            pruned = await prune(engine, index)
            uncounted += [*pruned.unreadable, *pruned.acted]
            reserved = await attempt(int(engine.evicts))
        while reserved.is_granted and reserved.victims:
            _, unreadable = await _end_places(engine, index, reserved.victims, "limit")
            uncounted += unreadable
            # Look again: a victim may have been renewed or confirmed meanwhile.
            reserved = await attempt(2)
    except BaseException:  # cancelled, too: the next try must not find this place reserved
        abandon(engine, index, handle)
        raise
    if not reserved.is_granted:
        raise SessionLimitReached(engine.max_sessions)
    if reserved.has_others:
        prune_some_soon(engine, index)
    return int(reserved.now_ms)


def abandon(engine: Engine, index: bytes, handle: str) -> None:
    """
    Delete what a login may have written, and give its place back, without waiting.

    Then again after each `timeout`, until Redis has answered: a step of the login that has timed
    out may be executed later than the first try, from the connection that was given up.
    """
    engine.hashes.delete_soon(handle)
    engine.places.release_soon(index, handle)

    async def try_again(times_left: int) -> None:
        try:
            await delete(engine, handle, "login_failed", own_connection=True)
            await engine.places.release(index, handle, own_connection=True)
        except SessionUnavailable:  # it was reported when it was raised
            if times_left:
                later(times_left - 1)

    # A timer and no task that sleeps: a shutdown waits for tasks.
    def later(times_left: int) -> None:
        engine.client.later(
            engine.client.timeout, lambda: engine.background.start(try_again(times_left))
        )

    later(_TRIES)


async def delete(
    engine: Engine,
    handle: str,
    reason: EndReason,
    *,
    note: str | None = None,
    concern: Durability | None = None,
    own_connection: bool = False,
) -> Deleted:
    """Delete a hash, if it can be read. *note*: the reason in the caller's own words."""
    reply, shortfall = await engine.hashes.delete(
        handle, _KINDS[reason], note=note, concern=concern, own_connection=own_connection
    )
    if reply.state <= 0:
        return Deleted(None, shortfall, reply.state == CORRUPT)
    user_id = (reply.user or b"").decode(errors="replace")
    engine.events.emit("ended", handle, detail=note, user_id=user_id or None, reason=reason)
    return Deleted(user_id, shortfall)
