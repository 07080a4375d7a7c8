"""
Everything this library raises.

SessionError
├── SearchUnavailable     a query can't be answered, or only in part
├── SessionNotLoaded      the mapping was used before it was loaded    (also a RuntimeError)
├── SessionTooLate        a new id is needed, but the response started (also a RuntimeError)
├── SessionGone           the session was ended by another request
├── SessionLimitReached   the user has as many sessions as allowed
├── SessionSealed         the values are encrypted, and only the browser's cookie opens them
├── SessionUnreadable     sessions that can't be read could not be ended
├── SessionUnavailable    Redis did not answer, or refused the command
├── DurabilityNotReached  the write is done, but not yet as durable as asked
└── SessionValueError     a name or value that can't be stored         (also a ValueError)

Each message says what happened, then what to do. None contains a session id or a stored value.
"""

from .absence import Absence
from .pages import Explained

__all__ = [
    "DurabilityNotReached",
    "SearchUnavailable",
    "SessionError",
    "SessionGone",
    "SessionLimitReached",
    "SessionNotLoaded",
    "SessionSealed",
    "SessionTooLate",
    "SessionUnavailable",
    "SessionUnreadable",
    "SessionValueError",
]


class SessionError(Explained):
    """
    The base class of every error that this library raises.

    A traceback ends with the address of the page that explains the error, as a note.
    """


class SearchUnavailable(SessionError):
    """
    A query across sessions can't be answered, or only in part.

    The server has no Search; there is no index yet; it is being built, or was made for another
    declaration; or the query took too long. Requests and their sessions are not affected.
    """


class SessionNotLoaded(SessionError, RuntimeError):
    """The session was used as a mapping before it was loaded."""

    def __init__(self) -> None:
        super().__init__(
            "This session is not loaded yet. Call `await session.load()` first (or depend on "
            "`SessionDep`), or install the middleware with `autoload=True`."
        )


class SessionTooLate(SessionError, RuntimeError):
    """The session needs a new id, but no browser can be given one any more."""

    RESPONSE_STARTED = (
        "The response has already started (or the WebSocket was accepted), so the browser "
        "can't be given a new session id any more. Write to a new session, log in or renew "
        "before that."
    )

    OVER = (
        "The request is over, so nothing would save this change. Call `await session.save()` "
        "before it ends, or change the session from outside: `store.edit(handle)`."
    )

    def __init__(self, message: str = RESPONSE_STARTED) -> None:
        super().__init__(message)


class SessionGone(SessionError):
    """
    The session was ended by another request. Nothing was written, and nothing was recreated.

    *absence*: why, as `session.absence` says it; None if that is not known.
    """

    def __init__(self, absence: Absence | None = None) -> None:
        self.absence = absence
        if absence is not None and absence.kind == "replaced":
            super().__init__(
                "This session was replaced while the request was running: a login or a renewal in "
                "another request gave the browser a new id. Its changes were dropped; the next "
                "request of this browser finds the new session."
            )
        else:
            super().__init__(
                "This session was ended while the request was running (logout, revocation or "
                "expiry), so its changes were dropped. Ask the user to start again."
            )


class SessionLimitReached(SessionError):
    """The user has as many sessions as allowed, and none was ended for this login."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This user already has {limit} sessions, which is the limit. Let them end one "
            '(store.users.list and revoke), or use on_limit="evict".'
        )


class SessionSealed(SessionError):
    """
    The values of this session are encrypted, and only its id opens them, which is in the browser.

    Raised where a session is changed from outside: by `store.edit`.
    """

    def __init__(self) -> None:
        super().__init__(
            "This session's values are encrypted under a key that is made from the browser's "
            "cookie, so it can't be changed from outside. Change it in a request or in "
            "`store.open`, or keep what others have to change in your database."
        )


class SessionUnreadable(SessionError):
    """
    Sessions that can't be read could not be ended, and all others were; or nothing was exported.

    A newer version of this library may have written them. They are left as they are, and keep their
    places in the user's list, so that the version that reads them finds them. *number*: how many.
    """

    def __init__(
        self, number: int, *, outcome: str = "and were not ended; all others were"
    ) -> None:
        super().__init__(
            f"{number} of this user's sessions can't be read, {outcome}. Call this with the "
            "version of the library that wrote them, or delete their keys: the log names them."
        )
        self.number = number


class SessionUnavailable(SessionError):
    """
    Redis could not be reached in time, or refused the command.

    The middleware answers 503 with `Retry-After` when this error reaches it. It is not known
    whether a write that was already sent has happened; it happened whole or not at all.
    *is_refusal*: Redis has answered, and refused.
    """

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class DurabilityNotReached(SessionError):
    """
    The write is done, but it may still be lost: it has not got as far as `Durability` asks.

    The session is as it would be without this error. The middleware answers 503 with `Retry-After`
    when this error reaches it, together with the cookie of a new session.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The session was written, but may still be lost: {reason}. Check the replicas "
            "or the disk, or ask for less durability."
        )


class SessionValueError(SessionError, ValueError):
    """A field name or value that can't be stored. Nothing of it has reached Redis."""
