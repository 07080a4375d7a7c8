"""
Everything this library raises.

SessionError
├── SearchUnavailable     a query can't be answered, or not fully
├── SessionNotLoaded      the mapping was used before it was loaded    (also a RuntimeError)
├── SessionTooLate        a new id is needed, but the response started (also a RuntimeError)
├── SessionGone           the session was ended by somebody else meanwhile
├── SessionLimitReached   the user has as many sessions as allowed
├── SessionUnavailable    Redis did not answer, or refused the command
├── DurabilityNotReached  the write is done, but not yet as durable as asked
└── SessionValueError     a name or value that can't be stored         (also a ValueError)

Each message says what happened and then what to do. None carries a session id or a stored value.
"""

__all__ = [
    "DurabilityNotReached",
    "SearchUnavailable",
    "SessionError",
    "SessionGone",
    "SessionLimitReached",
    "SessionNotLoaded",
    "SessionTooLate",
    "SessionUnavailable",
    "SessionValueError",
]


class SessionError(Exception):
    """The root: catch it to catch whatever this library raises."""


class SearchUnavailable(SessionError):
    """
    A question across sessions can't be answered, or only in part: no Search on the server, no index
    yet, one that is being built or was made for another declaration, or a query that took too long.

    Requests and their sessions are not concerned.
    """


class SessionNotLoaded(SessionError, RuntimeError):
    """The session was used as a mapping before it was loaded."""

    def __init__(self) -> None:
        super().__init__(
            "This session is not loaded yet. Call `await session.load()` first (or depend on "
            "`SessionDep`), or install the middleware with `autoload=True`."
        )


class SessionTooLate(SessionError, RuntimeError):
    """A session that needs a new id was changed after the response had started."""

    def __init__(self) -> None:
        super().__init__(
            "The response has already started (or the WebSocket was accepted), so the browser "
            "can't be given a new session id any more. Write to a new session, log in or renew "
            "before that."
        )


class SessionGone(SessionError):
    """The session was ended by another request; nothing was written and nothing recreated."""

    def __init__(self) -> None:
        super().__init__(
            "This session was ended while the request was running (logout, revocation or expiry), "
            "so its changes were dropped. Ask the user to start again."
        )


class SessionLimitReached(SessionError):
    """The user has as many sessions as allowed, and none was ended for this login."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This user already has {limit} sessions, which is the limit. Let them end one "
            '(store.users.list and revoke), or use on_limit="evict".'
        )


class SessionUnavailable(SessionError):
    """
    Redis could not be reached in time, or refused.

    The middleware answers 503 with `Retry-After` when this error reaches it. Whether a write
    that was already sent has happened is not known; it happened whole or not at all.
    *is_refusal*: Redis has answered, and refused.
    """

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class DurabilityNotReached(SessionError):
    """
    The write stands, but it may still be lost: it is not yet where `Durability` asked for it.

    The session is as it would be without this error. The middleware answers 503 with `Retry-After`
    when it reaches it, and sends the cookie of a new session along.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The session was written, but may still be lost: {reason}. Look after the replicas "
            "or the disk, or ask for less durability."
        )


class SessionValueError(SessionError, ValueError):
    """A field name or value that can't be stored; nothing of it reached Redis."""
