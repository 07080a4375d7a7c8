"""The session as the app sees it: a mapping, and the verbs that save, renew or end it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NoReturn, Self
from uuid import UUID

from .absence import Absence
from .arguments import is_async, refuse_other, shown
from .engine import actions, atomic, lifetimes
from .engine.codec import check_name, to_base
from .engine.record import Record, instant
from .engine.state import UNLOADED, SessionState
from .errors import SessionValueError
from .mapping import SessionMapping
from .options import NOT_GIVEN, Durability, Duration, NotGiven, milliseconds

__all__ = ["Session", "state_of"]

_FETCH_NAMES = 1000


class Session(SessionMapping):
    """
    A session: a mapping of field names to JSON-like values.

    The middleware makes it: `scope["session"]`, or `request.session` in Starlette and FastAPI. Load
    it before use (`await session.load()`); from then on it behaves like a dict. Changes inside
    lists and dicts (`session["cart"].append(…)`) are noticed. All changes are staged, and written
    in one atomic step when the response starts, or when the app calls `await session.save()`.

    Verbs that are coroutines act at once and need no load; the others are staged. To serialise the
    session, or to keep its data beyond the request, take `dict(session)`.
    """

    __slots__ = ()

    async def load(self) -> Self:
        """
        Read the session from Redis, once, and extend its TTL; returns the session itself.

        One round trip; none without a cookie, or if it was loaded already. An unknown, expired or
        unreadable session is empty. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        await actions.load(self._state)
        return self

    async def reload(self) -> Self:
        """
        Forget all staged changes, and read the session again, to see what other requests have
        written. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        await actions.load(self._state, again=True)
        return self

    async def fetch(self, *names: str) -> dict[str, Any]:
        """
        Read single fields of a large session (HMGET); returns those that exist.

        The session stays unloaded, and changes inside the returned values are not noticed. If it
        was loaded before, its fields are returned as they are, with staged changes. At most 1,000
        names. Raises `SessionUnavailable`, and `SessionValueError` for an unusable name.
        """
        names = tuple([check_name(name) for name in names])
        if len(names) > _FETCH_NAMES:
            raise SessionValueError(
                f"session.fetch takes at most {_FETCH_NAMES} names. Load the session instead."
            )
        self._state.accessed = True
        return await actions.fetch(self._state, names)

    async def increment(self, name: str, amount: int = 1) -> int:
        """
        Add to an integer field, atomically in Redis (HINCRBY); returns the sum.

        Use it for counters: unlike `session[name] += 1`, concurrent increments all count. It acts
        at once, and is kept even if the request fails later. An absent field counts as 0. In a new
        session, and over a staged assignment, it changes the staged value instead.

        Raises `SessionValueError` if the field holds no 64-bit integer, `SessionGone` if the loaded
        session has ended, `SessionUnavailable`, and `DurabilityNotReached`.
        """
        name = check_name(name)
        amount = to_base(amount)
        if type(amount) is not int or not -actions.INT64 <= amount < actions.INT64:
            raise SessionValueError("session.increment: the amount must be a 64-bit integer.")
        self._state.accessed = True
        return await actions.increment(self._state, name, amount)

    async def transform(
        self, name: str, function: Callable[[Any], Any], *, default: Any = None
    ) -> Any:
        """
        Replace a field by what *function* returns for its value; returns the new value.

            def add(cart): return [*cart, sku]

            await session.transform("cart", add, default=[])

        Compare-and-set in Redis: if another request has written the field meanwhile, *function* is
        called again with that value, so it must have no effects of its own. No change is lost, as
        it would be with `session["cart"].append(sku)` in two requests at once. It acts at once, and
        is kept even if the request fails later. In a new session, and over a value that this
        request has changed, it changes the staged value instead. *default*: what *function* gets if
        there is no such field.

        Raises `SessionValueError` for what can't be stored, `SessionGone`, `SessionUnavailable`,
        `DurabilityNotReached`, and what *function* raises.
        """
        name = check_name(name)
        if not callable(function):
            raise TypeError(f"session.transform takes a function, not {shown(function)}.")
        if is_async(function):
            raise TypeError(
                "session.transform may call the function several times, so it can't be async. "
                "Await what you need before, and give a plain function."
            )
        self._state.accessed = True
        return await atomic.transform(self._state, name, function, default)

    async def take(self, name: str, default: Any = None) -> Any:
        """
        Read a field and remove it, in one atomic step in Redis; returns its value, or *default*.

        Use it for what may be used once: an OAuth state, a one-time password, a flash message. Of
        two requests at once, one gets it; with `pop`, both would. It acts at once. A value that
        this request has set itself is taken from what is staged.

        Raises `SessionGone` if the session has ended, `SessionUnavailable`, `DurabilityNotReached`.
        """
        name = check_name(name)
        self._state.accessed = True
        return await atomic.take(self._state, name, default)

    async def save(self, *, durability: Durability | None = None) -> None:
        """
        Write the staged changes now.

        Use it in WebSockets, streams and background tasks, or before something that depends on it.
        It is one guarded step: all changes are written, or none; none if the session has ended. In
        a WebSocket it also extends the TTL.
        *durability*: how far the write must have got, instead of what the store says.

        Raises `SessionGone`, `SessionUnavailable`, `SessionValueError` for what can't be stored,
        and `DurabilityNotReached`: then the write is kept.
        """
        refuse_other(
            "session.save(durability)", durability, Durability | None, "a Durability or None"
        )
        await actions.commit(self._state, durability)

    async def touch(self) -> bool:
        """
        Extend the TTL now; returns whether Redis still holds the session. One round trip.

        Use it in server-sent events, long polls and WebSockets: `while await session.touch(): ...`.
        A stream that is open for longer than the idle time would otherwise outlive its session. It
        ignores `refresh_after`. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        return await actions.touch(self._state)

    async def still_valid(self) -> bool:
        """
        Whether Redis still holds the session; leaves the TTL alone. One round trip.

        Use it in WebSockets and long streams: the session may be revoked while they are open.
        Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        return await actions.still_valid(self._state)

    async def login(
        self,
        user_id: str | int | UUID,
        *,
        idle: Duration | NotGiven = NOT_GIVEN,
        absolute: Duration | NotGiven | None = NOT_GIVEN,
    ) -> None:
        """
        Log a user in. Call it when they have proven who they are.

        A place in the user's list of sessions is reserved at once. With the response, the session
        gets a new id (the old one is dead from then on), a new beginning and a new deadline. Data
        of the anonymous session, or of an earlier login of the same user, is kept; another user's
        is dropped (ASVS 7.2.4).

        *user_id*: a non-empty str, an int or a UUID; `1` and `"1"` are the same user.
        *idle*, *absolute*: the lifetime of this session, as in `Lifetime`, in seconds or as a
        timedelta; longer for "remember me", for instance. What is not given is what the store says;
        `absolute=None` means no deadline.

        Raises `SessionLimitReached` (then nothing has changed), `SessionTooLate`,
        `SessionUnavailable`, `DurabilityNotReached` if the end of the session that makes room may
        be lost (then the user is not logged in), `SessionValueError` for an unusable user id, and
        `ValueError` or `TypeError` for an unusable duration.
        """
        self._state.accessed = True
        await actions.login(self._state, user_id, idle, absolute)

    async def logout(self) -> None:
        """
        End the session: it is gone from Redis when this returns, and the browser forgets it.

        The session is empty and new from then on; what is written to it makes another one. Without
        a session there is nothing to do. Raises `SessionUnavailable` if it can't be ended, and
        `DurabilityNotReached` if it has ended but may come back when Redis fails.
        """
        self._state.accessed = True
        await actions.logout(self._state)

    def renew(self) -> None:
        """
        Give this session a new id, and keep its data and its deadline.

        Call it when privileges change, so that an id that was planted or stolen earlier is worth
        nothing (ASVS 7.2.4). The old id is dead when the response starts; there is no grace period.
        Raises `SessionTooLate`.
        """
        self._state.renew()

    def set_lifetime(
        self,
        *,
        idle: Duration | NotGiven = NOT_GIVEN,
        absolute: Duration | NotGiven | None = NOT_GIVEN,
    ) -> None:
        """
        Let this session end sooner than it would.

        *idle*, *absolute*: as in `Lifetime`, in seconds or as a timedelta. *absolute* counts from
        the creation or the login. What is not given stays as it is. Only shorter times are
        accepted, because a session must not outlive what it was created with: a longer one raises
        `SessionValueError`. For a longer life, give it to `login`.
        """
        if idle is NOT_GIVEN and absolute is NOT_GIVEN:
            raise TypeError("session.set_lifetime needs idle= or absolute=.")
        lifetimes.shorten(self._state, idle, absolute)

    @property
    def loaded(self) -> bool:
        """Whether the session can be used as a mapping."""
        return self._state.phase is not UNLOADED

    @property
    def is_new(self) -> bool:
        """Whether Redis holds nothing of it yet. Raises `SessionNotLoaded`."""
        return self._known() is None

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, so that the response varies with the cookie."""
        return self._state.accessed

    @property
    def modified(self) -> bool:
        """Whether there is something to write. Assigning True is the same as `mark_modified()`."""
        return self._state.is_marked or self._state.has_changes

    @modified.setter
    def modified(self, value: bool) -> None:
        self._state.is_marked = bool(value)

    def mark_accessed(self) -> None:
        """Note that the app has used the session. Starlette's `request.session` calls it."""
        self._state.accessed = True

    def mark_modified(self) -> None:
        """Note a change, as in Starlette 1.0. Not needed: every change is noticed."""
        self._state.is_marked = True

    @property
    def absence(self) -> Absence | None:
        """
        Why there is no session; None if there is one. Raises `SessionNotLoaded`.

        Use it to explain why a user has to log in again. What ended more than a minute ago is
        `"unknown"` (`SessionStore(remember_ended=...)`). In a WebSocket or a stream, it also says
        why `touch` or `still_valid` has returned False.
        """
        self._state.accessed = True  # what is shown because of it varies with the cookie
        return self._state.absence

    @property
    def handle(self) -> str | None:
        """The session's public name: safe to show, useless as a cookie. None while it is new."""
        return None if (record := self._known()) is None else record.handle

    @property
    def user_id(self) -> str | None:
        """Who is logged in; None if no user is."""
        self._state.readable()
        return self._state.user_id

    @property
    def created_at(self) -> datetime | None:
        """When it was created, or logged in (aware, UTC); None while it is new."""
        record, login = self._known(), self._state.pending_login
        if login is not None:
            return instant(login.now_ms)
        return None if record is None else instant(record.metadata.created_ms)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user logged in (aware, UTC); None if no user has."""
        self._state.readable()
        auth_ms = self._state.auth_ms
        return None if auth_ms is None else instant(auth_ms)

    def is_fresh(self, max_age: timedelta | float) -> bool:
        """
        Whether the user logged in at most *max_age* (a timedelta or seconds) ago, by Redis' clock.

        Use it to ask for the password again before something sensitive (ASVS 7.5.1, 7.5.3). While a
        socket or a stream is open, time goes on.
        """
        longest_ms = milliseconds("is_fresh(max_age)", max_age)
        record, auth_ms = self._known(), self._state.auth_ms
        if auth_ms is None:
            return False
        if record is None or self._state.pending_login is not None:
            return True
        return record.current_ms - auth_ms <= longest_ms

    @property
    def expires_at(self) -> datetime | None:
        """When it ends unless it is used again (aware, UTC); None while it is new."""
        return None if (record := self._known()) is None else instant(record.expires_ms)

    def __repr__(self) -> str:
        if not self.loaded:
            return "<Session not loaded>"
        state = self._state
        kind = "new" if state.record is None else "modified" if state.has_changes else "unchanged"
        return f"<Session {kind}, fields: {', '.join(state.fields.values) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Session belongs to its request and can't be copied or pickled. Use dict(session)."
        )

    def _known(self) -> Record | None:
        """What Redis holds. Raises `SessionNotLoaded`."""
        self._state.readable()
        return self._state.record


def state_of(session: Session) -> SessionState:
    """Return what the library itself works with. For this library only."""
    return session._state  # noqa: SLF001
