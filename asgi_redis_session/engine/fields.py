"""
The fields of one session: their values, their stored bytes, and what the app has changed.

A scalar is staged when it is assigned. A list or dict that the app has got hold of may be changed
without notice, so it is encoded again and compared when changes are collected. No I/O here, no
clock, and nothing about ids or lifetimes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SessionValueError
from ..options import Limits
from .codec import (
    EXACT,
    StoredHash,
    check_name,
    decode,
    encode,
    place_of_refusal,
    to_base,
)
from .typed import Held

#: Marks a field whose last write got no answer: what Redis holds is not known. 0xFF is never valid
#: UTF-8, so no encoded value looks like this.
_UNKNOWN = b"\xff"
_NONE: frozenset[str] = frozenset()


class Fields:
    """
    Named values, compared by their encoded bytes with what is stored.

    *stored*: what Redis returned; it is not copied, and belongs to this object from now on.
    *checks*: what else to check before a field is set, by its name (`Shadows.checks`).
    """

    __slots__ = (
        "_checks",
        "_is_committing",
        "_limits",
        "_stored",
        "is_cleared",
        "live",
        "staged",
        "typed",
        "values",
    )

    #: What goes with the staged fields that have a TTL, and the names of those that have ended: see
    #: `TimedFields`.
    ttls: Mapping[str, int | None] | None = None
    ended: tuple[str, ...] = ()

    #: How a value is encoded.
    _to_bytes: Callable[[Any, int], bytes] = staticmethod(encode)

    def __init__(
        self,
        limits: Limits,
        checks: Mapping[str, Callable[[Any], None]],
        stored: StoredHash,
    ) -> None:
        self._limits = limits
        self._checks = checks
        self.values = stored.values
        self._stored = stored
        #: Encoded values that differ from the stored ones; None: to remove.
        self.staged: dict[str, bytes | None] = {}
        #: Fields whose list or dict the app holds, so that it may have changed without notice.
        self.live = _NONE
        # While a commit is under way, every assignment is staged: it comes after that commit.
        self._is_committing = False
        #: What the app holds of fields that it reads by a `Key`; None: nothing.
        self.typed: dict[str, Held] | None = None
        #: Whether the app has called `clear()` and has set nothing since.
        self.is_cleared = False

    def discard(self) -> None:
        """Forget what was staged."""
        self.staged, self.live, self.typed, self.is_cleared = {}, _NONE, None, False

    # --- One field ---

    def get(self, name: str) -> Any:
        """Return a value. Raises `KeyError`."""
        value = self.values[name]
        if type(value) is list or type(value) is dict:
            self.live |= {name}
        return value

    def set(self, name: str, value: Any) -> None:
        """Stage a value. Raises `SessionValueError`, and then nothing has changed."""
        name = check_name(name)
        encoded = self._encode(name, value)
        self.refuse_one_more(name)
        if isinstance(value, (list, dict)):
            self.live |= {name}
        else:
            if name in self.live:
                self.live -= {name}
            if type(value) not in EXACT:
                value = to_base(value)
        self.values[name] = value
        self._stage(name, encoded)
        self.is_cleared = False

    def remove(self, name: str) -> None:
        """Stage the removal of a field. Raises `KeyError`."""
        del self.values[name]
        self.live -= {name}
        self._stage(name, None)

    def clear(self) -> None:
        """Stage the removal of all fields."""
        for name in list(self.values):
            self.remove(name)
        self.is_cleared = True

    # --- What has changed ---

    def collect(self) -> dict[str, bytes | None]:
        """
        Return all changes: encoded values to write, None to remove.

        Raises `SessionValueError` for a list or dict that can't be stored as it is now.
        """
        if self.typed:
            self.write_back()
        for name in self.live:
            self._stage_value(name, self.values[name])
        if self.staged:
            self._refuse_too_large()
        return self.staged

    def write_back(self) -> None:
        """Set the fields whose typed values have changed. Raises `SessionValueError`."""
        typed = self.typed or {}
        for name, held in list(typed.items()):
            if not held.is_current(self.values):
                del typed[name]
                continue
            has_changed, plain = held.changed()
            if has_changed:
                self.set(name, plain)
                held.settle(plain)

    def begin_commit(self) -> None:
        """Changes made from here on belong to the next commit, even if this one fails."""
        self.staged, self._is_committing = {}, True

    def committed(self, sent: Mapping[str, bytes | None]) -> None:
        """What was *sent* is in Redis now. What was staged meanwhile may be there already."""
        stored = self._stored.raws
        for name, raw in sent.items():
            if raw is None:
                stored.pop(name.encode(), None)
            else:
                stored[name.encode()] = raw
        self.staged = {n: raw for n, raw in self.staged.items() if raw != stored.get(n.encode())}
        self._is_committing = False

    def restage(self, sent: Mapping[str, bytes | None]) -> None:
        """A commit failed: it is unknown what Redis holds. Stage it again; newer changes win."""
        self.staged = {**sent, **self.staged}
        self._stored.raws.update((name.encode(), _UNKNOWN) for name in sent)
        self._is_committing = False

    def is_unchanged(self, name: str) -> bool:
        """Whether what the app sees of this field is what Redis returned."""
        return name not in self.staged and name not in self.live

    def stored_bytes(self, name: str) -> bytes | None:
        """Return what Redis holds of a field, as far as this request knows."""
        return self._stored.raws.get(name.encode())

    def stored_name(self, name: str) -> str:
        """Return the name of a field in the hash."""
        return name

    def encoded(self, name: str, value: Any) -> bytes:
        """Return a value as bytes, checked as in `set`."""
        return self._encode(name, value)

    def forget(self, name: str) -> None:
        """Note that Redis itself has removed a field."""
        self.values.pop(name, None)
        self._stored.raws.pop(name.encode(), None)
        self.live -= {name}

    def set_stored(self, name: str, value: Any, raw: bytes) -> None:
        """Note a value that Redis itself has computed."""
        self.values[name] = value
        self._stored.raws[name.encode()] = raw
        self.is_cleared = False

    def refuse_one_more(self, name: str) -> None:
        """Raise `SessionValueError` if this would be one field too many."""
        limit = self._limits.fields
        if name not in self.values and len(self.values) >= limit:
            raise too_many_fields(name, limit)

    def _stage_value(self, name: str, value: Any) -> None:
        try:
            self._stage(name, self._encode(name, value))
        except SessionValueError:
            # It was read, and is larger than today's limits, but has not changed.
            if not self._is_as_stored(name, value):
                raise

    def _stage(self, name: str, encoded: bytes | None) -> None:
        # Compared as bytes: `1`, `True` and `1.0` differ, as their types do.
        if encoded != self._stored.raws.get(name.encode()) or self._is_committing:
            self.staged[name] = encoded
        else:
            self.staged.pop(name, None)

    def _is_as_stored(self, name: str, value: Any) -> bool:
        stored = self._stored.raws.get(name.encode())
        return stored not in (None, _UNKNOWN) and bool(decode(stored or b"") == value)

    def _encode(self, name: str, value: Any) -> bytes:
        limits = self._limits
        try:
            encoded = self._to_bytes(value, limits.depth)
        except SessionValueError as error:
            place = place_of_refusal(value, limits.depth) if self._to_bytes is encode else ""
            raise SessionValueError(f"session[{name!r}]{place}: {error}") from None
        if len(encoded) > limits.field_bytes:
            raise SessionValueError(
                f"session[{name!r}]: {len(encoded)} bytes are more than a field may hold "
                f"({limits.field_bytes}). Keep large data elsewhere and store its key here, or "
                "raise Limits(field_bytes=...)."
            )
        if name in self._checks:
            self._checks[name](to_base(value))
        return encoded

    def _refuse_too_large(self) -> None:
        stored, limit = self._stored.raws, self._limits.session_bytes
        growth = 0
        for name, raw in self.staged.items():
            growth += len(raw or b"") - len(stored.get(name.encode(), b""))
        # A session that is too large already may still shrink. And mostly it is enough to look
        # roughly, metadata included.
        if growth <= 0 or sum(map(len, stored.values())) + growth <= limit:
            return
        before = sum(len(raw) for name, raw in stored.items() if not name.startswith(b"@"))
        if before + growth > limit:
            raise SessionValueError(
                f"The session's values take {before + growth} bytes, more than {limit}. "
                "Store less, or raise Limits(session_bytes=...)."
            )


def too_many_fields(name: str, limit: int) -> SessionValueError:
    """Return the error for a field that would be one too many."""
    return SessionValueError(
        f"session[{name!r}]: a session holds at most {limit} fields. "
        "Group values in a dict, or raise Limits(fields=...)."
    )
