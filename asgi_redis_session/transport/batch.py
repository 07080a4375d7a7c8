"""Calls, riders and batches: what travels on a lane, and who waits for it."""

import asyncio
from copy import copy
from typing import Any, Protocol

from redis.exceptions import ResponseError

from .failures import BarrierNotReached
from .plain import Plain
from .scripts import ASKING, Script


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
        self.packed = ASKING + packed if has_asking else packed
        self.key = key
        self.is_plain = is_plain
        self.reply = reply
        self.deadline = deadline
        self.has_asking = has_asking

    def answer(self, reply: Any) -> None:
        """Deliver the reply."""
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Deliver an error: of Redis, or of the lane."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Rider:
    """
    One command without a caller (fire and forget); it travels in front of the calls.

    *not_after*: it is not sent after this instant, in event-loop time. *command*: what was packed.
    """

    __slots__ = ("command", "key", "not_after", "packed")

    def __init__(
        self, packed: bytes, key: bytes, not_after: float, command: "Script[Any] | Plain[Any]"
    ) -> None:
        self.packed = packed
        self.key = key
        self.not_after = not_after
        self.command = command

    def fits(self, reply: Any) -> bool:
        """Whether this may be its reply: an integer, or that of a script, which names the key."""
        if self.command.is_plain:
            return type(reply) is int
        return is_of_script(reply, self.key)


def is_of_script(reply: Any, key: bytes) -> bool:
    """Whether this may be the reply of a script on this key: it begins with the key."""
    return type(reply) is list and reply[:1] == [key]


class Ending(Protocol):
    """What is sent behind a batch: `Proof`, `ScriptProof` or `Barrier`."""

    @property
    def replies(self) -> int:
        """How many replies it has."""


class Batch:
    """
    Commands that travel together, with what is sent behind them: *ending*.

    *held*: replies that have arrived, but are delivered only when the ending has been answered.
    *sent_at*: by the lane's clock; None: not yet.
    """

    __slots__ = ("calls", "ending", "held", "riders", "sent_at")

    def __init__(self, calls: list[Call], riders: list[Rider]) -> None:
        self.calls = calls
        self.riders = riders
        self.ending: Ending | None = None
        self.held: list[tuple[Call, Any]] = []
        self.sent_at: float | None = None

    def leave_out_the_late(self, now: float) -> None:
        """
        Leave out calls that were answered or cancelled before they were sent, and late riders.

        Connecting may have taken a while. *now*: in event-loop time.
        """
        self.calls = [call for call in self.calls if not call.reply.done()]
        self.riders = [rider for rider in self.riders if now <= rider.not_after]

    def last_plain(self) -> Call | None:
        """Return the last call that is no script; None if all are."""
        for call in reversed(self.calls):
            if call.is_plain:
                return call
        return None

    def parts(self) -> list[bytes]:
        """Return the packed commands in the order in which they are sent."""
        return [rider.packed for rider in self.riders] + [call.packed for call in self.calls]

    def deliver(self) -> None:
        """Deliver the replies that were held by a barrier, which is met."""
        for call, reply in self.held:
            call.answer(reply)

    def fall_short(self, reason: str) -> None:
        """Deliver the replies that were held by a barrier, which is not met."""
        for call, reply in self.held:
            call.fail(BarrierNotReached(reply, reason))

    def deliver_plain(self, now_ms: int) -> None:
        """Deliver the replies that were proven, each with the server's time."""
        for call, reply in self.held:
            if not isinstance(reply, Exception):
                call.answer((reply, now_ms))
            elif str(reply).startswith("WRONGTYPE"):  # that is about the key, not about the server
                call.answer((None, now_ms))
            else:
                call.fail(reply)

    def fail(self, error: Exception) -> None:
        """Deliver this error to all who still wait."""
        for call in (*self.calls, *[call for call, _ in self.held]):
            call.fail(copy(error))  # each caller adds its own traceback

    def good_calls(self) -> list[Call]:
        """Return the calls whose held replies are no errors."""
        return [call for call, reply in self.held if not isinstance(reply, ResponseError)]
