"""Server-side sessions for every ASGI app: one Redis hash per session."""

from .cookie import CookiePolicy
from .durability import Durability
from .errors import (
    DurabilityNotReached,
    SearchUnavailable,
    SessionError,
    SessionGone,
    SessionLimitReached,
    SessionNotLoaded,
    SessionTooLate,
    SessionUnavailable,
    SessionValueError,
)
from .index import Num, Tag, Text
from .indexing import Backfill, IndexStatus
from .middleware import SessionMiddleware
from .record import Lifetime, Limits, SessionInfo
from .session import Session
from .store import SessionStore
from .wire import SessionEvent, Stats

__all__ = [
    "Backfill",
    "CookiePolicy",
    "Durability",
    "DurabilityNotReached",
    "IndexStatus",
    "Lifetime",
    "Limits",
    "Num",
    "SearchUnavailable",
    "Session",
    "SessionError",
    "SessionEvent",
    "SessionGone",
    "SessionInfo",
    "SessionLimitReached",
    "SessionMiddleware",
    "SessionNotLoaded",
    "SessionStore",
    "SessionTooLate",
    "SessionUnavailable",
    "SessionValueError",
    "Stats",
    "Tag",
    "Text",
]

__version__ = "0.1.0"
