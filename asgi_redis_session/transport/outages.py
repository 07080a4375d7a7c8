"""Outages: each is an error for its callers, one line in the log, and one when it is over."""

import logging
import time
from collections import deque

from redis.exceptions import ResponseError

from ..errors import SessionUnavailable
from ..events import Events
from ..records import about
from .failures import LaneClosed, LaneFull
from .lane import Lane
from .reasons import reason_of

logger = logging.getLogger("asgi_redis_session")

#: What does not answer, if it is not known yet which node serves the key.
_CLUSTER = "The Redis Cluster"
#: A server that refuses some commands of a script and not others would fill the log. At most this
#: many lines about refusals are written in this many seconds.
_MOST_LINES, _SECONDS = 20, 60.0


class Outages:
    """
    What does not work at the moment, at the servers of one client.

    A server that does not answer is away for all commands. One that refuses a script may well run
    others: one that is out of memory still reads, for instance. So a refusal is over when the
    server runs a script that it has refused.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        #: The addresses that did not answer last time; mostly none.
        self._silent: set[str] = set()
        #: Why a server (its address) has refused a script (its name) last time; mostly empty.
        self._refused: dict[tuple[str, str], str] = {}
        self._logged: deque[float] = deque(maxlen=_MOST_LINES)
        #: Whether there is an outage of either kind.
        self.is_any = False

    def report(self, lane: Lane | None, script: str, error: Exception) -> SessionUnavailable:
        """
        Count a failed command, log and report it, and return what to raise.

        *lane*: where the command was sent; None if it is not known which node serves its key.
        *script*: its name. *error*: a `ResponseError` if Redis refused the command, else why there
        was no reply.
        """
        address = _CLUSTER if lane is None else lane.address
        is_refusal = isinstance(error, ResponseError)
        if isinstance(error, LaneClosed):  # no caller is left who could be concerned
            reason = str(error)
        elif is_refusal or isinstance(error, LaneFull):
            self._events.counted.refused += isinstance(error, LaneFull)
            reason = (
                f"{address} refused the command ({reason_of(error)})" if is_refusal else str(error)
            )
            if reason not in self._refused.values() and self._may_log():
                logger.error(
                    "Sessions are unavailable: %s.",
                    reason,
                    extra=about("redis_refuses", address=address, reason=reason),
                )
            self._refused[address, script] = reason
        else:
            reason = str(error)
            if address not in self._silent:
                logger.error(
                    "Sessions are unavailable: %s.",
                    reason,
                    extra=about("redis_silent", address=address, reason=reason),
                )
            self._silent.add(address)
        self.is_any = True
        self._events.counted.errors += 1
        self._events.emit("unavailable", detail=reason)
        return SessionUnavailable(
            f"Sessions are unavailable: {reason}. Try again shortly.", is_refusal=is_refusal
        )

    def note_answer(self, lane: Lane, script: str) -> None:
        """Log what is over, now that this lane's server has run this script."""
        address = lane.address
        for answering in {address, _CLUSTER} & self._silent:
            self._silent.remove(answering)
            logger.warning(
                "%s answers again.",
                answering,
                extra=about("redis_answers", address=answering),
            )
        if (reason := self._refused.get((address, script))) is not None:
            self._refused = {at: why for at, why in self._refused.items() if why != reason}
            if self._may_log():
                logger.warning(
                    "%s accepts the command again.",
                    address,
                    extra=about("redis_accepts", address=address),
                )
        self.is_any = bool(self._silent or self._refused)

    def _may_log(self) -> bool:
        """Whether another line about a refusal may be written."""
        now = time.monotonic()
        if len(self._logged) == _MOST_LINES and now - self._logged[0] < _SECONDS:
            return False
        self._logged.append(now)
        return True
