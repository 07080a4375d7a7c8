"""
What Redis returned of a session (`Record`), and what a request changed (`Changes`, `Login`).

No I/O and no clock: all instants are those of Redis, in milliseconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from ..options import Duration, NotGiven, milliseconds
from .codec import read_hash


def instant(ms: int) -> datetime:
    """Convert an instant of Redis to an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


#: The client's address (host, port) and the request's headers, as ASGI gives them.
ClientInfo = tuple[Any, Any]


class Span(NamedTuple):
    """How long one session lives, in milliseconds; *absolute_ms* None: it has no deadline."""

    idle_ms: int
    absolute_ms: int | None


def span_of(
    verb: str, default: Span, idle: Duration | NotGiven, absolute: Duration | NotGiven | None
) -> Span:
    """Return the span that a caller asks for; what is not given is that of *default*."""
    idle_ms, absolute_ms = default
    if not isinstance(idle, NotGiven):
        idle_ms = milliseconds(f"{verb}(idle)", idle)
    if absolute is None:
        absolute_ms = None
    elif not isinstance(absolute, NotGiven):
        absolute_ms = milliseconds(f"{verb}(absolute)", absolute)
    return Span(idle_ms, absolute_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login that has reserved its place in the user's index, and waits for the commit."""

    user_id: str
    session_id: str = field(repr=False)
    handle: str
    now_ms: int
    span: Span
    agent: str | None
    address: str | None
    #: Whether the session's data is kept: it was anonymous, or this user's.
    keeps_data: bool

    def described(self) -> list[str]:
        """Names and values of the fields that say where the login came from."""
        pairs = (("@agent", self.agent), ("@ip", self.address))
        return [part for name, text in pairs if text is not None for part in (name, text)]


@dataclass(slots=True)
class Changes:
    """
    What a request changed, until it is committed.

    *fields*: encoded values to write, None to remove. *idle_ms*, *absolute_ms*: a shorter lifetime;
    None leaves it as it is. *renews*: the session gets a new id. *login*: it gets one for a user
    who logs in.
    """

    fields: dict[str, bytes | None] = field(default_factory=dict)
    idle_ms: int | None = None
    absolute_ms: int | None = None
    renews: bool = False
    login: Login | None = None

    def __bool__(self) -> bool:
        return bool(self.fields or self.shortens or self.renews or self.login)

    @property
    def shortens(self) -> bool:
        """Whether the session's lifetime changes."""
        return self.idle_ms is not None or self.absolute_ms is not None

    def span(self, default: Span) -> Span:
        """How long a session lives that begins with these changes."""
        return Span(
            default.idle_ms if self.idle_ms is None else self.idle_ms,
            default.absolute_ms if self.absolute_ms is None else self.absolute_ms,
        )

    def before(self, later: "Changes") -> "Changes":
        """Merge with *later* changes, which win."""
        return Changes(
            self.fields | later.fields,
            self.idle_ms if later.idle_ms is None else later.idle_ms,
            self.absolute_ms if later.absolute_ms is None else later.absolute_ms,
            self.renews or later.renews,
            later.login or self.login,
        )

    def hset_args(self) -> list[str | bytes]:
        """Names and values to write, as HSET takes them."""
        parts: list[str | bytes] = []
        for name, raw in self.fields.items():
            if raw is not None:
                parts += (name, raw)
        return parts

    def hdel_args(self) -> list[str]:
        """Names to remove, as HDEL takes them."""
        return [name for name, raw in self.fields.items() if raw is None]


@dataclass(slots=True)
class Record:
    """
    What Redis holds of one session. Its metadata is parsed once, here.

    *created_ms*: when it was created, or logged in. *deadline_ms*: when it ends however busy it is;
    None: it has no deadline. *idle_ms*: how long it lives without use; None: as long as the store
    says. *auth_ms*: when its user logged in. *seen_ms*: when it was last written; None: not since
    it was created. *values* and *stored*: the app's fields, decoded and as they are in Redis.
    """

    handle: str
    expires_ms: int
    now_ms: int
    created_ms: int
    deadline_ms: int | None = None
    idle_ms: int | None = None
    user_id: str | None = None
    auth_ms: int | None = None
    seen_ms: int | None = None
    agent: str | None = None
    address: str | None = None
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    stored: dict[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, handle: str, expires_ms: int, now_ms: int, pairs: Sequence[bytes]) -> Self:
        """
        Read a hash as HGETALL lists it. Raises `CorruptValue` if a field can't be decoded.

        The times in the metadata were checked by load.lua already.
        """
        values, stored, metadata = read_hash(pairs)
        get = metadata.get
        return cls(
            handle,
            expires_ms,
            now_ms,
            int(get(b"@created", 0)),
            int(deadline) if (deadline := get(b"@deadline")) else None,
            int(idle) if (idle := get(b"@idle")) else None,
            user.decode(errors="replace") if (user := get(b"@user")) is not None else None,
            int(auth) if (auth := get(b"@auth")) else None,
            int(seen) if (seen := get(b"@seen")) else None,
            agent.decode(errors="replace") if (agent := get(b"@agent")) is not None else None,
            address.decode(errors="replace") if (address := get(b"@ip")) is not None else None,
            values,
            stored,
        )

    @classmethod
    def begin(
        cls, handle: str, expires_ms: int, now_ms: int, span: Span, login: Login | None
    ) -> Self:
        """Return the record of a session that was just created, or logged in."""
        return cls(
            handle,
            expires_ms,
            now_ms,
            now_ms,
            None if span.absolute_ms is None else now_ms + span.absolute_ms,
            span.idle_ms,
            None if login is None else login.user_id,
            None if login is None else now_ms,
        )

    @property
    def remaining_ms(self) -> int | None:
        """How long it may still live, at least 1; None: it has no deadline."""
        return None if self.deadline_ms is None else max(1, self.deadline_ms - self.now_ms)
