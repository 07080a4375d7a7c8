"""Calls and batches: what travels on a lane, and who waits for it."""

import asyncio
from copy import copy
from typing import Any

from redis.exceptions import ResponseError

from .barrier import Barrier
from .proof import Proof
from .scripts import pack

_ASKING = pack("ASKING")


class Call:
    """
    One command of one caller.

    *packed*: the command. *key*: what the reply of a script begins with. *deadline*: by the lane's
    clock. *has_asking*: ASKING is sent right before the command, and its reply is skipped.
    """

    __slots__ = ("deadline", "has_asking", "is_plain", "key", "packed", "reply")

    def __init__(  # noqa: PLR0917  (keywords would cost each request a dict)
        self,
        packed: bytes,
        key: bytes,
        is_plain: bool,  # noqa: FBT001
        reply: "asyncio.Future[Any]",
        deadline: float,
        has_asking: bool,  # noqa: FBT001
    ) -> None:
        self.packed = _ASKING + packed if has_asking else packed
        self.key = key
        self.is_plain = is_plain
        self.reply = reply
        self.deadline = deadline
        self.has_asking = has_asking

    def answer(self, reply: Any) -> None:
        """Deliver the reply. An error of Redis is one, too."""
        if self.reply.done():
            return
        if isinstance(reply, Exception):
            self.reply.set_exception(reply)
        else:
            self.reply.set_result(reply)


class Batch:
    """
    Commands that travel together, with what is sent behind them: *ending*.

    *held*: replies that have arrived, but are delivered only when the ending has been answered.
    *sent_at*: by the lane's clock; None: not yet.
    """

    __slots__ = ("calls", "ending", "held", "sent_at")

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.ending: Proof | Barrier | None = None
        self.held: list[tuple[Call, Any]] = []
        self.sent_at: float | None = None

    def deliver(self) -> None:
        """Deliver the replies that were held."""
        for call, reply in self.held:
            call.answer(reply)

    def fail(self, error: Exception) -> None:
        """Deliver this error to all who still wait."""
        for call in (*self.calls, *[call for call, _ in self.held]):
            call.answer(copy(error))  # each caller adds its own traceback

    def good_keys(self) -> list[bytes]:
        """Return the keys of the held replies that are no errors."""
        return [call.key for call, reply in self.held if not isinstance(reply, ResponseError)]
