"""
How far a write must have got before it counts as done.

Redis answers a write when it is in the memory of one server. `Durability` asks for more, by a WAIT
or WAITAOF right behind the write, on the same connection: on any other they would speak of that
one's writes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.exceptions import ResponseError

from .errors import DurabilityNotReached, SessionValueError

__all__ = ["Durability", "Lifetime", "Limits", "Promise", "milliseconds"]

_CENTURY = timedelta(days=36_525)


def milliseconds(name: str, duration: timedelta | float, *, least: int = 1) -> int:
    """A duration of the public API as the integer that Redis gets; refuses nonsense."""
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise TypeError(
            f"{name} must be a timedelta or a number of seconds, not {type(duration).__name__}."
        )
    if math.isnan(seconds) or not least <= seconds * 1000 <= _CENTURY.total_seconds() * 1000:
        raise ValueError(
            f"{name}={duration!r} is not a usable duration: give more than 0 and at most 100 years."
        )
    return round(seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """
    What a write must have reached before the app, and then the browser, hears that it is done.

    *replicas*: so many replicas have it in memory (WAIT). *fsync*: it is on the disk of the server,
    and of that many replicas (WAITAOF; needs Redis 7.2 and `appendonly yes`).
    *timeout*: how long to wait for that, as a timedelta or in seconds, on top of the store's.

    What isn't reached raises `DurabilityNotReached`. Raises `ValueError` or `TypeError` for
    nonsense.
    """

    replicas: int = 0
    fsync: bool = False
    timeout: timedelta | float = 1.0
    timeout_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.replicas) is not int or self.replicas < 0:
            raise ValueError(f"Durability(replicas={self.replicas!r}): give an integer, 0 or more.")
        if type(self.fsync) is not bool:
            raise TypeError(f"Durability(fsync={self.fsync!r}): give True or False.")
        if not self.replicas and not self.fsync:
            raise ValueError(
                "Durability() asks for nothing: give replicas=1 or fsync=True, or leave it out."
            )
        timeout_ms = milliseconds("Durability(timeout)", self.timeout)
        object.__setattr__(self, "timeout_ms", timeout_ms)

    def command(self, within_ms: int) -> Sequence[Any]:
        """The command that waits for it (see `lane.Barrier`)."""
        within = min(self.timeout_ms, within_ms)
        if self.fsync:
            return ("WAITAOF", 1, self.replicas, within)
        return ("WAIT", self.replicas, within)

    def shortfall(self, answer: Any) -> str | None:
        """What is missing, by the answer to that command; None if nothing is."""
        if isinstance(answer, ResponseError):
            needs = "Redis 7.2 and appendonly yes" if self.fsync else "the master"
            name = self.command(1)[0]
            return f"can't promise that ({name} needs {needs}; the answer was: {answer})"
        local, replicas = answer if self.fsync else (1, answer)
        missing = []
        if local < 1:
            missing.append("it is not on the server's disk yet")
        if replicas < self.replicas:
            missing.append(f"{replicas} of {self.replicas} replicas have it")
        return f"says: {' and '.join(missing)}" if missing else None


class Promise:
    """
    That what one verb writes becomes as durable as *level* says; None asks for nothing.

    A *shortfall* is noted rather than raised at once, so that the verb is carried through: the
    write stands. Whoever made the promise raises it when all is done.
    """

    __slots__ = ("level", "shortfall")

    def __init__(self, level: Durability | None) -> None:
        self.level = level
        self.shortfall: DurabilityNotReached | None = None


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
