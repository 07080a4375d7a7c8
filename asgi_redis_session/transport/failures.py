"""Why a lane has no reply for a caller."""

from typing import Any

from redis.exceptions import AuthenticationError, ReadOnlyError

from .reasons import reason_of


class LaneBroken(Exception):
    """No reply: the connection could not be made, was lost or out of step, or the time was up."""


class LaneFull(LaneBroken):
    """Nothing was sent: too many commands wait already."""


class LaneClosed(LaneBroken):
    """No reply: the event loop is shutting down."""


class KeysApart(Exception):
    """Nothing was executed: the keys of the script are on different servers."""


class BarrierNotReached(Exception):
    """The command was executed, and *reply* is its reply, but its barrier was not reached."""

    def __init__(self, reply: list[Any], reason: str) -> None:
        super().__init__(reason)
        self.reply = reply


def is_demotion(error: Exception) -> bool:
    """Whether a server refuses to write because it is a replica; 6.2 says it inside of a script."""
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


def broken_by(error: BaseException, address: str, timeout: float) -> LaneBroken:
    """Return the error for what went wrong on the connection to *address*."""
    if isinstance(error, TimeoutError):
        reason = f"{address} did not answer within {timeout:g} s"
    elif isinstance(error, AuthenticationError):
        reason = f"{address} refused the credentials ({reason_of(error)})"
    elif isinstance(error, LaneBroken):
        reason = str(error)
    else:
        reason = f"{address} can't be used ({type(error).__name__}: {reason_of(error)})"
    return LaneBroken(reason)
