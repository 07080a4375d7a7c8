"""Calls and batches: what travels on a lane, and who waits for it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from .barrier import Barrier
from .commands import pack
from .proof import Proof

_ASKING = pack("ASKING")


class Call:
    """
    One command of one caller, or several plain ones on the same key.

    *parts*: packed commands; each has one reply. *key*: what the reply of a script begins with.
    *reply* None: nobody waits for it. *deadline*: by the lane's clock. *asking*: ASKING is sent
    right before each part, and its reply is skipped.
    """

    __slots__ = ("_asking", "deadline", "is_plain", "key", "parts", "reply")

    def __init__(  # noqa: PLR0917  (keywords would cost each request a dict)
        self,
        parts: Sequence[bytes],
        key: bytes,
        is_plain: bool,  # noqa: FBT001
        reply: "asyncio.Future[Any] | None",
        deadline: float,
        asking: bool,  # noqa: FBT001
    ) -> None:
        self.parts = [part for each in parts for part in (_ASKING, each)] if asking else parts
        self.key = key
        self.is_plain = is_plain
        self.reply = reply
        self.deadline = deadline
        self._asking = asking

    def is_of_use(self, now: float) -> bool:
        """Whether somebody still waits for it, or, if nobody does, whether it is not too late."""
        return self.deadline > now if self.reply is None else not self.reply.done()

    def answer(self, reply: Any) -> None:
        """Deliver the reply."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Deliver an error."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)

    def own(self, replies: list[Any]) -> list[Any]:
        """Return those of its *replies* that are not for an ASKING."""
        return replies[1::2] if self._asking else replies


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
        self.held: list[tuple[Call, list[Any]]] = []
        self.sent_at: float | None = None

    def answer(self, now_ms: int) -> None:
        """Deliver the plain replies that were held: they are proven."""
        for call, replies in self.held:
            for reply in replies:
                if isinstance(reply, ResponseError):
                    call.fail(reply)
                    break
            else:
                replies.append(now_ms)
                call.answer(replies)

    def good_keys(self) -> list[bytes]:
        """Return the keys of the held replies that are no errors."""
        return [
            call.key
            for call, replies in self.held
            if not any(isinstance(reply, ResponseError) for reply in replies)
        ]

    def fail(self, error: Exception) -> None:
        """Deliver this error to all who still wait."""
        for call in self.calls:
            call.fail(error)
        for call, _ in self.held:
            call.fail(error)
