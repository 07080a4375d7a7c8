"""
The fields of a session: a mapping that knows what was changed since Redis returned it.

Scalars are noted when they are assigned. A list or dict that the app has got hold of may change
unseen, so it is encoded again and compared when changes are collected. No I/O here, no clock, and
nothing about ids or lifetimes.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Self

from ..errors import SessionValueError
from ..options import Limits
from .codec import by_name, check_name, decode, encode
from .record import Changes

__all__ = ["Fields"]

#: What Redis holds of a field after a commit that nobody heard of. No value is encoded so.
_UNKNOWN = b"\xff"
_NONE: frozenset[str] = frozenset()


class Fields(MutableMapping[str, Any]):
    """
    Named values, as good as a dict, compared with what is stored by their encoded bytes.

    `Session` says, by `_readable` and `_writable`, whether they may be used now.
    """

    __slots__ = (
        "_changes",
        "_checks",
        "_is_sending",
        "_limits",
        "_live",
        "_pairs",
        "_raws",
        "_values",
    )

    def __init__(self, limits: Limits, checks: Mapping[str, Callable[[Any], None]]) -> None:
        self._limits = limits
        self._checks = checks
        # None: not loaded.
        self._values: dict[str, Any] | None = None
        # What Redis returned: names and bytes in turn. And what it holds, as far as we know, by
        # name, with our metadata; None: nobody has asked yet.
        self._pairs: Sequence[bytes] = ()
        self._raws: dict[bytes, bytes] | None = None
        # None: nothing is staged.
        self._changes: Changes | None = None
        # Fields whose list or dict the app holds, so that it may have changed unseen.
        self._live: frozenset[str] = _NONE
        # While a commit is on its way, whatever is staged comes after it.
        self._is_sending = False

    def _readable(self) -> dict[str, Any]:
        """The values, or an error that says why they can't be read."""
        raise NotImplementedError

    def _writable(self) -> dict[str, Any]:
        """The values, or an error that says why they can't be changed."""
        raise NotImplementedError

    # --- The mapping ---

    def __getitem__(self, name: str) -> Any:
        value = self._readable()[name]
        if type(value) is list or type(value) is dict:
            self._live |= {name}
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        values = self._writable()
        check_name(name)
        encoded = self._encode(name, value)
        self._refuse_one_more(name)
        values[name] = value
        if type(value) is list or type(value) is dict:
            self._live |= {name}
        else:
            self._live -= {name}
        self._stage(name, encoded)
        if self._changes is not None:
            self._changes.clears = False

    def __delitem__(self, name: str) -> None:
        del self._writable()[name]
        self._live -= {name}
        self._stage(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._readable())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._readable())

    def __len__(self) -> int:
        return len(self._readable())

    def __contains__(self, name: object) -> bool:
        return name in self._readable()

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the field that was added last, as a dict does."""
        values = self._writable()
        name = next(reversed(values), None)
        if name is None:
            raise KeyError("popitem(): the session is empty")
        return name, self.pop(name)

    def clear(self) -> None:
        """
        Remove everything. If nothing is written afterwards, the session ends and the browser
        forgets its cookie, as apps written for Starlette expect.
        """
        for name in list(self._writable()):
            del self[name]
        self._stage_changes().clears = True

    def copy(self) -> dict[str, Any]:
        """The fields as a plain dict, as `dict.copy` gives them."""
        return dict(self)

    def __or__(self, other: Any) -> dict[str, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: Any) -> dict[str, Any]:
        return dict(other) | dict(self)

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    # --- What has changed ---

    @property
    def touched(self) -> bool:
        """Whether there may be something to write; cheaper than `modified`, which makes sure."""
        return self._changes is not None or bool(self._live)

    def _collect(self) -> Changes:
        """All that is staged, with what was changed inside lists and dicts."""
        values = self._values or {}
        for name in self._live:
            try:
                self._stage(name, self._encode(name, values[name]))
            except SessionValueError:
                # Read, and larger than today's limits, but as it was: no reason to fail.
                if not self._is_as_stored(name, values[name]):
                    raise
        changes = self._changes or Changes()
        if changes.fields:
            self._refuse_too_large(changes.fields)
        return changes

    def _is_as_stored(self, name: str, value: Any) -> bool:
        stored = self._stored().get(name.encode())
        return stored not in (None, _UNKNOWN) and bool(decode(stored or b"") == value)

    def _stage(self, name: str, encoded: bytes | None) -> None:
        # Equal bytes: `1`, `True` and `1.0` differ, as their types do.
        if encoded != self._stored().get(name.encode()) or self._is_sending:
            self._stage_changes().fields[name] = encoded
        elif self._changes is not None:
            self._changes.fields.pop(name, None)

    def _stored(self) -> dict[bytes, bytes]:
        """What Redis holds of each field, as far as we know."""
        if self._raws is None:
            self._raws = by_name(self._pairs)
        return self._raws

    def _take_over(self, values: dict[str, Any], pairs: Sequence[bytes] = ()) -> None:
        """These are the values from now on, and what Redis returned for them."""
        self._values, self._pairs, self._raws = values, pairs, None

    def _stage_changes(self) -> Changes:
        if self._changes is None:
            self._changes = Changes()
        return self._changes

    def _settle(self, sent: Changes) -> None:
        """What was sent is in Redis now; what was staged meanwhile may be there already."""
        stored = self._stored()
        for name, raw in sent.fields.items():
            if raw is None:
                stored.pop(name.encode(), None)
            else:
                stored[name.encode()] = raw
        later = self._changes
        if later is not None:
            later.fields = {
                name: raw for name, raw in later.fields.items() if raw != stored.get(name.encode())
            }

    def _restore(self, changes: Changes) -> None:
        """What was sent may be in Redis or not: it is staged again, below what came later."""
        self._changes = changes.before(self._changes or Changes())
        self._stored().update((name.encode(), _UNKNOWN) for name in changes.fields)

    def _encode(self, name: str, value: Any) -> bytes:
        limits = self._limits
        try:
            encoded = encode(value, limits.depth)
        except SessionValueError as error:
            raise SessionValueError(f"session[{name!r}]: {error}") from None
        if len(encoded) > limits.field_bytes:
            raise SessionValueError(
                f"session[{name!r}]: {len(encoded)} bytes are more than a field may hold "
                f"({limits.field_bytes}). Keep large data elsewhere and store its key here, or "
                "raise Limits(field_bytes=...)."
            )
        if name in self._checks:
            self._checks[name](value)
        return encoded

    def _refuse_too_large(self, staged: dict[str, bytes | None]) -> None:
        stored, limit, growth = self._stored(), self._limits.session_bytes, 0
        for name, raw in staged.items():
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

    def _refuse_one_more(self, name: str) -> None:
        limit = self._limits.fields
        if self._values is not None and name not in self._values and len(self._values) >= limit:
            raise SessionValueError(
                f"session[{name!r}]: a session holds at most {limit} fields. "
                "Group values in a dict, or raise Limits(fields=...)."
            )

    def _is_as_loaded(self, name: str) -> bool:
        staged = self._changes is not None and name in self._changes.fields
        return not staged and name not in self._live
