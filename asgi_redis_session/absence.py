"""Why a request has no session: `session.absence`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = ["Absence", "AbsenceKind"]

AbsenceKind = Literal[
    "no_cookie",
    "unknown",
    "replaced",
    "logged_out",
    "revoked",
    "limit",
    "expired",
    "unreadable",
    "conflict",
    "unavailable",
]

_REASONS: dict[AbsenceKind, str] = {
    "no_cookie": "The request has brought no session id.",
    "unknown": "The session has expired, or ended some time ago, or never existed.",
    "replaced": "The session has a new id, after a login or a renewal.",
    "logged_out": "The user has logged out.",
    "revoked": "The session was ended from another device, or by an administrator.",
    "limit": "The user has logged in elsewhere, and had as many sessions as allowed.",
    "expired": "The session was not used for too long, or its time was over.",
    "unreadable": "What Redis holds under this id can't be read as a session.",
    "conflict": "The request has brought two different session ids.",
    "unavailable": "Redis was not available, so the request goes on without its session.",
}


@dataclass(frozen=True, slots=True)
class Absence:
    """
    Why a request has no session.

    *kind*: one word. `"no_cookie"`; `"unknown"` (it expired, ended some time ago, or was never
    ours: which one can't be known); `"replaced"` (by a login or a renewal, which gave the browser
    a new id); `"logged_out"`; `"revoked"`; `"limit"`; `"expired"` (if `store.reporting_expired()`
    has noticed it); `"unreadable"`; `"conflict"` (two different ids); `"unavailable"` (Redis is
    down).
    *at*: when it ended, by Redis' clock, as an aware UTC datetime; None if that is not known.
    *reason*: what was given to the verb that ended the session, such as `revoke_all(reason=...)`;
    else the same as *kind* in a sentence.
    """

    kind: AbsenceKind
    at: datetime | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.reason:
            object.__setattr__(self, "reason", _REASONS[self.kind])
