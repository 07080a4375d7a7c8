"""
One session as the app sees it.

No I/O here, no clock and no Redis: whatever needs the server goes through `Store`.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol, Self, TypeVar

from .engine.codec import check_name
from .engine.fields import Fields
from .engine.record import (
    Changes,
    Grant,
    Login,
    Record,
    check_user,
    instant,
)
from .errors import (
    DurabilityNotReached,
    SessionGone,
    SessionNotLoaded,
    SessionTooLate,
    SessionUnavailable,
    SessionValueError,
)
from .options import Durability, Lifetime, Limits, Promise, milliseconds
from .search.index import Index

__all__ = ["Origin", "Session", "Store"]

_INT64 = 2**63
_FETCH_NAMES = 1000
_T = TypeVar("_T")


#: The client's address (host, port) and the request's headers, as ASGI gives them.
Origin = tuple[Any, Any]


class Store(Protocol):
    """
    What a session asks of its store. *handles* are the names under which the hash may be stored
    (one for each secret in use); *slide* says whether this command is the request's one refresh.

    Every verb raises `SessionUnavailable`, and None always means: no such session (missing, expired
    and unreadable are the same to the caller). How durable a write must be is a `Promise`, its own
    or that of its changes; a shortfall is noted there, and the verb carried through.
    """

    index: Index
    limits: Limits
    lifetime: Lifetime
    durability: Durability | None
    end_durability: Durability | None

    def handles(self, session_id: str) -> tuple[str, ...]:
        """The names that the hash of this id may have."""
        ...

    def refresh(self, handles: tuple[str, ...]) -> None:
        """Slide the TTL; nobody waits for it, nobody hears of it."""
        ...

    async def load(self, handles: tuple[str, ...], *, slide: bool) -> Record | None:
        """Read the whole session."""
        ...

    async def fetch(
        self, handles: tuple[str, ...], names: tuple[str, ...], *, slide: bool
    ) -> dict[str, Any] | None:
        """Read those of the named fields that it has."""
        ...

    async def exists(self, handles: tuple[str, ...]) -> bool:
        """Whether there is such a session."""
        ...

    async def increment(
        self,
        handles: tuple[str, ...],
        name: str,
        amount: int,
        promise: Promise,
        *,
        slide: bool,
    ) -> int | None:
        """Add to an integer field; raises `SessionValueError` if it holds something else."""
        ...

    async def create(self, changes: Changes) -> tuple[str, Record]:
        """Make a session; returns its new secret id."""
        ...

    async def save(self, record: Record, changes: Changes, *, slide: bool) -> Record | None:
        """Write changes in one step."""
        ...

    async def renew(
        self, record: Record, changes: Changes, *, slide: bool
    ) -> tuple[str, Record] | None:
        """Write changes and move the session to a new secret id, in one step."""
        ...

    async def take_place(
        self,
        user_id: str,
        origin: Origin,
        lifetime: Lifetime | None,
        replaced: Sequence[str],
        *,
        keeps: bool,
    ) -> Login:
        """Take a place in the user's index, under a new secret id."""
        ...

    def give_back(self, login: Login) -> None:
        """Give that place back without waiting: the login will not happen."""
        ...

    async def login(self, record: Record | None, changes: Changes, login: Login) -> Record | None:
        """Write changes to a session under the login's id; None if its place was revoked."""
        ...

    async def end(self, handles: tuple[str, ...], promise: Promise) -> bool:
        """End the session; whether there was one."""
        ...


class _AtOnce:
    """Awaiting it takes no time, and gives None."""

    # An iterator that has ended, without a Python function.
    __await__: Any = iter(()).__iter__


_AT_ONCE = _AtOnce()


class _Turn:
    """
    One verb at a time, so that tasks of one request can share the session.

    As `asyncio.Lock`, but without its coroutines where nobody else wants it: nearly always. Verbs
    that nearly every request calls spell `async with` out, which is cheaper still.
    """

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: list[asyncio.Future[None]] | None = None

    def __aenter__(self) -> Awaitable[None]:
        return _AT_ONCE if self.take() else self.wait()

    def __aexit__(self, *_: object) -> Awaitable[None]:
        self.leave()
        return _AT_ONCE

    def take(self) -> bool:
        """Take it, if nobody has it; whether nobody had."""
        was_free = not self._is_taken
        self._is_taken = True
        return was_free

    def leave(self) -> None:
        """Give it back."""
        self._is_taken = False
        # All of them look again, so none is forgotten if the first is cancelled just now.
        for waiting in self._waiting or ():
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self) -> None:
        """Take it as soon as that is possible."""
        if self._waiting is None:
            self._waiting = []
        while self._is_taken:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                self._waiting.remove(turn)
        self._is_taken = True


class Session(Fields):
    """
    A session: a mapping of field names to JSON-like values, plus the verbs that end, renew or save
    it.

    Load it before use (`await session.load()`); from then on it is as good as a dict. Nested
    changes (`session["cart"].append(…)`) are noticed. Changes are staged and written in one atomic
    step when the response starts, or when you `await session.save()`.

    Async verbs act at once and need no load; sync ones are staged. To serialise it, or to keep
    its data beyond the request, take `dict(session)`.
    """

    __slots__ = (
        "_accessed",
        "_grant",
        "_handles",
        "_id",
        "_is_long_lived",
        "_is_stand_in",
        "_origin",
        "_presented",
        "_record",
        "_sealed",
        "_slide",
        "_store",
        "_tolerant",
        "_turn",
        "failure",
    )

    def __init__(
        self,
        store: Store,
        session_id: str | None = None,
        *,
        slide: bool = True,
        tolerant: bool = False,
        origin: Origin = (None, ()),
    ) -> None:
        # `super()` would cost every request as much again.
        Fields.__init__(self, store.limits, store.index.shadows.checks)
        self._store = store
        self._origin = origin
        # None: the browser sent no id, or none of the right form; or the session was ended.
        self._id = session_id
        self._presented = session_id is not None
        self._handles: tuple[str, ...] = ()
        # None: Redis holds nothing of this session, as far as we know.
        self._record: Record | None = None
        self._accessed = False
        self._sealed = False
        self._slide = slide
        self._tolerant = tolerant
        self._grant: Grant | None = None
        self._turn = _Turn()
        # Redis was away, and the request goes on with a stand-in that must not be written to.
        self._is_stand_in = False
        # A socket outlives its first refresh, so each of its verbs is one.
        self._is_long_lived = False
        #: Why the last verb did not reach Redis, or not as durably as asked; None if it did. Public
        #: for the middleware.
        self.failure: SessionUnavailable | DurabilityNotReached | None = None

    # --- Verbs that act now ---

    async def load(self) -> Self:
        """
        Read the session from Redis, once, and slide its TTL; returns itself.

        One round trip; none without a cookie, and none if it was loaded already. An unknown,
        expired or unreadable session is simply empty. Raises `SessionUnavailable`.
        """
        self._accessed = True
        if self._values is not None:
            return self
        turn = self._turn
        if not turn.take():
            await turn.wait()
        try:
            if self._values is None:
                self._become(await self._found())
        except SessionUnavailable as error:
            self._do_without(error)
        finally:
            turn.leave()
        return self

    async def reload(self) -> Self:
        """Forget all staged changes and read the session again. Raises `SessionUnavailable`."""
        self._accessed = True
        async with self._turn:
            try:
                self._become(await self._found())
            except SessionUnavailable as error:
                self._do_without(error)
        return self

    async def fetch(self, *names: str) -> dict[str, Any]:
        """
        Read single fields of a large session (HMGET); returns those that exist.

        The session stays unloaded, and the returned values are not watched for changes. If it was
        loaded before, its fields are returned as they stand, staged changes included.
        """
        for name in names:
            check_name(name)
        if len(names) > _FETCH_NAMES:
            raise SessionValueError(
                f"session.fetch takes at most {_FETCH_NAMES} names. Load the session instead."
            )
        self._accessed = True
        async with self._turn:
            if self._values is None and self._id is None:
                self._become_new()
            if self._values is None:
                try:
                    fetched = await self._store.fetch(self._keys(), names, slide=self._slide)
                except SessionUnavailable as error:
                    self._do_without(error)
                else:
                    self._mark_reached()
                    if fetched is not None:
                        return fetched
                    self._become_new()
        return {name: self[name] for name in names if name in self}

    async def increment(self, name: str, amount: int = 1) -> int:
        """
        Add to an integer field, atomically in Redis (HINCRBY); returns the sum.

        It acts at once and stands even if the request fails later. An absent field counts
        as 0. In a new session, and over a staged assignment, it changes the staged value instead.

        Raises `SessionValueError` if the field holds no 64-bit integer, `SessionGone` if the
        loaded session has ended, `SessionUnavailable`, `DurabilityNotReached`.
        """
        check_name(name)
        if type(amount) is not int or not -_INT64 <= amount < _INT64:
            raise SessionValueError("session.increment: the amount must be a 64-bit integer.")
        self._accessed = True
        async with self._turn:
            if self._values is None and self._id is None:
                self._become_new()
            self._refuse_one_more(name)
            if self._values is None or self._is_stored(name):
                promise = Promise(self._store.durability)
                total = await self._reach(
                    self._store.increment(self._keys(), name, amount, promise, slide=self._slide)
                )
                if total is not None:
                    self._mark_slid()
                    self._learn(name, total)
                    if promise.shortfall is not None:
                        self._fall_short(promise.shortfall)
                    return total
                if self._values is not None:
                    self._lose()
                self._become_new()
        return self._increment_staged(name, amount)

    async def save(self, *, durability: Durability | None = None) -> None:
        """
        Write the staged changes now: in WebSockets, streams and background tasks, or to be sure.

        One guarded step: all of it or nothing, and nothing if the session has been ended.
        In a WebSocket it also slides the TTL, since a socket outlives its first refresh.
        *durability*: how far the write must have got, instead of what the store says.

        Raises `SessionGone`, `SessionUnavailable`, `DurabilityNotReached` (the write stands), and
        `SessionValueError` for a nested value that can't be stored.
        """
        turn = self._turn
        if not turn.take():
            await turn.wait()
        try:
            if self._values is not None:
                await self._commit(durability)
        finally:
            turn.leave()

    async def logout(self) -> None:
        """
        End the session: gone in Redis when this returns, and the browser forgets it.

        The session is then empty and new; what is written afterwards makes another one. Without a
        session there is nothing to do. Raises `SessionUnavailable` if it can't be ended, and
        `DurabilityNotReached` if it has ended but may come back when Redis fails.
        """
        self._accessed = True
        async with self._turn:
            if self._is_absent():
                self._become_new()
            else:
                await self._end()

    async def login(self, user_id: str | int, *, lifetime: Lifetime | None = None) -> None:
        """
        Log a user in: call it when they have proven who they are.

        A place in the user's list of sessions is taken at once. With the response the session gets
        a new id (the old one is then dead, without grace), a new beginning and a new deadline. Data
        of the anonymous session, or of an earlier login of the same user, is kept; another user's
        is dropped (ASVS 7.2.4).

        *user_id*: a non-empty str or an int; `1` and `"1"` are the same user.
        *lifetime*: this session's own, longer for "remember me", say.

        Raises `SessionLimitReached` (nothing has changed then), `SessionTooLate`,
        `SessionUnavailable`, and `SessionValueError` for an unusable user id.
        """
        user = check_user(user_id)
        if self._sealed:
            raise SessionTooLate
        self._accessed = True
        await self.load()
        async with self._turn:
            self._writable()
            record, pending = self._record, self._login
            replaced = [known.handle for known in (record, pending) if known is not None]
            keeps = self.user_id in (None, user) and (pending is None or pending.keeps)
            login = await self._reach(
                self._store.take_place(user, self._origin, lifetime, replaced, keeps=keeps)
            )
            self._withdraw_login()
            if not keeps:
                self._forget_data()
            changes = self._stage_changes()
            changes.login, changes.lifetime, changes.clears = login, None, False

    async def still_valid(self) -> bool:
        """
        Whether the session still exists in Redis; never slides the TTL. One round trip.

        For sockets and long streams: a session may be revoked meanwhile.
        """
        self._accessed = True
        async with self._turn:
            if self._is_absent():
                return False
            return await self._reach(self._store.exists(self._keys()))

    # --- Verbs that are staged ---

    def renew(self) -> None:
        """
        Give this session a new id and keep its data and its deadline.

        Call it when privileges change, so that an id that was planted or stolen earlier is worth
        nothing (ASVS 7.2.4). The old id is dead when the response starts; there is no grace period.
        """
        self._writable()
        if self._record is not None:
            if self._sealed:
                raise SessionTooLate
            self._stage_changes().renews = True

    def set_lifetime(self, lifetime: Lifetime) -> None:
        """
        Let this session end sooner than the store's lifetime says.

        Only shorter times are accepted: a session must not outlive what it was created with.
        *absolute* counts from its creation. A half that you leave out stays as it is. Raises
        `SessionValueError` for longer ones.
        """
        self._writable()
        record, login = self._record, self._login
        limit = self._store.lifetime if login is None else login.lifetime
        idle_ms, absolute_ms = limit.idle_ms, limit.absolute_ms
        if record is not None and login is None:
            idle_ms = record.idle_ms or idle_ms
            deadline_ms = record.deadline_ms
            absolute_ms = None if deadline_ms is None else deadline_ms - record.created_ms
        self._stage_changes().lifetime = lifetime.within(idle_ms, absolute_ms)

    # --- What is known about the session ---

    @property
    def loaded(self) -> bool:
        """Whether the session can be used as a mapping."""
        return self._values is not None

    @property
    def is_new(self) -> bool:
        """Whether Redis holds nothing of it yet. Raises `SessionNotLoaded`."""
        self._readable()
        return self._record is None

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, so that the response varies with the cookie."""
        return self._accessed

    @property
    def modified(self) -> bool:
        """Whether there is something to write."""
        if self._values is None:
            return False
        try:
            changes = self._collect()
        except SessionValueError:
            return True
        return bool(changes) or self._ends(changes)

    def mark_accessed(self) -> None:
        """Called by Starlette's `request.session`."""
        self._accessed = True

    def mark_unaccessed(self) -> None:
        """What the middleware loads by itself, the app has not used yet."""
        self._accessed = False

    @property
    def handle(self) -> str | None:
        """The session's public name: safe to show, useless as a cookie. None while it is new."""
        return None if (record := self._known()) is None else record.handle

    @property
    def user_id(self) -> str | None:
        """Who is logged in; None if nobody is."""
        record, login = self._known(), self._login
        return login.user_id if login else None if record is None else record.user_id

    @property
    def created_at(self) -> datetime | None:
        """When it was created, or logged in; None while it is new."""
        record, login = self._known(), self._login
        if login is not None:
            return instant(login.now_ms)
        return None if record is None else instant(record.created_ms)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user logged in; None if nobody has."""
        auth_ms = self._auth_ms()
        return None if auth_ms is None else instant(auth_ms)

    def is_fresh(self, max_age: timedelta | float) -> bool:
        """
        Whether the user logged in at most *max_age* (a timedelta or seconds) ago, by Redis' clock:
        to ask for the password again before something sensitive (ASVS 7.5.1, 7.5.3).
        """
        auth_ms, record = self._auth_ms(), self._record
        if auth_ms is None:
            return False
        if record is None or self._login is not None:
            return True
        return record.now_ms - auth_ms <= milliseconds("is_fresh(max_age)", max_age)

    @property
    def expires_at(self) -> datetime | None:
        """When it ends unless it is used again; None while it is new."""
        return None if (record := self._known()) is None else instant(record.expires_ms)

    # --- As a whole ---

    def __repr__(self) -> str:
        if self._values is None:
            return "<Session not loaded>"
        state = "new" if self._record is None else "modified" if self.modified else "unchanged"
        return f"<Session {state}, fields: {', '.join(self._values) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Session belongs to its request and can't be copied or pickled. Use dict(session)."
        )

    # --- For the middleware and the store ---

    @property
    def next_handle(self) -> str | None:
        """The handle that a staged login will give the session; None if there is none."""
        return None if (login := self._login) is None else login.handle

    def refresh(self) -> None:
        """Slide the TTL without waiting for it, unless this request has done so already."""
        if self._slide and self._values is None and self._id is not None:
            self._store.refresh(self._keys())
            self._slide = False

    def seal(self) -> None:
        """From now on the browser can't be given a new id."""
        self._sealed = True

    def outlive_request(self) -> None:
        """Let every verb slide the TTL from now on: a WebSocket is open for longer than that."""
        self._slide = self._is_long_lived = True

    def discard(self) -> None:
        """Drop what is staged: the request has failed."""
        if self._changes is not None:
            self._withdraw_login()
            self._changes = None
        self._live = frozenset()

    def take_grant(self) -> Grant | None:
        """What the browser must be told, once; None if it has all it needs."""
        grant, self._grant = self._grant, None
        return grant

    # --- Inside ---

    def _found(self) -> Awaitable[Record | None]:
        """What Redis holds of it."""
        if self._id is None:
            return _AT_ONCE
        return self._store.load(self._keys(), slide=self._slide)

    def _become(self, record: Record | None) -> None:
        """Take over what Redis holds; None: nothing."""
        self._mark_reached()
        if record is None:
            self._become_new()
            return
        self.discard()
        self._record, self._handles = record, (record.handle,)
        # Not copied: a record is read once.
        self._take_over(record.values, record.pairs)

    def _mark_reached(self) -> None:
        """Redis was there, and has slid the TTL: once is enough, unless this is a socket."""
        self.failure = None
        self._slide = self._is_long_lived

    def _do_without(self, error: SessionUnavailable) -> None:
        """Redis was not there: the session becomes a stand-in, if the middleware allows it."""
        self.failure = error
        if not self._tolerant:
            raise error
        self._become_stand_in()

    def _become_new(self) -> None:
        self.discard()
        self._id = self._record = None
        self._handles = ()
        self._take_over({})
        self._is_stand_in = False

    def _become_stand_in(self) -> None:
        self.discard()
        self._record = None
        self._take_over({})
        self._is_stand_in = True

    async def _reach(self, verb: Awaitable[_T]) -> _T:
        """Await a verb of the store, and remember whether Redis was there."""
        try:
            result = await verb
        except SessionUnavailable as error:
            self.failure = error
            raise
        self.failure = None
        return result

    def _fall_short(self, shortfall: DurabilityNotReached) -> NoReturn:
        """The write stands, and the session is as it should be, before this is told."""
        self.failure = shortfall
        raise shortfall

    def _mark_slid(self) -> None:
        self._slide = self._is_long_lived

    def _lose(self) -> NoReturn:
        self._become_new()
        raise SessionGone

    async def _end(self, durability: Durability | None = None) -> None:
        promise = Promise(durability or self._store.end_durability)
        existed = await self._reach(self._store.end(self._keys(), promise))
        # A browser that sent an id which Redis does not know may hold a newer cookie by now.
        self._grant = Grant(None) if existed and self._presented else None
        self._become_new()
        if promise.shortfall is not None:
            self._fall_short(promise.shortfall)

    async def _commit(self, durability: Durability | None) -> None:
        changes, record = self._collect(), self._record
        if self._ends(changes):
            self._withdraw_login()
            await self._end(durability)
        elif changes and (record is not None or changes.fields or changes.login):
            changes.promise = promise = Promise(durability or self._store.durability)
            # What is staged from here on comes after these changes, whatever becomes of them.
            self._changes, self._is_sending = None, True
            try:
                await self._send(changes)
                self.failure = None
            except SessionGone:
                raise
            except BaseException as error:  # cancelled, too: the changes may not have arrived
                if isinstance(error, SessionUnavailable):
                    self.failure = error
                self._restore(changes)
                raise
            finally:
                self._is_sending = False
            if promise.shortfall is not None:
                self._fall_short(promise.shortfall)

    async def _send(self, changes: Changes) -> None:
        record, login = self._record, changes.login
        gives = login is not None or changes.renews or changes.lifetime is not None
        saved: Record | None
        if login is not None:
            self._id, saved = login.session_id, await self._store.login(record, changes, login)
        elif record is None:
            if self._sealed:
                raise SessionTooLate
            self._id, saved = await self._store.create(changes)
            gives = True
        elif changes.renews:
            renewed = await self._store.renew(record, changes, slide=self._slide)
            self._id, saved = renewed or (None, None)
        else:
            saved = await self._store.save(record, changes, slide=self._slide)
        if saved is None:
            self._lose()
        self._record, self._handles = saved, (saved.handle,)
        self._settle(changes)
        self._mark_slid()
        if gives:
            self._give(saved)

    def _give(self, record: Record) -> None:
        deadline_ms = record.deadline_ms
        self._grant = Grant(
            self._id, None if deadline_ms is None else max(0, deadline_ms - record.now_ms)
        )

    @property
    def _login(self) -> Login | None:
        return None if self._changes is None else self._changes.login

    def _forget_data(self) -> None:
        """Another user logs in: what the session held is not theirs."""
        self._changes = None
        self._live = frozenset()
        self._take_over({})

    def _withdraw_login(self) -> None:
        if self._changes is not None and self._changes.login is not None:
            self._store.give_back(self._changes.login)
            self._changes.login = None

    def _ends(self, changes: Changes) -> bool:
        """Whether the session was emptied in a way that ends it."""
        record, login = self._record, changes.login
        if self._values or (record is None and login is None):
            return False
        has_user = login is not None or (record is not None and record.user_id is not None)
        return changes.clears or (bool(changes.fields) and not has_user)

    def _is_absent(self) -> bool:
        """Whether it is known that Redis holds nothing of it."""
        known_absent = self._values is not None and self._record is None
        return self._id is None or (known_absent and not self._is_stand_in)

    def _is_stored(self, name: str) -> bool:
        """Whether what Redis holds of this field is what the app sees."""
        record, login = self._record, self._login
        if record is None or (login is not None and not login.keeps):
            return False
        return self._is_as_loaded(name)

    def _learn(self, name: str, total: int) -> None:
        if self._values is not None and self._record is not None:
            self._values[name] = total
            self._stored()[name.encode()] = b"%d" % total

    def _increment_staged(self, name: str, amount: int) -> int:
        current = self.get(name, 0)
        if type(current) is not int or not -_INT64 <= current + amount < _INT64:
            raise SessionValueError(
                f"session[{name!r}] can't be incremented: it holds no integer, or the sum would "
                "not fit 64 bits."
            )
        self[name] = current + amount
        return current + amount

    def _keys(self) -> tuple[str, ...]:
        if not self._handles and self._id is not None:
            self._handles = self._store.handles(self._id)
        return self._handles

    def _auth_ms(self) -> int | None:
        record, login = self._known(), self._login
        return login.now_ms if login else None if record is None else record.auth_ms

    def _known(self) -> Record | None:
        self._readable()
        return self._record

    def _readable(self) -> dict[str, Any]:
        if self._values is None:
            raise SessionNotLoaded
        self._accessed = True
        return self._values

    def _writable(self) -> dict[str, Any]:
        values = self._readable()
        if self._is_stand_in:
            raise SessionUnavailable(
                "This request runs without its session, because Redis was not available; writing "
                "to it would lose the user's real one. Try again later."
            )
        if self._sealed and self._record is None:
            raise SessionTooLate
        return values
