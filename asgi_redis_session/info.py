"""A short name for the device that a user agent string stands for."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

try:
    from ua_parser import parse
except ImportError:  # the extra `devices` is not installed
    parse = None  # type: ignore[assignment]

__all__ = ["SessionInfo", "label_of"]


@lru_cache(maxsize=1024)
def label_of(agent: str) -> str | None:
    """
    "Firefox on Windows", for a list of devices; None if nothing is known about it.

    By ua-parser (the extra `devices`); without it, always None.
    """
    if parse is None:
        return None
    result = parse(agent)
    browser = result.user_agent.family if result.user_agent else None
    system = result.os.family if result.os else None
    if browser and system:
        return f"{browser} on {system}"
    return browser or system


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """
    A session seen from outside; safe to show. Instants are aware UTC datetimes.

    *handle* names the session in `store.get` and `store.revoke`; it is useless as a cookie.
    *last_seen* is derived from the TTL, so it costs no write. *address* and *user_agent* are those
    of the login, *label* a short form for people ("Firefox on Windows"; needs the extra `devices`).
    *current*: whether it is the session that asked. *fields* are the user's values.
    """

    handle: str
    user_id: str | None
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    authenticated_at: datetime | None
    address: str | None = None
    user_agent: str | None = None
    label: str | None = None
    current: bool = False
    fields: dict[str, Any] = field(repr=False)
