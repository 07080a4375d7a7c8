"""Why a lane has no reply for a caller."""

from typing import Any


class LaneBroken(Exception):
    """No reply: the connection could not be made, was lost or out of step, or the time was up."""


class LaneFull(LaneBroken):
    """Nothing was sent: too many commands wait already."""


class LaneClosed(LaneBroken):
    """No reply: the event loop is shutting down."""


class BarrierNotReached(Exception):
    """The command was executed, and *reply* is its reply, but its barrier was not reached."""

    def __init__(self, reply: list[Any], reason: str) -> None:
        super().__init__(reason)
        self.reply = reply
