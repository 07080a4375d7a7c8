"""
Which keys this process has changed lately.

What a request of this process knows by now may be newer than a reply that another one had asked for
before: the session was changed, and a lock in the process was given back since.
"""

from collections.abc import Iterable
from time import monotonic

#: So many keys are remembered.
_KEYS = 1024


class Changed:
    """When each key was changed last: when the process had the reply, by `time.monotonic`."""

    __slots__ = ("_at", "_forgotten_at")

    def __init__(self) -> None:
        self._at: dict[bytes, float] = {}
        # What was changed until then is not known any more.
        self._forgotten_at = 0.0

    def note(self, keys: Iterable[bytes]) -> None:
        """A script has been answered that may have changed these keys."""
        now = monotonic()
        if len(self._at) >= _KEYS:
            self._forgotten_at = now
            self._at.clear()
        for key in keys:
            self._at[key] = now

    def since(self, instant: float, key: bytes) -> bool:
        """Whether this key may have been changed since this instant."""
        return self._at.get(key, self._forgotten_at) >= instant


#: By all stores of this process: two of them may have the same keys.
changed = Changed()
