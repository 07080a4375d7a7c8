"""
Every command on a user's index: the sorted set that lists the user's sessions.

A member is the handle of a session, called a *place*, scored by the time of login. A negative score
marks a place that is only reserved, because the hash of its session may not be written yet. The
index lives in another Cluster slot than the sessions, so what touches both is a sequence of steps:
see `verbs` and `docs/verbs.md`.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from ..options import Durability
from ..transport.client import Client
from ..transport.failures import KeysApart
from ..transport.written import Written
from . import scripts
from .ids import check_user_id, is_handle
from .record import Record
from .reports import Reports
from .scripts import Confirmed

#: How long the index of sessions without a deadline lives: in effect, as long as they do.
_CENTURY_MS = 36_525 * 24 * 3600 * 1000


#: No time of login is later (ms).
_LAST = 10**14


class Place(NamedTuple):
    """One line of a user's index."""

    handle: str
    score: bytes

    @property
    def reserved_ms(self) -> int:
        """When it was reserved, by the clock of Redis."""
        score = abs(float(self.score))
        return int(score) if score < _LAST else 0  # else another program has written it

    @property
    def is_possible(self) -> bool:
        """Whether this library may have written it: a handle, and a time of login."""
        return is_handle(self.handle) and abs(float(self.score)) < _LAST

    @property
    def is_confirmed(self) -> bool:
        """Whether the hash of its session was written."""
        return not self.score.startswith(b"-")


class Reservation(NamedTuple):
    """The result of an attempt to reserve a place."""

    is_granted: bool
    now_ms: int
    victims: Sequence[Place]
    has_others: bool


class Places:
    """The users' indexes of one store. *key* is that of one user's index, from `key_of`."""

    def __init__(self, client: Client, reports: Reports) -> None:
        self._client = client
        self._reports = reports

    def key_of(self, user_id: str | int | UUID) -> bytes:
        """Return the key of a user's index. Raises `SessionValueError` for an unusable user id."""
        digest = hashlib.sha256(check_user_id(user_id).encode()).hexdigest()[:32]
        return self._client.key(f"user:{digest}")

    # --- Before the hash is written ---

    async def reserve(
        self,
        key: bytes,
        handle: str,
        *,
        limit: int,
        when_full: int,
        lifetime_ms: int | None,
        replaced: Sequence[str],
    ) -> Reservation:
        """
        Reserve a place for a login, which will replace those of the handles *replaced*.

        *limit*: how many places there may be, 0 for any number. *when_full*: 0, refuse; 1, grant it
        and return the oldest places, which have to go; 2, look again at which have to go.
        """
        arguments = (handle, limit, when_full, lifetime_ms or _CENTURY_MS, *replaced)
        reply = await self._client.call(scripts.PLACE_RESERVE, (key,), arguments)
        self._report(reply.was_occupied)
        victims, has_others = self._seen(reply.victims), reply.others > 0
        return Reservation(bool(reply.is_granted), int(reply.now_ms), victims, has_others)

    async def move(self, key: bytes, record: Record, handle: str) -> int:
        """Reserve a place under a new handle for a session; returns its login time."""
        since_ms = record.metadata.auth_ms or record.metadata.created_ms
        arguments = (record.handle, handle, since_ms, record.remaining_ms or _CENTURY_MS)
        reply = await self._client.call(scripts.PLACE_MOVE, (key,), arguments)
        self._report(reply.was_occupied)
        return int(reply.since_ms)

    # --- After the hash is written ---

    async def confirm(
        self, key: bytes, record: Record, since_ms: int | None, concern: Durability | None
    ) -> Written[Confirmed]:
        """
        Keep the place of a session whose hash is written. *since_ms*: its login, if not now.

        On one node the same script gives the hash its TTL; elsewhere that takes keep.lua.
        """
        write, since = self._client.write, "" if since_ms is None else since_ms
        arguments = (record.handle, since, record.remaining_ms or _CENTURY_MS)
        if not self._client.is_sharded:
            keys, expires_ms = (key, self._client.key(record.handle)), record.expires_ms
            with suppress(KeysApart):
                return await write(
                    scripts.PLACE_CONFIRM, keys, (*arguments, expires_ms), concern=concern
                )
        return await write(scripts.PLACE_CONFIRM, (key,), arguments, concern=concern)

    # --- After the hash is gone ---

    async def release(self, key: bytes, handle: str, *, own_connection: bool = False) -> None:
        """Give a place back, however it has changed."""
        await self._client.call(
            scripts.PLACE_RELEASE,
            (key,),
            (handle, ""),
            idempotent=True,
            own_connection=own_connection,
        )

    def release_soon(self, key: bytes, handle: str) -> None:
        """Give a place back without waiting for the reply (fire and forget)."""
        self._client.call_soon(scripts.PLACE_RELEASE, (key,), (handle, ""))

    async def release_seen(self, key: bytes, places: Sequence[Place]) -> int:
        """Give places back, each only if it is still as it was seen; returns how many."""
        if not places:
            return 0
        arguments = [
            part
            for place in places
            for part in (place.handle.encode(errors="surrogateescape"), place.score)
        ]
        reply = await self._client.call(
            scripts.PLACE_RELEASE, (key,), arguments, idempotent=True, own_connection=True
        )
        return int(reply.released)

    # --- Lists ---

    async def newest(self, key: bytes, offset: int, limit: int) -> list[Place]:
        """Return places of sessions that were written, the latest login first."""
        return (await self._page(key, "newest", offset, limit))[1]

    async def page(self, key: bytes, offset: int, limit: int) -> tuple[int, list[Place]]:
        """Return the time, and places in order."""
        return await self._page(key, "all", offset, limit)

    async def sample(self, key: bytes, count: int) -> tuple[int, list[Place]]:
        """Return the time, and places taken at random."""
        return await self._page(key, "some", 0, count)

    async def until(
        self, key: bytes, instant: str, limit: int, spared: Sequence[str]
    ) -> tuple[str, list[Place]]:
        """
        Return places of sessions that logged in until *instant*, and all that are only reserved.

        *instant*: "" for now; what it stood for is returned. *spared*: handles to leave out.
        """
        now_ms, places = await self._page(key, "until", instant, limit, *spared)
        return str(now_ms), places

    async def find(self, key: bytes, handle: str) -> list[Place]:
        """Return the place of one session, or nothing."""
        reply = await self._client.call(
            scripts.PLACE_FIND, (key,), (handle,), idempotent=True, own_connection=True
        )
        self._report(reply.was_occupied)
        return self._seen(reply.place)

    async def _page(
        self, key: bytes, which: str, offset: int | str, limit: int, *spared: str
    ) -> tuple[int, list[Place]]:
        reply = await self._client.call(
            scripts.PLACE_LIST,
            (key,),
            (which, offset, limit, *spared),
            idempotent=True,
            own_connection=True,
        )
        self._report(reply.was_occupied)
        return int(reply.now_ms), self._seen(reply.places)

    def _report(self, was_occupied: int) -> None:
        if was_occupied:
            self._reports.garbage()

    def _seen(self, pairs: Sequence[bytes]) -> list[Place]:
        parts = iter(pairs)
        # What is no handle, because another program has written it, is a place without a session.
        places = [
            Place(handle.decode(errors="surrogateescape"), score)
            for handle, score in zip(parts, parts, strict=True)
        ]
        if any(is_handle(place.handle) and not place.is_possible for place in places):
            self._reports.misdated()
        return places
