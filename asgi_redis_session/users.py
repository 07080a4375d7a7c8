"""
The sessions of a user: where they are listed, how many there may be, and how they end.

A user's index is a sorted set of handles, scored by the time of login. It lives in another Cluster
slot than the sessions, so every change is a sequence of steps, in an order that is right after each
of them (`docs/verbs.md`):

- a *place* in the index is taken before the hash exists, marked as such (negative score), and
  confirmed when the hash is written. If it was revoked meanwhile, the login has lost and deletes
  its hash;
- a session ends before its place is given back, and the place is given back only as it was seen, so
  a login that was confirmed in between stays listed and is found by the next round.

So a crash leaves a place without a session (pruned when next seen), never a session that no list
shows.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, Protocol

from .engine.record import Record, check_user, is_handle
from .engine.wire import Wire, script_of
from .errors import SessionLimitReached, SessionUnavailable, SessionValueError
from .info import SessionInfo
from .options import Durability, Promise
from .session import Session

__all__ = ["Users"]

_TAKE, _MOVE, _CONFIRM, _RELEASE, _LIST, _FIND = SCRIPTS = tuple(
    script_of("users_prelude", f"place_{name}")
    for name in ("take", "move", "confirm", "release", "list", "find")
)

_PAGE = 500
#: So many places, taken at random, are looked at whenever an index is written: more than a login
#: adds, so that an index which nobody lists stays as short as its user has sessions.
_SAMPLE = 10
_LONGEST_LIST, _FAR = 1000, 2**31
#: A place that was taken this long ago (ms) without a session belongs to a login that never
#: happened.
_ABANDONED = 60_000
#: How long the index of sessions without a deadline lives; in effect as long as they do.
_CENTURY_MS = 36_525 * 24 * 3600 * 1000


class Place(NamedTuple):
    """One line of a user's index."""

    handle: str
    score: bytes

    @property
    def taken_ms(self) -> int:
        """When it was taken, by the clock of Redis."""
        return abs(int(float(self.score)))

    @property
    def is_confirmed(self) -> bool:
        """Whether its session was written."""
        return not self.score.startswith(b"-")


# Spelled out here, because inside Users `list` is a method.
_Places = list[Place]


class Sessions(Protocol):
    """What the index asks of the store of sessions."""

    async def peek(self, handle: str) -> SessionInfo | None:
        """A session without using it."""
        ...

    async def is_alive(self, handle: str) -> bool:
        """Whether there is anything under its key, also something that can't be read."""
        ...

    @property
    def end_durability(self) -> Durability | None:
        """How durable the end of a session must be."""
        ...

    async def delete(self, handle: str, promise: Promise) -> bool:
        """End a session, without regard to the index; whether there was one."""
        ...


class Users:
    """
    The sessions of users, for an account page and for administrators: `store.users`.

    A user id is a non-empty str, or an int; `1` and `"1"` are one user. Every verb raises
    `SessionUnavailable`, and `SessionValueError` for an unusable user id.
    """

    def __init__(self, wire: Wire, sessions: Sessions, *, limit: int | None, evict: bool) -> None:
        self._wire = wire
        self._sessions = sessions
        self._limit = limit or 0
        self._evict = evict
        self._tidying: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}

    async def list(
        self,
        user_id: str | int,
        *,
        current: Session | str | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> list[SessionInfo]:
        """
        The user's live sessions, the latest login first, *limit* of them from *offset* on.

        *current*: the session that asks (or its handle), to be marked in the list. The handles are
        safe to show: they end a session, and can't be used as a cookie. *limit*: at most 1,000.
        """
        for name, value, least, most in (
            ("offset", offset, 0, _FAR),
            ("limit", limit, 1, _LONGEST_LIST),
        ):
            if type(value) is not int or not least <= value <= most:
                raise SessionValueError(
                    f"store.users.list({name}={value!r}): give an integer from {least} to {most}."
                )
        key = self._key(user_id)
        mine = current.handle if isinstance(current, Session) else current
        while True:
            _, places = await self._page(key, "newest", offset, limit)
            infos = await asyncio.gather(*[self._sessions.peek(place.handle) for place in places])
            missing = [place for place, info in zip(places, infos, strict=True) if info is None]
            if not missing or not await self._release(key, await self._dead(missing)):
                return [
                    replace(info, current=info.handle == mine) for info in infos if info is not None
                ]

    async def count(self, user_id: str | int) -> int:
        """How many live sessions the user has; forgets dead ones."""
        return await self._prune(self._key(user_id))

    async def revoke(self, user_id: str | int, handle: str) -> bool:
        """
        End one session of this user; False if it is not one of theirs, so a handle may come
        straight from a form.
        """
        key = self._key(user_id)
        if not is_handle(handle):
            return False
        reply = await self._wire.ask(_FIND, [key], [handle], idempotent=True, side=True)
        places = _places(reply[1])
        self._tidy_later(key)
        return bool(places) and bool(await self._end(key, places))

    async def revoke_all(self, user_id: str | int) -> int:
        """
        End all sessions of this user that logged in before the call; returns how many.

        Complete: a login, renewal or commit that runs at the same time can't leave an older one;
        a login that is not committed yet while this runs is ended as well. It needs only reads, DEL
        and ZREM, which Redis accepts when it is out of memory.
        """
        return await self._revoke_all(self._key(user_id))

    async def revoke_others(self, session: Session) -> int:
        """End all sessions of this session's user but itself; returns how many (ASVS 7.4.3)."""
        user_id, handle = session.user_id, session.handle
        if user_id is None:
            raise SessionValueError(
                "revoke_others: nobody is logged in on this session. Call `session.login(...)` "
                "first, or use revoke_all(user_id)."
            )
        spare = [name for name in (handle, session.next_handle) if name is not None]
        return await self._revoke_all(self._key(user_id), *spare)

    # --- Steps of a login, a renewal and an end; for the store ---

    async def take(
        self, user_id: str, handle: str, replaced: Sequence[str], lifetime_ms: int | None
    ) -> int:
        """
        Take a place for a login; returns the time, by Redis' clock.

        A full index is pruned first; then the oldest sessions end, or `SessionLimitReached` is
        raised and nothing has changed.
        """
        key, lifetime = self._key(user_id), lifetime_ms or _CENTURY_MS
        arguments = [handle, self._limit, 0, lifetime, *replaced]
        reply = await self._wire.ask(_TAKE, [key], arguments)
        if not reply[1]:
            await self._prune(key)
            arguments[2] = int(self._evict)
            reply = await self._wire.ask(_TAKE, [key], arguments)
        if not reply[1]:
            raise SessionLimitReached(self._limit)
        since = int(reply[2])
        try:
            while victims := _places(reply[3]):
                await self._end(key, victims)
                # Looked at again, because a victim may have been renewed or confirmed meanwhile.
                arguments[2] = 2
                reply = await self._wire.ask(_TAKE, [key], arguments)
        except BaseException:  # cancelled, too: the next try must not find this place taken
            self.release_later(user_id, handle)
            raise
        self._tidy_later(key)
        return since

    async def move(self, record: Record, handle: str, lifetime_ms: int | None) -> int:
        """Take a place for a session that is renewed; returns its login time."""
        since = record.auth_ms or record.created_ms
        arguments = [record.handle, handle, since, lifetime_ms or _CENTURY_MS]
        key = self._key(record.user_id or "")
        reply = await self._wire.ask(_MOVE, [key], arguments)
        self._tidy_later(key)
        return int(reply[2])

    async def confirm(
        self,
        user_id: str,
        handle: str,
        since: int | None,
        lifetime_ms: int | None,
        promise: Promise | None,
    ) -> bool:
        """The hash is written; whether its place is still held. *since*: its login, if not now."""
        arguments = [handle, "" if since is None else since, lifetime_ms or _CENTURY_MS]
        reply = await self._wire.ask(_CONFIRM, [self._key(user_id)], arguments, promise=promise)
        return bool(reply[1])

    async def release(self, user_id: str, handle: str, *, side: bool = False) -> None:
        """Give a place back whose session has ended."""
        key = self._key(user_id)
        await self._wire.ask(_RELEASE, [key], [handle, ""], idempotent=True, side=side)

    def release_later(self, user_id: str, handle: str) -> None:
        """The same, without waiting."""
        self._wire.post(_RELEASE, [self._key(user_id)], [handle, ""])

    async def drain(self) -> None:
        """Wait until this event loop's indexes are tidy."""
        loop = asyncio.get_running_loop()
        if tasks := [task for task, theirs in self._tidying.items() if theirs is loop]:
            await asyncio.wait(tasks)

    # --- Inside ---

    def _key(self, user_id: str | int) -> bytes:
        digest = hashlib.sha256(check_user(user_id).encode()).hexdigest()[:32]
        return self._wire.key(f"user:{digest}")

    async def _revoke_all(self, key: bytes, *spare: str) -> int:
        ended, until = 0, ""
        while True:
            arguments = ["until", until, _PAGE, *spare]
            reply = await self._wire.ask(_LIST, [key], arguments, idempotent=True, side=True)
            until, places = str(reply[1]), _places(reply[2])
            if not places:
                return ended
            ended += await self._end(key, places)

    async def _end(self, key: bytes, places: Sequence[Place]) -> int:
        """
        End sessions, then give their places back, each only as it was seen.

        What can't be ended keeps its place, and harms none of the others: its error is raised last.
        So does what may come back, ended less durably than was asked for: a next try finds it.
        """
        promise = Promise(self._sessions.end_durability)
        results = await asyncio.gather(
            *[self._sessions.delete(place.handle, promise) for place in places],
            return_exceptions=True,
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        ended = [
            place
            for place, result in zip(places, results, strict=True)
            if not isinstance(result, BaseException)
        ]
        if promise.shortfall is None:
            await self._release(key, ended)
        for error in (*failed, promise.shortfall):
            if error is not None:
                raise error
        return sum(result is True for result in results)

    async def _prune(self, key: bytes) -> int:
        """Forget places without a session; returns how many sessions there are."""
        live, offset = 0, 0
        while True:
            now, places = await self._page(key, "all", offset, _PAGE)
            if not places:
                return live
            dead, released = await self._forget(key, now, places)
            live += len(places) - dead
            offset += len(places) - released

    def _tidy_later(self, key: bytes) -> None:
        """Forget dead places among some, without waiting: a node that is away delays no login."""

        async def tidy() -> None:
            with suppress(SessionUnavailable):  # it has been reported
                await self._forget(key, *await self._page(key, "some", 0, _SAMPLE))

        loop = asyncio.get_running_loop()
        task = loop.create_task(tidy())
        self._tidying[task] = loop
        task.add_done_callback(self._tidying.pop)

    async def _forget(self, key: bytes, now: int, places: Sequence[Place]) -> tuple[int, int]:
        """Give back places without a session; how many have none, and how many were given back."""
        dead = await self._dead(places)
        gone = [p for p in dead if p.is_confirmed or now - p.taken_ms > _ABANDONED]
        return len(dead), await self._release(key, gone)

    async def _dead(self, places: Sequence[Place]) -> _Places:
        """Those whose sessions do not exist."""
        alive = await asyncio.gather(*[self._sessions.is_alive(p.handle) for p in places])
        return [place for place, lives in zip(places, alive, strict=True) if not lives]

    async def _page(self, key: bytes, which: str, offset: int, limit: int) -> tuple[int, _Places]:
        arguments = [which, offset, limit]
        reply = await self._wire.ask(_LIST, [key], arguments, idempotent=True, side=True)
        return int(reply[1]), _places(reply[2])

    async def _release(self, key: bytes, places: Sequence[Place]) -> int:
        if not places:
            return 0
        arguments = [part for place in places for part in place]
        reply = await self._wire.ask(_RELEASE, [key], arguments, idempotent=True, side=True)
        return int(reply[1])


def _places(reply: Sequence[bytes]) -> _Places:
    pairs = iter(reply)
    return [Place(handle.decode(), score) for handle, score in zip(pairs, pairs, strict=True)]
