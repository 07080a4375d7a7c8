"""Server-side sessions for every ASGI app: one Redis hash per session."""

from .cookie import CookiePolicy
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
from .events import SessionEvent, Stats
from .info import SessionInfo
from .middleware import SessionMiddleware
from .options import Durability, Lifetime, Limits
from .search.admin import Backfill, IndexStatus
from .search.fields import Num, Tag, Text
from .session import Session
from .store import SessionStore

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
