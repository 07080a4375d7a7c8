"""Server-side sessions for every ASGI app: one Redis hash per session."""

from .cookie import CookiePolicy
from .durability import Durability
from .errors import (
    DurabilityNotReached,
    SessionError,
    SessionGone,
    SessionLimitReached,
    SessionNotLoaded,
    SessionTooLate,
    SessionUnavailable,
    SessionValueError,
)
from .middleware import SessionMiddleware
from .record import Lifetime, Limits, SessionInfo
from .session import Session
from .store import SessionStore
from .wire import SessionEvent, Stats

__all__ = [
    "CookiePolicy",
    "Durability",
    "DurabilityNotReached",
    "Lifetime",
    "Limits",
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
]

__version__ = "0.1.0"
