"""
Fields that the app holds as a dict of its own.

No method of that dict is watched. What has changed is found when changes are collected: each value
is encoded and compared with the stored bytes. No I/O here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SessionValueError
from ..options import Limits
from .codec import EXACT, StoredHash, encode
from .fields import Fields

#: Values that can't change without being assigned.
_FIXED = EXACT - {list, dict}


class MirrorFields(Fields):
    """
    The fields of a session, and *held*, the dict in which the app sees them.

    *held* is emptied, and filled with what is *stored*. *to_bytes*: how a value is encoded.
    """

    __slots__ = ("_before", "_held", "_is_discarded", "_to_bytes")

    def __init__(
        self,
        limits: Limits,
        checks: Mapping[str, Callable[[Any], None]],
        stored: StoredHash,
        held: dict[str, Any],
        to_bytes: Callable[[Any, int], bytes] = encode,
    ) -> None:
        super().__init__(limits, checks, stored)
        self._to_bytes = to_bytes
        self._held = held
        self._is_discarded = False
        #: What *held* was filled with. Empty after a commit: then only bytes are compared.
        self._before = stored.values
        dict.clear(held)
        dict.update(held, {shown_name(name): value for name, value in stored.values.items()})

    def discard(self) -> None:
        """Forget what has changed: nothing will be written."""
        super().discard()
        self._is_discarded = True

    def collect(self) -> dict[str, bytes | None]:
        """Compare what the app holds with what is stored. Raises `SessionValueError`."""
        if self._is_discarded:
            return {}
        before, unchanged = self._before, 0
        self.values = {stored_name(key): value for key, value in dict.items(self._held)}
        for name, value in self.values.items():
            if type(value) in _FIXED and name in before and before[name] is value:
                unchanged += 1
            else:
                self._stage_value(name, value)
        if not before or unchanged < len(before):
            self._stage_removals()
        if self.staged:
            self._refuse_too_many()
            self._refuse_too_large()
        self.is_cleared = bool(self.staged) and not self.values
        return self.staged

    def committed(self, sent: Mapping[str, bytes | None]) -> None:  # noqa: D102  (as in Fields)
        super().committed(sent)
        self._before = {}

    def restage(self, sent: Mapping[str, bytes | None]) -> None:  # noqa: D102  (as in Fields)
        super().restage(sent)
        self._before = {}

    def _stage_removals(self) -> None:
        stored = [raw.decode() for raw in self._stored.raws if not raw.startswith(b"@")]
        for name in {*stored, *self.staged} - self.values.keys():
            self._stage(name, None)

    def _refuse_too_many(self) -> None:
        limit, more = self._limits.fields, sum(raw is not None for raw in self.staged.values())
        if more and len(self.values) > limit:
            raise SessionValueError(
                f"The session would hold {len(self.values)} fields, more than {limit}. "
                "Group values in a dict, or raise Limits(fields=...)."
            )


def stored_name(key: object) -> str:
    """
    Return the name under which a key of the app's dict is stored.

    Names that are reserved here get a "%" in front of them. A key that is no str becomes what JSON
    makes of it.
    """
    name = key if type(key) is str else _as_json_key(key)
    return f"%{name}" if _is_reserved(name) or _is_escaped(name) else name


def shown_name(name: str) -> str:
    """Return the key of the app's dict that is stored under this name."""
    return name[1:] if _is_escaped(name) else name


def _is_reserved(name: str) -> bool:
    return not name or name[0] == "@"


def _is_escaped(name: str) -> bool:
    return name[:1] == "%" and (len(name) == 1 or name[1] in "@%")


def _as_json_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    raise SessionValueError(
        f"A field's name must be a str, not {type(key).__name__}, as in session['cart']."
    )
