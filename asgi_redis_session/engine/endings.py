"""
Ending sessions by their places in a user's index, and making room for one more.

A session is ended before its place is given back, and a place is given back only as it was seen. So
a login that was confirmed in between stays listed, and the next round finds it.
"""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
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


class Ends(NamedTuple):
    """
    The result of ending several sessions: how many have ended, and the handles of the others.

    *failed*: why a session could not be ended, or that it may come back.
    """

    number: int
    unreadable: list[str]
    failed: dict[str, BaseException]


async def end_one(
    engine: Engine, user_id: str | int | UUID, handle: str, note: str | None = None
) -> bool:
    """End one session of this user; False if it is not one of theirs."""
    index = engine.places.key_of(user_id)
    places = await engine.places.find(index, handle)
    prune_some_soon(engine, index)
    if not places:
        return False
    ends = await _end_places(engine, index, places, "revoked", note)
    _raise_worst(ends.failed.values())
    if ends.unreadable:
        raise SessionUnreadable(1)
    return ends.number > 0


async def end_all(
    engine: Engine, user_id: str | int | UUID, *spared: str, note: str | None = None
) -> int:
    """End the user's sessions, but those of the handles *spared*; returns how many."""
    index, ended, until = engine.places.key_of(user_id), 0, ""
    unreadable: list[str] = []
    failed: dict[str, BaseException] = {}
    while True:
        # 1. Read a page of places, also those that are only reserved.
        left_out = (*spared, *unreadable, *failed)
        until, places = await engine.places.until(index, until, PAGE, left_out)
        if not places:
            break
        # 2. Delete their hashes. 3. Give those places back that have not changed.
        ends = await _end_places(engine, index, places, "revoked", note)
        ended += ends.number
        unreadable += ends.unreadable
        failed |= ends.failed
    _raise_worst(failed.values())
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
    ended, errors = await _to_the_end(
        end_linked(engine, acting, note=note, if_entered=True),
        end_all(engine, user_id, *spared, note=note),
    )
    _raise_worst(errors)
    return ended


async def end_linked(
    engine: Engine, link: Link, *, note: str | None = None, if_entered: bool = False
) -> int:
    """
    End the sessions that are tied to what has ended: an identity provider's session, or an actor's.

    Returns how many. *if_entered*: there is nothing to end if no login has entered its keys.
    """
    # 1. Note the end, so that no login under way completes. 2. Look at the sessions of its users.
    users = await engine.providers.end(link, if_entered=if_entered)
    ended, errors = await _to_the_end(
        *[_end_tied_of_user(engine, link, user_id, note) for user_id in users]
    )
    _raise_worst(errors)
    return ended


async def _end_tied_of_user(engine: Engine, link: Link, user_id: str, note: str | None) -> int:
    index, total, until = engine.places.key_of(user_id), 0, ""
    seen: list[str] = []
    failed: list[BaseException] = []
    while True:
        until, places = await engine.places.until(index, until, PAGE, seen)
        if not places:
            break
        handles = [place.handle for place in places]
        ended, errors = await _to_the_end(
            *[
                _end_if_tied(engine, link, user_id, handle, note)
                for handle in handles
                if is_handle(handle)
            ]
        )
        total += ended
        failed += errors
        seen += handles
    _raise_worst(failed)
    return total


async def _end_if_tied(
    engine: Engine, link: Link, user_id: str, handle: str, note: str | None
) -> bool:
    _, claims = await engine.outside.claims(handle)
    if claims.link is None or not link.ends(claims.link):
        return False
    return await end_one(engine, user_id, handle, note)


async def _to_the_end(*jobs: Awaitable[int]) -> tuple[int, list[BaseException]]:
    """
    Run them side by side; returns the sum of what they have ended, and their errors.

    None of them is given up because another one fails: what a node that hangs keeps from ending
    must not keep the sessions of other nodes alive.
    """
    results = await asyncio.gather(*jobs, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    return sum(result for result in results if isinstance(result, int)), errors


async def _end_places(
    engine: Engine,
    index: bytes,
    places: Sequence[Place],
    reason: EndReason,
    note: str | None = None,
) -> Ends:
    """
    End the sessions of these places, then give the places back, each only as it was seen.

    If a session can't be ended, or may come back, its place is kept, too, so that the next try
    finds it.
    """
    results = await asyncio.gather(
        *[_delete_place(engine, place.handle, reason, note) for place in places],
        return_exceptions=True,
    )
    number, released = 0, []
    unreadable: list[str] = []
    failed: dict[str, BaseException] = {}
    for place, result in zip(places, results, strict=True):
        if isinstance(result, BaseException):
            failed[place.handle] = result
            continue
        user_id, shortfall, is_unreadable = result
        number += user_id is not None
        if is_unreadable:
            unreadable.append(place.handle)
        elif shortfall is None:
            released.append(place)
        else:
            failed[place.handle] = shortfall
    await engine.places.release_seen(index, released)
    return Ends(number, unreadable, failed)


def _raise_worst(errors: Collection[BaseException]) -> None:
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
            ends = await _end_places(engine, index, reserved.victims, "limit")
            _raise_worst(ends.failed.values())
            uncounted += ends.unreadable
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
