"""
The small values that a session is made of: how long it lives, how large it may be, what Redis
returned of it (`Record`), what a request altered (`Changes`), and how it is shown to others.

No I/O and no clock: instants come from Redis.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..errors import SessionValueError
from ..options import Lifetime, Promise
from .codec import by_name, decode_fields

__all__ = ["Changes", "Grant", "Login", "Record"]

_USER_BITS = 4096
#: 128 bits in hex: the only form that a handle has.
_HANDLE = re.compile(r"[0-9a-f]{32}")


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
