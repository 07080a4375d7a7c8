"""A lane's clock, and the timer that looks after its deadlines."""

import asyncio
from collections.abc import Callable

#: How many times the timer looks during one timeout.
_LOOKS = 20


class Watch:
    """
    Calls *look* again and again while a lane has something to do, until that returns False.

    Its clock stops while the event loop is blocked. A handler that computes for two seconds
    delays the replies and the timer alike, so without that, a timeout of two seconds would blame
    Redis for replies that have long arrived.
    """

    __slots__ = ("_look", "_loop", "_planned", "_timer", "blocked", "period")

    def __init__(self, timeout: float, look: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._planned = 0.0
        #: Seconds between two looks.
        self.period = timeout / _LOOKS
        #: For how many seconds the event loop has been blocked.
        self.blocked = 0.0

    def now(self) -> float:
        """Return the time of this clock, in seconds. `loop.time()` is ahead of it by `blocked`."""
        return self._loop.time() - self.blocked

    def start(self) -> None:
        """Look from now on, if this was not so already."""
        if self._timer is None:
            self._plan(self._loop.time() + self.period)

    def stop(self) -> None:
        """Don't look any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def no_later_than(self, instant: float) -> None:
        """Look at this instant of the clock, if no look is planned before it."""
        when = instant + self.blocked
        if self._timer is not None and when < self._planned:
            self._timer.cancel()
            self._plan(when)

    def _plan(self, when: float) -> None:
        self._planned = when
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        now = self._loop.time()
        self.blocked += max(0.0, now - self._planned)
        self._timer = None
        self._plan(now + self.period)
        if not self._look():
            self.stop()
