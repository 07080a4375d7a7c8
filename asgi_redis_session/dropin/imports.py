"""
Sessions of other middleware, as the drop-in takes them over.

A source finds a session in the cookies of a request. What is taken over gets an id that is derived
from that cookie with the app's secret, so that parallel requests with it meet in one session.
JSON only: nothing here unpickles.
"""

import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from ..arguments import shown
from ..cookie import cookie_pattern, is_cookie_name
from ..engine.engine import Engine
from ..quiet import hiding

__all__ = [
    "FastAPIRedisSDK",
    "Found",
    "Library",
    "LitestarSessions",
    "SignedCookies",
    "Starsessions",
]

#: Browsers keep cookies of up to 4,096 bytes (RFC 6265bis, section 5.6).
_LONGEST = 8192
#: How long it is remembered that a session was taken over. A signed cookie without an end is
#: accepted for as long as browsers keep cookies (RFC 6265bis, section 5.5).
_400_DAYS_MS = 400 * 24 * 3600 * 1000
_LONGEST_PREFIX = 200
#: Clocks of processes and of Redis may differ.
_MARGIN_MS = 60_000

#: The ids of all of them are random text like this. Nothing else leads to a key under their prefix.
_ID = re.compile(rb"[\w-]{16,256}", re.ASCII)

_Headers = Iterable[tuple[bytes, bytes]]


@hiding("session_id", "fields", "key")
class Found(NamedTuple):
    """
    A session that can be taken over.

    *session_id*: the id that is derived from its cookie. *fields*: as another middleware has stored
    them; None: it may have been taken over already. *lasts_ms*: for how long it must be remembered
    that it was taken over.
    """

    session_id: str
    fields: Mapping[str, Any] | None
    lasts_ms: int = _400_DAYS_MS
    #: The key that is deleted afterwards.
    key: bytes | None = None


class SignedCookies:
    """
    Cookies that Starlette's `SessionMiddleware` has signed with *secret_key*.

    *before*: only those that were signed before that instant; None: all.
    """

    def __init__(
        self, secret_key: str, cookie_name: str, max_age: int | None, before: datetime | None
    ) -> None:
        try:
            import itsdangerous  # noqa: PLC0415  (an extra)
        except ImportError:
            raise ImportError(
                "SessionMiddleware(import_cookies=...) verifies signed cookies with itsdangerous. "
                "Install it: pip install 'asgi-redis-session[dropin]'."
            ) from None
        self._signer = itsdangerous.TimestampSigner(secret_key)
        self._bad = itsdangerous.BadData
        self._secret = secret_key.encode()
        self._pattern = cookie_pattern(cookie_name)
        self._max_age = max_age
        self._before = before

    def is_in(self, headers: _Headers) -> bool:
        """Whether a request has the cookie, valid or not."""
        return _last(self._pattern.findall, headers) is not None

    async def find(self, _: Engine, headers: _Headers) -> Found | None:
        """Return the session of a signed cookie; None without a valid one."""
        value = _last(self._pattern.findall, headers)
        if value is None:
            return None
        try:
            payload, signed_at = self._signer.unsign(
                value, max_age=self._max_age, return_timestamp=True
            )
            fields = json.loads(base64.b64decode(payload))
        except (self._bad, ValueError, binascii.Error, RecursionError):
            return None
        age_ms = round((time.time() - signed_at.timestamp()) * 1000)
        limit_ms = _400_DAYS_MS if self._max_age is None else self._max_age * 1000
        if (
            not isinstance(fields, dict)
            or age_ms >= limit_ms
            or (self._before is not None and signed_at >= self._before.astimezone(UTC))
        ):
            return None
        session_id = _derived_id(self._secret, b"signed cookie", value)
        return Found(session_id, fields, limit_ms - age_ms + _MARGIN_MS)


def _refuse_nonsense(library: "Library") -> None:
    called, cookie, prefix = type(library).__name__, library.cookie, library.prefix
    if not is_cookie_name(cookie):
        raise ValueError(f"{called}(cookie={shown(cookie)}): give the name of its cookie.")
    # Without a prefix, a cookie could name any key of the database.
    if not (isinstance(prefix, str) and prefix.isprintable() and prefix.strip()):
        raise ValueError(f"{called}(prefix={shown(prefix)}): give what its keys begin with.")
    if len(prefix) > _LONGEST_PREFIX:
        raise ValueError(
            f"{called}(prefix={shown(prefix)}): give at most {_LONGEST_PREFIX} characters."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Starsessions:
    """
    Sessions that starsessions keeps in the same Redis, as JSON.

    *cookie*: the name of its cookie. *prefix*: that of its `RedisStore`.
    """

    cookie: str = "session"
    prefix: str = "starsessions."

    def __post_init__(self) -> None:
        _refuse_nonsense(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastAPIRedisSDK:
    """
    Sessions that fastapi-redis-sdk keeps in the same Redis, as JSON and not encrypted.

    *cookie*: its setting `session_cookie_name`. *prefix*: its setting `prefix`, and ":session:".
    """

    cookie: str = "session"
    prefix: str = "redis:fastapi:session:"

    def __post_init__(self) -> None:
        _refuse_nonsense(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LitestarSessions:
    """
    Server-side sessions that Litestar keeps in the same Redis, as JSON.

    *cookie*: `ServerSideSessionConfig(key=...)`. *prefix*: the namespace of its `RedisStore`, and
    ":".
    """

    cookie: str = "session"
    prefix: str = "LITESTAR:"

    def __post_init__(self) -> None:
        _refuse_nonsense(self)


Library = Starsessions | FastAPIRedisSDK | LitestarSessions


def _unchanged(stored: Any) -> Any:
    return stored


def _without_metadata(stored: Any) -> Any:
    return {name: value for name, value in stored.items() if name != "__metadata__"}


#: The field of a hash that holds the session ("": it is a string), and what of it the app has set.
_LAYOUTS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    Starsessions: ("", _without_metadata),
    FastAPIRedisSDK: ("d", itemgetter("d")),
    LitestarSessions: ("", _unchanged),
}


class OtherLibrary:
    """The sessions that another library has in the same Redis, as a source."""

    def __init__(self, library: Library, secret_key: str) -> None:
        self._prefix, self._kind = library.prefix.encode(), type(library).__name__.encode()
        self._field, self._unwrap = _LAYOUTS[type(library)]
        self._secret = secret_key.encode()
        self._pattern = cookie_pattern(library.cookie)

    def is_in(self, headers: _Headers) -> bool:
        """Whether a request has the other library's cookie."""
        return _last(self._pattern.findall, headers) is not None

    async def find(self, engine: Engine, headers: _Headers) -> Found | None:
        """Return the session of the other library's cookie; None without one."""
        value = _last(self._pattern.findall, headers)
        if value is None or not _ID.fullmatch(value):
            return None
        key = self._prefix + value
        raw = await engine.hashes.read_original(key, self._field)
        session_id = _derived_id(self._secret, self._kind, value)
        if raw is None:
            return Found(session_id, None)
        try:
            fields = self._unwrap(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return Found(session_id, fields, key=key) if isinstance(fields, dict) else None


def _last(found_in: Any, headers: _Headers) -> bytes | None:
    """Return the value of a cookie; the last one counts, as in Starlette."""
    last = None
    for name, header in headers:
        if name == b"cookie":
            for value in found_in(header):
                last = value.strip(b" \t")
    return last if last and len(last) <= _LONGEST else None


def _derived_id(secret: bytes, kind: bytes, value: bytes) -> str:
    digest = hmac.digest(
        secret, b"asgi-redis-session: import of a %b\0%b" % (kind, value), "sha256"
    )
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
