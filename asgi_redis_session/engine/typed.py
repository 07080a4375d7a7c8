"""
Typed values that the app holds: what they were, so that changes inside them are noticed.

`Fields` keeps what Redis stores, as JSON types; what a `Key` makes of it is kept beside.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ..key import Key

_ABSENT: Any = object()


class Held:
    """One typed value that the app has got hold of, and the plain one that it was made of."""

    __slots__ = ("_before", "_source", "key", "value")

    def __init__(self, key: Key[Any], value: Any, values: Mapping[str, Any]) -> None:
        self.key = key
        self.value = value
        self._before = key.encode(value)
        self._source = values.get(key.name, _ABSENT)

    def is_current(self, values: Mapping[str, Any]) -> bool:
        """Whether the field has not been written otherwise since."""
        return values.get(self.key.name, _ABSENT) is self._source

    def changed(self) -> tuple[bool, Any]:
        """
        Whether the app has changed it since, and what it is now, as JSON types.

        Raises `SessionValueError` if it does not fit its type any more.
        """
        plain = self.key.encode(self.value)
        return plain != self._before, plain

    def settle(self, plain: Any) -> None:
        """Note that *plain*, what it is now, has become the field's value."""
        self._before, self._source = deepcopy(plain), plain
