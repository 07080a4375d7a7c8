"""
Waiting until a batch of writes has reached replicas or the disk.

WAIT and WAITAOF report on the writes of the connection that they are sent on. So the lane sends
them on its own connection, right behind the batch.
"""

from typing import Any, ClassVar

from redis.exceptions import ResponseError

from ..options import Durability
from .reasons import reason_of
from .scripts import pack


class Barrier:
    """The last command of each batch; its reply says how far the writes of the batch have got."""

    __slots__ = ("_concern",)

    #: How many replies it has.
    replies: ClassVar = 1

    def __init__(self, concern: Durability) -> None:
        self._concern = concern

    def command(self, within_ms: int) -> bytes:
        """Return the packed command; Redis will answer it after *within_ms* at the latest."""
        concern = self._concern
        within = min(concern.timeout_ms, within_ms)
        if concern.fsync:
            return pack("WAITAOF", 1, concern.replicas, within)
        return pack("WAIT", concern.replicas, within)

    def shortfall(self, answer: Any) -> str | None:
        """
        Return what is missing, or None if nothing is.

        *answer*: the reply to the command, or the `ResponseError` that it raised.
        """
        concern = self._concern
        if isinstance(answer, ResponseError):
            name, needs = "WAIT", "the master"
            if concern.fsync:
                name, needs = "WAITAOF", "Redis 7.2 and appendonly yes"
            return f"can't confirm that ({name} needs {needs}; Redis answered: {reason_of(answer)})"
        on_disk, replicas = answer if concern.fsync else (1, answer)
        missing = []
        if on_disk < 1:
            missing.append("it is not on the server's disk yet")
        if replicas < concern.replicas:
            missing.append(f"{replicas} of {concern.replicas} replicas have it")
        return f"says: {' and '.join(missing)}" if missing else None
