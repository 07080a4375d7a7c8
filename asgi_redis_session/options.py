"""What an app configures: lifetimes, limits, and how durable a write must be."""

import math
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from .arguments import refuse_no_bool, refuse_no_integer, shown

__all__ = [
    "NOT_GIVEN",
    "Durability",
    "Duration",
    "Lifetime",
    "Limits",
    "NotGiven",
    "milliseconds",
]

#: A length of time in the public API: a timedelta, or seconds.
Duration = timedelta | float

_CENTURY = timedelta(days=36_525)
#: A Redis string has at most 512 MB, so no limit beyond that is one.
_LARGEST = 2**29
_MOST_REPLICAS = 1000
#: Each level takes two frames of the stack at a write, of which an app may have used most.
_DEEPEST = 64


class NotGiven(Enum):
    """The default of arguments for which None has a meaning of its own."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


def milliseconds(name: str, duration: Duration, *, least: int = 1) -> int:
    """
    Convert a duration to the integer that Redis gets.

    *name* is what the error message calls it; *least* is the smallest value accepted (ms). Raises
    `TypeError` for another type, `ValueError` for NaN and for what is out of range.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        try:
            seconds = float(duration)
        except OverflowError:
            seconds = math.inf
    else:
        raise TypeError(f"{name} takes a timedelta or a number of seconds, not {shown(duration)}.")
    if math.isnan(seconds) or not least <= seconds * 1000 <= _CENTURY.total_seconds() * 1000:
        raise ValueError(
            f"{name} takes more than 0 and at most 100 years, not {_written(duration)}."
        )
    return round(seconds * 1000)


def _written(duration: Duration) -> str:
    return repr(duration) if isinstance(duration, timedelta) else shown(duration)


def _refuse_longer_idle(idle_ms: int, absolute_ms: int) -> None:
    if idle_ms > absolute_ms:
        raise ValueError(
            f"Lifetime(idle=..., absolute=...): an idle time of {idle_ms / 1000:g} s has no effect "
            f"in a session that ends after {absolute_ms / 1000:g} s. Give a shorter idle, or a "
            "longer absolute."
        )


#: The defaults of a `Lifetime`, known by identity: *idle* and *absolute* must fit together only if
#: both are given.
_HALF_AN_HOUR: Final = timedelta(minutes=30)
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """
    How long the sessions of a store live. Durations are `timedelta` or seconds.

    *idle*: a session ends when it was not used for this long (ASVS 7.3.1).
    *absolute*: a session ends this long after its creation or login, however busy it is
    (ASVS 7.3.2). None: it has no deadline.
    *refresh_after*: extend the TTL only if that gains at least this much. 0 extends it on every
    request; a minute saves most of the writes of a busy session. For a session with a shorter idle
    time of its own, it is shortened in proportion.

    Raises `ValueError` or `TypeError` for anything but a positive, finite length of time, and for
    an *idle* longer than an *absolute* that is given, too.
    """

    idle: Duration = _HALF_AN_HOUR
    absolute: Duration | None = _WEEK
    refresh_after: Duration = 0
    idle_ms: int = field(init=False, repr=False, compare=False)
    absolute_ms: int | None = field(init=False, repr=False, compare=False)
    refresh_after_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        idle_ms = milliseconds("Lifetime(idle)", self.idle)
        absolute = self.absolute
        absolute_ms = None if absolute is None else milliseconds("Lifetime(absolute)", absolute)
        refresh_after_ms = milliseconds("Lifetime(refresh_after)", self.refresh_after, least=0)
        if refresh_after_ms >= idle_ms:
            raise ValueError(
                f"Lifetime(refresh_after={_written(self.refresh_after)}) must be shorter than "
                f"idle={_written(self.idle)}, or the session would end before its first refresh."
            )
        are_both_given = self.idle is not _HALF_AN_HOUR and absolute is not _WEEK
        if absolute_ms is not None and are_both_given:
            _refuse_longer_idle(idle_ms, absolute_ms)
        object.__setattr__(self, "idle_ms", idle_ms)
        object.__setattr__(self, "absolute_ms", absolute_ms)
        object.__setattr__(self, "refresh_after_ms", refresh_after_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large a session may become.

    A write beyond a limit raises `SessionValueError` before anything is sent to Redis.
    *fields*: the number of fields. *field_bytes*, *session_bytes*: the encoded size of one field,
    and of all fields together, in bytes. *depth*: how deeply lists and dicts may be nested, at
    most 64.
    """

    fields: int = 256
    field_bytes: int = 65_536
    session_bytes: int = 262_144
    depth: int = 32

    def __post_init__(self) -> None:
        for name in ("fields", "field_bytes", "session_bytes"):
            refuse_no_integer(f"Limits({name})", getattr(self, name), 1, _LARGEST)
        refuse_no_integer("Limits(depth)", self.depth, 1, _DEEPEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """
    How far a write must have got before it counts as done: a write concern.

    Without one, a write counts when it is in the memory of the server that answered.
    *replicas*: the number of replicas that must have it in memory (WAIT).
    *fsync*: it must be on the disk of the server, and of that many replicas (WAITAOF; needs
    Redis 7.2 and `appendonly yes`).
    *timeout*: how long to wait for that, as a timedelta or in seconds, on top of the store's
    timeout.

    A write that falls short raises `DurabilityNotReached`. Raises `ValueError` or `TypeError` for
    unusable arguments.
    """

    replicas: int = 0
    fsync: bool = False
    timeout: Duration = 1.0
    timeout_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        refuse_no_integer("Durability(replicas)", self.replicas, 0, _MOST_REPLICAS)
        refuse_no_bool("Durability(fsync)", self.fsync)
        if not self.replicas and not self.fsync:
            raise ValueError(
                "Durability() asks for nothing: give replicas=1 or fsync=True, or leave it out."
            )
        timeout_ms = milliseconds("Durability(timeout)", self.timeout)
        object.__setattr__(self, "timeout_ms", timeout_ms)
