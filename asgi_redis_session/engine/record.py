"""
What Redis returned of a session (`Record`), and what a request changed (`Changes`, `Login`).

No I/O: all instants are those of Redis, in milliseconds since 1970. This process's clock is used
only to count on from the last of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple, Self

from ..absence import Absence
from ..options import Durability, Duration, NotGiven, milliseconds
from .claims import NONE, Claims
from .codec import StoredHash
from .sealing import Seal
from .timed import TimedHash


def instant(ms: int) -> datetime:
    """Convert an instant of Redis to an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


#: The client's address (host, port) and the request's headers, as ASGI gives them.
PeerInfo = tuple[Any, Any]


class Span(NamedTuple):
    """How long one session lives, in milliseconds; *absolute_ms* None: it has no deadline."""

    idle_ms: int
    absolute_ms: int | None

    @property
    def arguments(self) -> tuple[int, int | str]:
        """Both as scripts take them."""
        return self.idle_ms, "" if self.absolute_ms is None else self.absolute_ms


#: How long a hash lives whose place is not confirmed yet: this many of the store's timeouts, and at
#: least this long (ms). Its steps take three timeouts if each of them is slow.
_UNCONFIRMED_TIMEOUTS, _UNCONFIRMED_MS = 5, 10_000


def unconfirmed_ms(timeout: float, concern: Durability | None) -> int:
    """Return how long a user's hash lives until its place is confirmed."""
    step_ms = int(timeout * 1000) + (0 if concern is None else concern.timeout_ms)
    return max(_UNCONFIRMED_MS, _UNCONFIRMED_TIMEOUTS * step_ms)


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
    #: The key of the user's index.
    index: bytes
    session_id: str = field(repr=False)
    handle: str
    now_ms: int
    span: Span
    agent: str | None
    address: str | None
    #: Whether the session's data is kept: it was anonymous, or this user's.
    keeps_data: bool
    #: What the app says of it.
    claims: Claims = NONE

    def described(self) -> list[str]:
        """Names and values of the fields that describe the login; scripts expect claims first."""
        pairs = (("@claims", self.claims.text), ("@agent", self.agent), ("@ip", self.address))
        return [part for name, text in pairs if text is not None for part in (name, text)]


@dataclass(slots=True)
class Changes:
    """
    What a request changed, until it is committed.

    *fields*: encoded values to write, None to remove. *idle_ms*, *absolute_ms*: a shorter lifetime;
    None leaves it as it is. *renews*: the session gets a new id. *login*: it gets one for a user
    who logs in. *identifies*: a field identifies the user, which is a login without `login`.
    *ttls*: fields that end sooner than the session, and those that no longer do; see
    `timed.as_stored`.
    """

    fields: dict[str, bytes | None] = field(default_factory=dict, repr=False)
    idle_ms: int | None = None
    absolute_ms: int | None = None
    renews: bool = False
    login: Login | None = None
    identifies: bool = False
    ttls: Mapping[str, int | None] | None = None
    #: A digest of what a new session's browser is bound by; None: nothing.
    binding: str | None = None

    @property
    def is_login(self) -> bool:
        """Whether a user logs in, so that the changes must not be lost."""
        return self.login is not None or self.identifies

    def __bool__(self) -> bool:
        return bool(self.fields or self.shortens or self.renews or self.login)

    @property
    def shortens(self) -> bool:
        """Whether the session's lifetime changes."""
        return self.idle_ms is not None or self.absolute_ms is not None

    def span(self, default: Span) -> Span:
        """How long a new session lives that has these changes; *default*: if they don't say so."""
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
            self.identifies or later.identifies,
            later.ttls if self.ttls is None else {**self.ttls, **(later.ttls or {})},
        )

    def hset_args(self) -> list[str | bytes]:
        """Names and values to write, as HSET takes them."""
        parts: list[str | bytes] = []
        for name, raw in self.fields.items():
            if raw is not None:
                parts += (name, raw)
        return parts

    def stored(self) -> StoredHash:
        """Return a hash that holds these changes and nothing else."""
        fields = self.fields.items()
        raws = {name.encode(): raw for name, raw in fields if raw is not None}
        if self.ttls is None:
            return StoredHash(raws)
        return TimedHash(raws, {name: left for name, left in self.ttls.items() if left})

    def hdel_args(self) -> list[str]:
        """Names to remove, as HDEL takes them."""
        return [name for name, raw in self.fields.items() if raw is None]


class Ended(NamedTuple):
    """Why there is no session, and how long ago it ended; None if that is not known."""

    absence: Absence
    ago_ms: int | None = None


class Metadata(NamedTuple):
    """
    What the library itself stores of a session.

    *created_ms*: when it was created, or logged in. *deadline_ms*: when it ends however busy it is;
    None: it has no deadline. *idle_ms*: how long it lives without use; None: as long as the store
    says. *auth_ms*: when its user logged in. *seen_ms*: when it was last written; None: not since
    it was created. *claims*: what the app says of the login, as it is stored. *binding*: a digest
    of what its browser was bound by.
    """

    created_ms: int
    deadline_ms: int | None = None
    idle_ms: int | None = None
    user_id: str | None = None
    auth_ms: int | None = None
    seen_ms: int | None = None
    agent: str | None = None
    address: str | None = None
    claims: str | None = None
    binding: str | None = None

    @classmethod
    def parse(cls, raws: Mapping[bytes, bytes]) -> Self:
        """Read them from a hash. The times were checked when it was read."""
        times = (b"@created", b"@deadline", b"@idle", b"@auth", b"@seen")
        created, deadline, idle, auth, seen = [
            None if (raw := raws.get(name)) is None else int(raw) for name in times
        ]
        user, agent, address, claims, binding = [
            None if (raw := raws.get(name)) is None else raw.decode(errors="replace")
            for name in (b"@user", b"@agent", b"@ip", b"@claims", b"@bind")
        ]
        return cls(created or 0, deadline, idle, user, auth, seen, agent, address, claims, binding)


class Record:
    """
    What Redis holds of one session: *stored* is its hash, and `metadata` what the library itself
    has stored in it. *is_extended*: a plain command has read it, and its TTL is extended as well.
    *seal*: what its values are encrypted with; None: they are not.
    """

    __slots__ = (
        "_metadata",
        "_seen_at",
        "expires_ms",
        "handle",
        "is_extended",
        "now_ms",
        "seal",
        "stored",
    )

    def __init__(  # noqa: PLR0917  (keywords would cost each load a dict)
        self,
        handle: str,
        expires_ms: int,
        now_ms: int,
        stored: StoredHash,
        is_extended: bool = False,  # noqa: FBT001, FBT002
        seal: Seal | None = None,
    ) -> None:
        self.handle = handle
        self.seal = seal
        self.is_extended = is_extended
        self.expires_ms = expires_ms
        self.now_ms = now_ms
        self._seen_at = monotonic()
        self.stored = stored
        self._metadata: Metadata | None = None

    @property
    def metadata(self) -> Metadata:
        """What the library itself stores. Parsed once, when it is needed: few requests need it."""
        if self._metadata is None:
            self._metadata = Metadata.parse(self.stored.raws)
        return self._metadata

    @property
    def claims(self) -> Claims:
        """What the app says of the login that the session is in."""
        return Claims.of(self.metadata.claims, self.metadata.auth_ms)

    @classmethod
    def begin(
        cls,
        handle: str,
        expires_ms: int,
        now_ms: int,
        span: Span,
        login: Login | None,
        *,
        seal: Seal | None = None,
    ) -> Self:
        """Return the record of a session that was just created, or logged in."""
        record = cls(handle, expires_ms, now_ms, StoredHash(), seal=seal)
        deadline_ms = None if span.absolute_ms is None else now_ms + span.absolute_ms
        record._metadata = Metadata(now_ms, deadline_ms, span.idle_ms)
        if login is not None:
            text = login.claims.text
            record._metadata = record._metadata._replace(
                user_id=login.user_id,
                auth_ms=now_ms,
                claims=None if text is None else f"{now_ms} {text}",
            )
        return record

    def extend(self, expires_ms: int, now_ms: int) -> None:
        """Take over when it expires, as of *now_ms*."""
        self.expires_ms, self.now_ms, self._seen_at = expires_ms, now_ms, monotonic()

    @property
    def age(self) -> float:
        """Seconds since Redis has returned it."""
        return monotonic() - self._seen_at

    @property
    def current_ms(self) -> int:
        """What time it is: a socket or a stream may be open for hours after its last command."""
        return self.now_ms + int(self.age * 1000)

    def shorten(self, idle_ms: int, deadline_ms: int | None) -> None:
        """Take over a lifetime that was just written."""
        deadline_ms = deadline_ms or self.metadata.deadline_ms
        self._metadata = self.metadata._replace(idle_ms=idle_ms, deadline_ms=deadline_ms)

    @property
    def remaining_ms(self) -> int | None:
        """How long it may still live, at least 1; None: it has no deadline."""
        deadline_ms = self.metadata.deadline_ms
        return None if deadline_ms is None else max(1, deadline_ms - self.now_ms)
