"""The fields of a session, if some of them have a TTL. All other sessions use `fields` alone."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Self

from ..options import Limits
from .codec import StoredHash, check_name
from .fields import Fields
from .timed import VALUE, TimedHash


class TimedFields(Fields):
    """
    Fields of which some end while the session goes on; this process counts on from the load.

    Assigning such a field anew takes its TTL away, as Redis' SET does. Changes inside a list or a
    typed value leave its end as it is.
    """

    __slots__ = ("_ends", "_sent", "_ttls", "_values", "ended")

    def __init__(
        self,
        limits: Limits,
        checks: Mapping[str, Callable[[Any], None]],
        stored: StoredHash,
    ) -> None:
        # When each ends, by this process's clock.
        self._ends: dict[str, float] = {}
        # What is staged, as `timed.as_stored` takes it, and what a commit has taken along.
        self._ttls: dict[str, int | None] = {}
        self._sent: dict[str, int | None] = {}
        #: The names of those that have ended, and are still in Redis.
        self.ended: tuple[str, ...] = ()
        super().__init__(limits, checks, stored)
        if isinstance(stored, TimedHash):
            now = monotonic()
            self._ends = {name: now + left / 1000 for name, left in stored.left_ms.items()}
            self.ended = stored.ended

    @classmethod
    def taking_over(cls, fields: Fields) -> Self:
        """Return the same fields, with all that is staged; one of them will get a TTL."""
        if isinstance(fields, cls):
            return fields
        own = cls(fields._limits, fields._checks, fields._stored)  # noqa: SLF001  (of its own kind)
        own.staged, own.live, own.typed = fields.staged, fields.live, fields.typed
        own._is_committing = fields._is_committing  # noqa: SLF001
        own.is_cleared = fields.is_cleared
        return own

    @property
    def values(self) -> dict[str, Any]:
        """The values that live now."""
        if self._ends:
            now = monotonic()
            for name in [name for name, end in self._ends.items() if end <= now]:
                self._end(name)
        return self._values

    @values.setter
    def values(self, values: dict[str, Any]) -> None:
        self._values = values

    def _end(self, name: str) -> None:
        del self._ends[name]
        self._ttls.pop(name, None)
        self._values.pop(name, None)
        self._stored.raws.pop(name.encode(), None)
        self.staged.pop(name, None)
        self.live -= {name}
        self.ended = (*self.ended, name)

    @property
    def ttls(self) -> Mapping[str, int | None]:  # type: ignore[override]  # elsewhere no call
        """What goes with the staged fields: see `timed.as_stored`."""
        kept = {name: None for name in self._ends if name in self.staged}
        return kept | self._ttls

    def set(self, name: str, value: Any) -> None:  # noqa: D102  (as in Fields)
        super().set(name, value)
        name = check_name(name)
        if self._ends.pop(name, None) is not None:
            self._stage_anew(name, 0)

    def set_for(self, name: str, value: Any, ttl_ms: int) -> None:
        """Stage a value that ends. Raises `SessionValueError`, and then nothing has changed."""
        super().set(name, value)
        name = check_name(name)
        self._stage_anew(name, ttl_ms)
        self._ends[name] = monotonic() + ttl_ms / 1000

    def remove(self, name: str) -> None:  # noqa: D102  (as in Fields)
        super().remove(name)
        if self._ends.pop(name, None) is not None:
            self._ttls[name] = 0

    def write_back(self) -> None:  # noqa: D102  (as in Fields)
        ends, ttls = dict(self._ends), dict(self._ttls)
        super().write_back()
        self._ends, self._ttls = ends, ttls

    def _stage(self, name: str, encoded: bytes | None) -> None:
        super()._stage(name, encoded)
        if name in self._ttls:
            self.staged[name] = encoded

    def _stage_anew(self, name: str, ttl_ms: int) -> None:
        """Stage a value even if it is the one that Redis holds: its end is another one."""
        self.staged.setdefault(name, self._stored.raws.get(name.encode()))
        self._ttls[name] = ttl_ms

    def discard(self) -> None:  # noqa: D102  (as in Fields)
        super().discard()
        self._ttls = {}

    def begin_commit(self) -> None:  # noqa: D102  (as in Fields)
        super().begin_commit()
        self._sent, self._ttls = self._ttls, {}

    def restage(self, sent: Mapping[str, bytes | None]) -> None:  # noqa: D102  (as in Fields)
        super().restage(sent)
        self._ttls = {**self._sent, **self._ttls}

    def forget(self, name: str) -> None:  # noqa: D102  (as in Fields)
        super().forget(name)
        self._ends.pop(name, None)

    def stored_name(self, name: str) -> str:  # noqa: D102  (as in Fields)
        is_stored = name in self._ends and name.encode() in self._stored.raws
        return VALUE + name if is_stored else name
