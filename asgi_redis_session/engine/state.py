"""
The session of one request, from its cookie to the commit: what is known, and what is staged.

The middleware drives it; `Session` is what the app sees of it. A session is in one of four phases,
and only `enter` changes the phase. No framework here, no clock and no Redis command: `actions`
sends those.
"""

from time import monotonic
from typing import NoReturn

from ..absence import Absence
from ..cookie import CookieChange
from ..errors import (
    DurabilityNotReached,
    SessionGone,
    SessionNotLoaded,
    SessionTooLate,
    SessionUnavailable,
)
from .codec import StoredHash
from .engine import Engine
from .fields import Fields
from .phases import NEW, STAND_IN, STORED, UNLOADED, Phase
from .prefetch import Ahead
from .record import Ended, PeerInfo, Record, Span
from .staged import Staged
from .turn import Turn

#: For how many seconds a request with an old id is taken for one that was sent before the browser
#: got the new one.
_STRAGGLES = 10.0


class SessionState(Staged):
    """
    One request's session.

    *session_id*: from the cookie; None if there was none. *handles*: instead of an id, for a
    session that is known by its handle only. *extends*: whether its commands extend the TTL.
    *is_tolerant*: whether the request goes on with a stand-in when Redis is down. *peer*: who
    sent the request. *conflicting*: the ids of a request that has sent several; it is anonymous.
    *is_former*: the browser holds the id under a name that is no longer used. *span*: how long a
    new session lives; None: as the store says.
    """

    __slots__ = (
        "_absence",
        "_ended_at",
        "_ended_meanwhile",
        "_handles",
        "_is_former",
        "_is_long_lived",
        "_is_tolerant",
        "_sealed",
        "_sent_id",
        "accessed",
        "ahead",
        "binding",
        "conflicting",
        "cookie_change",
        "extends",
        "had_cookie",
        "is_over",
        "peer",
        "repeats_cookie",
        "session_id",
        "span",
        "turn",
    )

    def __init__(  # noqa: PLR0917  (keywords would cost each request a dict)
        self,
        engine: Engine,
        session_id: str | None = None,
        extends: bool = True,  # noqa: FBT001, FBT002
        is_tolerant: bool = False,  # noqa: FBT001, FBT002
        peer: PeerInfo = (None, ()),
        conflicting: tuple[str, ...] = (),
        is_former: bool = False,  # noqa: FBT001, FBT002
        *,
        handles: tuple[str, ...] = (),
        span: Span | None = None,
    ) -> None:
        self.engine = engine
        self.session_id = session_id
        self._handles = handles  # empty: not computed yet, or there is no id
        self.had_cookie = session_id is not None
        self._sent_id = session_id
        self.extends = extends
        self._is_tolerant = is_tolerant
        self.peer = peer
        self.conflicting = conflicting
        self._is_former = is_former
        self.span = span or engine.span
        # A WebSocket outlives its first command, so each of its commands extends the TTL.
        self._is_long_lived = False
        # Why the browser can't be given a new id; None if it can.
        self._sealed: str | None = None
        self.changes = None
        self.cookie_change: CookieChange | None = None
        #: Whether the browser should get its id again: see `actions.repeat_cookie`.
        self.repeats_cookie = False
        #: Held by one verb at a time.
        self.turn = Turn()
        self.phase = UNLOADED
        #: What was read before the app ran; None if it can't be.
        self.ahead: Ahead | None = None
        self.record = None
        self.fields = engine.no_fields
        # Why Redis holds nothing, and when it was replaced, by this process's clock.
        self._absence: Absence | None = None
        self._ended_at = 0.0
        # Whether the session has ended during this request.
        self._ended_meanwhile = False
        #: Digests of what its browser is bound by, one for each secret in use; None: nothing.
        self.binding: tuple[str, ...] | None = None
        #: Whether the request is over, so that no commit will follow.
        self.is_over = False
        #: Whether the app has used the session, so that the response varies with the cookie.
        self.accessed = False
        self.is_marked = False

    @property
    def has_moved(self) -> bool:
        """Whether another browser was bound to the session than that of this request."""
        if self.binding is None or self.record is None:
            return False
        return self.record.metadata.binding not in (None, *self.binding)

    def renew(self) -> None:
        """Give the session a new id at the commit."""
        self.writable()
        if self.phase is STORED:
            self.refuse_new_id()
            self.stage().renews = True

    def readable(self) -> Fields:
        """Return the fields, or raise an error that says why they can't be read."""
        if self.phase is UNLOADED:
            raise SessionNotLoaded
        self.accessed = True
        fields = self.fields
        if fields.typed:
            fields.write_back()
        return fields

    def writable(self) -> Fields:
        """Return the fields, or raise an error that says why they can't be changed."""
        fields = self.readable()
        if self.phase is STAND_IN:
            raise SessionUnavailable(
                "This request runs without its session, because Redis was not available; writing "
                "to it would lose the user's real one. Try again later."
            )
        if self.phase is NEW:
            if self._ended_meanwhile and self._sealed is not None:
                raise SessionGone(self.absence)
            self.refuse_new_id()
        if self.is_over:
            raise SessionTooLate(SessionTooLate.OVER)
        return fields

    @property
    def absence(self) -> Absence | None:
        """Why there is no session; None if there is one."""
        if self._absence is not None:
            return self._absence
        if self.record is not None:
            return None
        if self.phase is UNLOADED and self.handles():
            raise SessionNotLoaded
        if self.phase is STAND_IN:
            return Absence("unavailable")
        return Absence("conflict" if self.conflicting else "no_cookie")

    def note_absence(self, ended: Ended) -> None:
        """Redis has said why there is no session."""
        self._absence = ended.absence
        if ended.ago_ms is not None:
            self._ended_at = monotonic() - ended.ago_ms / 1000

    @property
    def is_straggler(self) -> bool:
        """
        Whether this request was sent before the browser got the new id of its session.

        What it writes would begin another session, whose cookie would undo the login. For a short
        while only: an answer that never reached the browser must not lock its user out.
        """
        absence = self._absence
        return (
            absence is not None
            and absence.kind == "replaced"
            and monotonic() - self._ended_at < _STRAGGLES
        )

    def handles(self) -> tuple[str, ...]:
        """The handles that the session may have; empty without an id."""
        if not self._handles and self.session_id is not None:
            self._handles = self.engine.ids.handles(self.session_id)
        return self._handles

    def extend_soon(self) -> None:
        """Extend the TTL without waiting (fire and forget), if this request has not done so."""
        if self.extends and self.phase is UNLOADED and (handles := self.handles()):
            self.engine.reader.extend_soon(handles)
            self.extends = False

    def seal(self, reason: str = SessionTooLate.RESPONSE_STARTED) -> None:
        """From now on, the browser can't be given a new id. *reason*: what errors will say."""
        self._sealed = reason

    def extend_with_every_command(self) -> None:
        """Let every command extend the TTL: a WebSocket is open for longer than one."""
        self.extends = self._is_long_lived = True

    def discard(self) -> None:
        """Forget what is staged: the request has failed."""
        self.withdraw_login()
        self.changes = None
        if self.phase is not UNLOADED:
            self.fields.discard()

    def pop_cookie_change(self) -> CookieChange | None:
        """Return how the browser's cookie must change, once; None if it is right."""
        change, self.cookie_change = self.cookie_change, None
        return change

    def enter(self, phase: Phase, record: Record | None = None) -> None:
        """Change the phase. STORED comes with a record, and no other phase does."""
        self.phase, self.record = phase, record
        if record is not None:
            self._handles = (record.handle,)
        elif phase is NEW:
            self.session_id, self._handles = None, ()

    def adopt(self, record: Record | None, ended: Ended | None = None) -> None:
        """
        Take over what Redis holds; None: nothing. What was staged is forgotten.

        *ended*: why there is nothing; None if the browser has sent no id.
        """
        self.withdraw_login()
        self.changes = self._absence = None
        if ended is not None:
            self.note_absence(ended)
        if record is None:
            self.replace_fields(StoredHash())
            self.enter(NEW)
        else:
            self.replace_fields(record.stored)
            self.enter(STORED, record)
            if self._is_former:
                self.repeats_cookie = True

    def do_without(self, error: SessionUnavailable) -> None:
        """Redis is down: go on with a stand-in, if that is allowed."""
        if not self._is_tolerant:
            raise error
        self.discard()
        self.replace_fields(StoredHash())
        self.enter(STAND_IN)

    def drop_straggler(self) -> NoReturn:
        """Drop what is staged, and raise `SessionGone`: the browser has a newer session."""
        handle = self.engine.ids.handles(self._sent_id)[0] if self._sent_id else None
        self.engine.reports.straggled(handle)
        self.discard()
        self.replace_fields(StoredHash())
        raise SessionGone(self._absence)

    def raise_gone(self, ended: Ended) -> NoReturn:
        """The session has ended: go on with a new one, and raise `SessionGone`."""
        self.adopt(None, ended)
        self._ended_meanwhile = True
        raise SessionGone(ended.absence)

    def note_extended(self) -> None:
        """The TTL was extended: once per request is enough, unless this is a WebSocket."""
        self.extends = self._is_long_lived

    def raise_shortfall(self, shortfall: DurabilityNotReached | None) -> None:
        """The write is done, and the session is as it should be, before this is raised."""
        if shortfall is not None:
            raise shortfall

    def issue_cookie(self, record: Record, *, is_new: bool) -> None:
        """Let the response give the browser the current id, if there is one to give."""
        if self.session_id is not None:
            metadata = record.metadata
            deadline_ms = metadata.deadline_ms
            left_ms = None if deadline_ms is None else max(0, deadline_ms - record.now_ms)
            persistent = None if metadata.claims is None else record.claims.persistent
            self.cookie_change = CookieChange(self.session_id, left_ms, is_new, persistent)

    def refuse_new_id(self) -> None:
        """Raise `SessionTooLate` if the browser can't be given a new id."""
        if self._sealed is not None:
            raise SessionTooLate(self._sealed)

    def has_no_id(self) -> bool:
        """Whether nothing was read, and there is no id to read with."""
        return self.phase is UNLOADED and not self.handles()

    def is_absent(self) -> bool:
        """Whether it is known that Redis holds nothing of it."""
        return self.phase is NEW or not self.handles()
