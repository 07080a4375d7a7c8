"""Outages: each is an error for its callers, and one line in the log."""

import logging

from redis.exceptions import ResponseError

from ..errors import SessionUnavailable
from ..events import Events
from .lane import Lane

logger = logging.getLogger("asgi_redis_session")

#: What does not answer, if it is not known yet which node serves the key.
_CLUSTER = "The Redis Cluster"


class Outages:
    """Which addresses of one client do not answer at the moment."""

    def __init__(self, events: Events) -> None:
        self._events = events
        #: The addresses that did not answer last time; mostly none.
        self.addresses: set[str] = set()
        self._last_refusal = ""

    def report(self, lane: Lane | None, error: Exception) -> SessionUnavailable:
        """
        Count a failed command, log and report it, and return what to raise.

        *lane*: where the command was sent; None if it is not known which node serves its key.
        *error*: a `ResponseError` if Redis refused the command, else why there was no reply.
        """
        address = _CLUSTER if lane is None else lane.address
        is_refusal = isinstance(error, ResponseError)
        if is_refusal:
            reason = f"{address} refused the command ({_first_line(error)})"
            is_news, self._last_refusal = reason != self._last_refusal, reason
        else:
            reason = str(error)
            is_news = address not in self.addresses
            self.addresses.add(address)
        if is_news:  # one line for an outage, not one for each request
            logger.error("Sessions are unavailable: %s.", reason)
        self._events.counted.errors += 1
        self._events.emit("unavailable", detail=reason)
        return SessionUnavailable(
            f"Sessions are unavailable: {reason}. Try again shortly.", is_refusal=is_refusal
        )

    def note_answer(self, lane: Lane) -> None:
        """Log that an outage is over, if this lane's server was away."""
        for answering in {lane.address, _CLUSTER} & self.addresses:
            self.addresses.remove(answering)
            logger.warning("%s answers again.", answering)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
