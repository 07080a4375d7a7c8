"""Server-side sessions for every ASGI app: one Redis hash per session."""

from .absence import Absence
from .cookie import CookiePolicy
from .cross_origin import CrossOriginPolicy
from .doctor import CheckReport, Finding
from .errors import (
    DurabilityNotReached,
    SearchUnavailable,
    SessionError,
    SessionGone,
    SessionLimitReached,
    SessionNotLoaded,
    SessionSealed,
    SessionTooLate,
    SessionUnavailable,
    SessionUnreadable,
    SessionValueError,
)
from .events import SessionEvent, Stats
from .header import HeaderPolicy
from .info import SEALED, SessionInfo
from .key import Key
from .middleware import SessionMiddleware
from .opened import OpenedSession
from .options import Durability, Lifetime, Limits
from .search.backfill import Backfill
from .search.fields import Num, Tag, Text
from .search.filters import Filter
from .search.replies import IndexStatus
from .session import Session
from .store import SessionStore
from .version import __version__ as __version__

__all__ = [
    "SEALED",
    "Absence",
    "Backfill",
    "CheckReport",
    "CookiePolicy",
    "CrossOriginPolicy",
    "Durability",
    "DurabilityNotReached",
    "Filter",
    "Finding",
    "HeaderPolicy",
    "IndexStatus",
    "Key",
    "Lifetime",
    "Limits",
    "Num",
    "OpenedSession",
    "SearchUnavailable",
    "Session",
    "SessionError",
    "SessionEvent",
    "SessionGone",
    "SessionInfo",
    "SessionLimitReached",
    "SessionMiddleware",
    "SessionNotLoaded",
    "SessionSealed",
    "SessionStore",
    "SessionTooLate",
    "SessionUnavailable",
    "SessionUnreadable",
    "SessionValueError",
    "Stats",
    "Tag",
    "Text",
]
