"""What this process does in a second: its counters, looked at again and again."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..events import SessionEvent
from ..store import SessionStore

__all__ = ["Rate", "Rates"]

_SECONDS = 60
_COUNTED = {"loads": "sessions read", "commits": "changes written", "commands": "Redis commands"}
_EVENTS = {"logged_in": "sign-ins", "ended": "sessions ended"}


@dataclass(frozen=True, slots=True)
class Rate:
    """*total*: since the process began. *history*: how many in each of the last 60 seconds."""

    title: str
    total: int
    history: Sequence[int]

    @property
    def now(self) -> int:
        """How many in the last second."""
        return self.history[-1] if self.history else 0

    @property
    def line(self) -> str:
        """The history as the points of an SVG line, 100 wide and 24 high."""
        highest = max(self.history, default=0) or 1
        step = 100 / (_SECONDS - 1)
        first = _SECONDS - len(self.history)
        return " ".join(
            f"{(first + place) * step:.1f},{23 - 22 * number / highest:.1f}"
            for place, number in enumerate(self.history)
        )


class Rates:
    """Samples the counters of a store once a second, for as long as `sample` runs."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._events: Counter[str] = Counter()
        self._history = {title: deque[int](maxlen=_SECONDS) for title in self._totals()}

    def count(self, event: SessionEvent) -> None:
        """Count an event; `telemetry.watch` calls it."""
        self._events[event.name] += 1

    def all(self) -> list[Rate]:
        """Return each rate, as it is now."""
        totals = self._totals()
        return [Rate(title, totals[title], tuple(each)) for title, each in self._history.items()]

    async def sample(self) -> None:
        """Sample until this is cancelled."""
        before = self._totals()
        while True:
            await asyncio.sleep(1)
            now = self._totals()
            for title, history in self._history.items():
                history.append(now[title] - before[title])
            before = now

    def _totals(self) -> dict[str, int]:
        counted = self._store.stats.as_dict()
        events = {title: self._events[name] for name, title in _EVENTS.items()}
        return events | {title: counted[name] for name, title in _COUNTED.items()}
