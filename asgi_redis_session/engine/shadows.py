"""
Shadows: the indexed copies of a session's fields, written in the commit that writes the field.

Redis Search indexes shadows, never the fields themselves. `search` declares what is indexed and
builds these objects; this module only applies them, so that the engine knows nothing of search.
No I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .codec import CorruptValue
from .record import Changes


@dataclass(frozen=True, slots=True)
class Shadow:
    """An indexed copy of one field."""

    #: The session's field, or "@user" or "@ip".
    field: str
    #: The hash field that holds the copy.
    name: str
    #: Raises `SessionValueError` for a value that no filter could find.
    check: Callable[[Any], None]
    #: Turns the stored bytes of the field into those of the copy; None if there is no copy of them.
    copy_of: Callable[[bytes], bytes | None]
    #: The largest integer that the index compares exactly; None if there is no such limit.
    largest: int | None = None


class Shadows:
    """
    All shadows of a store. False if nothing is indexed: then no shadow is written.

    *checks*: what else to check before a field may be set, by the field's name. *address_shadow*:
    the hash field with the copy of the client's address. A login without an address removes it,
    even where nothing is indexed, because a process with an index may have written it.
    """

    def __init__(
        self,
        shadows: Iterable[Shadow] = (),
        *,
        checks: Mapping[str, Callable[[Any], None]] | None = None,
        address_shadow: str,
    ) -> None:
        by_field = {shadow.field: shadow for shadow in shadows}
        self._by_field = by_field
        self._declared = [each for field, each in by_field.items() if not field.startswith("@")]
        self._metadata = [each for field, each in by_field.items() if field.startswith("@")]
        #: What to call with a value before it is stored in a field, by the field's name. Raises
        #: `SessionValueError`.
        self.checks: dict[str, Callable[[Any], None]] = {
            **{shadow.field: shadow.check for shadow in self._declared},
            **(checks or {}),
        }
        self.address_shadow = address_shadow
        #: The hash fields that a backfill reads to make the shadows, and those that it writes.
        self.sources = tuple(each.field for each in (*self._declared, *self._metadata))
        self.names = tuple(each.name for each in (*self._metadata, *self._declared))

    def __bool__(self) -> bool:
        return bool(self._by_field)

    def of(self, field: str) -> Shadow | None:
        """The shadow of a field; None if the field is not indexed."""
        return self._by_field.get(field)

    def with_shadows(self, changes: Changes) -> Changes:
        """These changes, and those of the shadows that go with them."""
        if not self._declared:
            return changes
        copies = {
            shadow.name: _copy(shadow, changes.fields[shadow.field])
            for shadow in self._declared
            if shadow.field in changes.fields
        }
        return replace(changes, fields=changes.fields | copies)

    def of_login(self, user_id: str, address: str | None) -> list[str | bytes]:
        """Names and values of the shadows of a login's metadata, as HSET takes them."""
        texts = {"@user": user_id, "@ip": address}
        parts: list[str | bytes] = []
        for shadow in self._metadata:
            text = texts[shadow.field]
            copy = None if text is None else shadow.copy_of(text.encode())
            if copy is not None:
                parts += (shadow.name, copy)
        return parts

    def from_stored(self, raws: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """
        The shadows that a whole session should have, by name; None for one it should not have.

        *raws*: the stored bytes of its `sources`. A field that can't be decoded has no shadow.
        """
        copies: dict[str, bytes | None] = {}
        for shadow in (*self._declared, *self._metadata):
            try:
                copies[shadow.name] = _copy(shadow, raws[shadow.field])
            except CorruptValue:
                copies[shadow.name] = None
        return copies


def _copy(shadow: Shadow, raw: bytes | None) -> bytes | None:
    return None if raw is None else shadow.copy_of(raw)
