"""
How far a write must have got before it counts as done.

Redis answers a write when it is in the memory of one server. `Durability` asks for more, by a WAIT
or WAITAOF right behind the write, on the same connection: on any other they would speak of that
one's writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.exceptions import ResponseError

from .duration import milliseconds
from .errors import DurabilityNotReached

__all__ = ["Durability", "Promise"]


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
