"""A session seen from outside, and a readable name for the device that uses it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final

try:
    from ua_parser import parse
except ImportError:  # the extra `devices` is not installed
    parse = None  # type: ignore[assignment]

__all__ = ["SEALED", "Sealed", "SessionInfo", "label_of"]


class Sealed(Enum):
    """The type of `SEALED`, which `SessionInfo.fields` shows instead of an encrypted value."""

    SEALED = "encrypted"

    def __repr__(self) -> str:
        return "SEALED"

    __str__ = __repr__


SEALED: Final = Sealed.SEALED
"""What `SessionInfo.fields` shows instead of an encrypted value: only the browser's id opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """
    A session seen from outside; it never contains the id. Instants are aware UTC datetimes.

    *handle* names the session in `store.get` and `store.revoke`; it is useless as a cookie.
    *last_seen* is derived from the TTL, so it costs no write.
    *address* and *user_agent* are those of the login. *label* is a short form for people, such as
    "Firefox on Windows"; it needs the extra `devices`.
    *amr*: the methods of the login, if the app has named them. *actor*: who acts for the user in
    this session; None: the user.
    *current*: whether it is the session that asked.
    *persistent*: whether its cookie outlives the browser, as its login asked for; None: as the
    `CookiePolicy` says.
    *fields*: the values that the app has stored. Show only those that are meant to be seen. In the
    place of an encrypted value there is `SEALED`.
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
    amr: tuple[str, ...] = ()
    actor: str | None = None
    current: bool = False
    persistent: bool | None = None
    fields: dict[str, Any] = field(repr=False)


def can_label() -> bool:
    """Whether `label_of` knows any device: the extra `devices` is installed."""
    return parse is not None


@lru_cache(maxsize=1024)
def label_of(agent: str) -> str | None:
    """
    Name the device of a user agent string: "Firefox on Windows". None if it is unknown.

    Uses ua-parser (the extra `devices`); without it, always None.
    """
    if parse is None:
        return None
    result = parse(agent)
    browser = result.user_agent.family if result.user_agent else None
    system = result.os.family if result.os else None
    if browser and system:
        return f"{browser} on {system}"
    return browser or system
