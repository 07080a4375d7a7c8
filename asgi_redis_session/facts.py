"""What an app can ask a session: who is logged in, since when, until when, or why it is absent."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from .absence import Absence
from .engine.claims import checked_amr
from .engine.phases import UNLOADED
from .engine.record import Record, instant
from .mapping import SessionMapping
from .options import milliseconds

__all__ = ["SessionFacts"]


class SessionFacts(SessionMapping):
    """The attributes of `Session` that answer questions. None of them sends a command."""

    __slots__ = ()

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

    @property
    def amr(self) -> tuple[str, ...]:
        """The methods by which the user has logged in, as `login(amr=...)` was given them."""
        self._state.readable()
        return self._state.claims.amr

    @property
    def actor(self) -> str | None:
        """Who acts for the user, as `login(actor=...)` was given them; None: the user does."""
        self._state.readable()
        return self._state.claims.actor

    def is_fresh(self, max_age: timedelta | float, *, amr: Sequence[str] = ()) -> bool:
        """
        Whether the user logged in at most *max_age* (a timedelta or seconds) ago, by Redis' clock.

        *amr*: methods all of which that login must have used, such as `["otp"]`.
        Use it to ask for the password again before something sensitive (ASVS 7.5.1, 7.5.3). While a
        socket or a stream is open, time goes on. False while somebody else acts for the user, who
        has proven nothing, and if the session is used from somewhere else than it was bound by
        (`SessionMiddleware(bind=...)`).
        """
        longest_ms = milliseconds("is_fresh(max_age)", max_age)
        required = checked_amr("is_fresh(amr)", amr)
        record, auth_ms = self._known(), self._state.auth_ms
        if auth_ms is None:
            return False
        claims = self._state.claims
        if claims.actor is not None or not set(required) <= set(claims.amr):
            return False
        if record is None or self._state.pending_login is not None:
            return True
        if self._state.has_moved:
            return False
        return record.current_ms - auth_ms <= longest_ms

    @property
    def expires_at(self) -> datetime | None:
        """
        When it ends unless it is used again (aware, UTC); None while it is new.

        As of the last command of this request, such as `touch` or `still_valid`.
        """
        return None if (record := self._known()) is None else instant(record.expires_ms)

    @property
    def expires_in(self) -> timedelta | None:
        """
        How long it lives unless it is used again, by Redis' clock; None while it is new.

        Use it to warn before a session ends, in a request that does not extend it
        (`SessionMiddleware(refresh=...)`). Never negative.
        """
        if (record := self._known()) is None:
            return None
        return timedelta(milliseconds=max(0, record.expires_ms - record.current_ms))

    def _known(self) -> Record | None:
        """What Redis holds. Raises `SessionNotLoaded`."""
        self._state.readable()
        return self._state.record
