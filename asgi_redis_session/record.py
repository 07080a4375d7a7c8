"""
The small values that a session is made of: how long it lives, how large it may be, what Redis
returned of it (`Record`), what a request altered (`Changes`), and how it is shown to others.

No I/O and no clock: instants come from Redis.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .codec import by_name, decode_fields
from .durability import Promise
from .duration import milliseconds
from .errors import SessionValueError

__all__ = ["Changes", "Grant", "Lifetime", "Limits", "Login", "Record", "SessionInfo"]

_USER_BITS = 4096
#: 128 bits in hex: the only form that a handle has.
_HANDLE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """
    How long a session lives; durations are `timedelta` or seconds.

    *idle*: it ends when it was not used for this long (ASVS 7.3.1).
    *absolute*: it ends this long after its creation or login, however busy it is (ASVS 7.3.2);
    None: never for that reason.
    *refresh_after*: slide the idle time only if that gains at least this much. 0 slides on every
    request; a minute saves most of the writes of a busy session.

    Raises `ValueError` or `TypeError` for what is not a positive, finite length of time.
    """

    idle: timedelta | float = timedelta(minutes=30)
    absolute: timedelta | float | None = timedelta(days=7)
    refresh_after: timedelta | float = 0
    idle_ms: int = field(init=False, repr=False, compare=False)
    absolute_ms: int | None = field(init=False, repr=False, compare=False)
    refresh_after_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def freeze(name: str, value: int | None) -> None:
            object.__setattr__(self, name, value)

        freeze("idle_ms", milliseconds("Lifetime(idle)", self.idle))
        absolute = self.absolute
        freeze(
            "absolute_ms",
            None if absolute is None else milliseconds("Lifetime(absolute)", absolute),
        )
        freeze(
            "refresh_after_ms",
            milliseconds("Lifetime(refresh_after)", self.refresh_after, least=0),
        )
        if self.refresh_after_ms >= self.idle_ms:
            raise ValueError(
                f"Lifetime(refresh_after={self.refresh_after!r}) must be shorter than "
                f"idle={self.idle!r}, or the session would end before its first refresh."
            )

    def within(self, idle_ms: int, absolute_ms: int | None) -> "Lifetime":
        """
        Fit it into a session that may not live longer than *idle_ms* and *absolute_ms*.

        A half that is longer is refused with `SessionValueError`, unless it is the default, which
        stands for one that was left out.
        """
        idle, absolute = self.idle, self.absolute
        if self.idle_ms > idle_ms:
            if self.idle_ms != Lifetime().idle_ms:
                raise _too_long("idle", idle_ms)
            idle = idle_ms / 1000
        if absolute_ms is not None and (self.absolute_ms is None or self.absolute_ms > absolute_ms):
            if self.absolute_ms != Lifetime().absolute_ms:
                raise _too_long("absolute", absolute_ms)
            absolute = absolute_ms / 1000
        return Lifetime(idle=idle, absolute=absolute)


def _too_long(half: str, limit_ms: int) -> SessionValueError:
    return SessionValueError(
        f"session.set_lifetime may only shorten a session's life, and {half} would be longer than "
        f"its {limit_ms / 1000:g} s. Give a shorter one, or a longer Lifetime to the SessionStore "
        "or to `login`."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large a session may become. What exceeds a limit raises `SessionValueError` before anything
    is sent. *fields*: their number; *field_bytes*, *session_bytes*: encoded values in
    bytes; *depth*: of nested lists and dicts.
    """

    fields: int = 256
    field_bytes: int = 65_536
    session_bytes: int = 262_144
    depth: int = 32

    def __post_init__(self) -> None:
        for name in ("fields", "field_bytes", "session_bytes", "depth"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"Limits({name}={value!r}) must be an integer of at least 1.")


def instant(ms: int) -> datetime:
    """A Redis instant (milliseconds since 1970) as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


class Record:
    """
    What Redis holds of one session. Instants are milliseconds of the Redis clock.

    *pairs*: its hash as Redis lists it. *values* are the user's fields; raises `CorruptValue` if
    one is not what we write. That the instants among ours are, `lua/load.lua` has seen to.
    """

    __slots__ = ("_raws", "expires_ms", "handle", "now_ms", "pairs", "values")

    def __init__(
        self, handle: str, expires_ms: int, now_ms: int, pairs: Sequence[bytes] = ()
    ) -> None:
        self.handle = handle
        self.expires_ms = expires_ms
        self.now_ms = now_ms
        self.pairs = pairs
        self.values = decode_fields(pairs)
        self._raws: dict[bytes, bytes] | None = None

    @property
    def raws(self) -> dict[bytes, bytes]:
        """The hash by names; made when somebody asks, as few requests do."""
        if self._raws is None:
            self._raws = by_name(self.pairs)
        return self._raws

    @property
    def created_ms(self) -> int:
        """When it was created, or logged in."""
        return self._count(b"@created") or 0

    @property
    def deadline_ms(self) -> int | None:
        """When it ends however busy it is; None: never for that reason."""
        return self._count(b"@deadline")

    @property
    def auth_ms(self) -> int | None:
        """When its user logged in."""
        return self._count(b"@auth")

    @property
    def idle_ms(self) -> int | None:
        """How long it lives without use; None: as long as the store says."""
        return self._count(b"@idle")

    @property
    def seen_ms(self) -> int | None:
        """When it was last written; None: never since it was created."""
        return self._count(b"@seen")

    def shorten(self, idle_ms: int, deadline_ms: int | None) -> None:
        """Take over a lifetime that was just written."""
        self.raws[b"@idle"] = b"%d" % idle_ms
        if deadline_ms is not None:
            self.raws[b"@deadline"] = b"%d" % deadline_ms

    def _count(self, name: bytes) -> int | None:
        raw = self.raws.get(name)
        return None if raw is None else int(raw)

    @property
    def user_id(self) -> str | None:
        """Who is logged in."""
        return self.text(b"@user")

    def text(self, name: bytes) -> str | None:
        """A text among the metadata; None if there is none."""
        raw = self.raws.get(name)
        return None if raw is None else raw.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login that has its place in the user's index, and waits for the commit."""

    user_id: str
    session_id: str = field(repr=False)
    handle: str
    now_ms: int
    lifetime: Lifetime
    agent: str | None
    address: str | None
    #: Whether what the session held is kept: it was nobody's, or this user's.
    keeps: bool


@dataclass(slots=True)
class Changes:
    """
    What a request altered, until it is committed: *fields* to write (None: to remove), a shorter
    *lifetime*, whether the session *renews* its id, whether it was emptied by `clear`, a *login*;
    and once they are being committed, the *promise* of how durable that will be.
    """

    fields: dict[str, bytes | None] = field(default_factory=dict)
    lifetime: Lifetime | None = None
    renews: bool = False
    clears: bool = False
    login: Login | None = None
    promise: Promise | None = None

    def __bool__(self) -> bool:
        return bool(self.fields or self.lifetime or self.renews or self.login)

    def before(self, later: "Changes") -> "Changes":
        """These changes with *later* ones on top."""
        return Changes(
            self.fields | later.fields,
            later.lifetime or self.lifetime,
            self.renews or later.renews,
            self.clears or later.clears,
            later.login or self.login,
        )

    def sets(self) -> list[str | bytes]:
        """Names and values to write, as HSET takes them."""
        parts: list[str | bytes] = []
        for name, raw in self.fields.items():
            if raw is not None:
                parts += (name, raw)
        return parts

    def removes(self) -> list[str]:
        """Names to remove, as HDEL takes them."""
        return [name for name, raw in self.fields.items() if raw is None]


@dataclass(frozen=True, slots=True)
class Grant:
    """What the browser must be told: the id it has to send from now on, None to forget it."""

    session_id: str | None
    max_age_ms: int | None = None


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


def is_handle(handle: object) -> bool:
    """Whether this has the form of a handle; whatever comes from a form may be asked."""
    return isinstance(handle, str) and _HANDLE.fullmatch(handle) is not None


def check_user(user_id: str | int) -> str:
    """The user id as text, or `SessionValueError`."""
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise SessionValueError(
            f"A user id is a str or an int, not {type(user_id).__name__}. "
            "Use the user's primary key."
        )
    if isinstance(user_id, int) and user_id.bit_length() > _USER_BITS:
        raise SessionValueError("A user id must not be a number of thousands of digits.")
    text = str(user_id)
    if not text:
        raise SessionValueError("A user id must not be empty. Use the user's primary key.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SessionValueError(
            "A user id must not contain lone surrogates. Use the user's primary key."
        ) from None
    return text
