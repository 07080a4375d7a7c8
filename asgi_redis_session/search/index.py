"""
The declaration of an index: which fields of a session are indexed, and how.

The server side of it is in `admin`. No I/O: a declaration and filters in, the arguments of
commands and the shadows for the engine out.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..arguments import shown
from ..engine.codec import encode
from ..engine.shadows import Shadow, Shadows
from ..errors import SessionValueError
from .fields import METADATA, Field, Num, Tag, Text, encode_tag
from .filters import Filter, Query

#: Part of the fingerprint. Raise it when shadows or schemas change, so that an index which was
#: made in the old way is noticed.
_VERSION = "1"
#: What Redis Search takes for the name of the key.
_KEY_NAME = "__key"
_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Index:
    """
    The fields that a store indexes: `SessionStore(index=[Tag("tenant"), …])`.

    An empty declaration is false: nothing is indexed, and no shadow is written.
    Raises `TypeError` for anything but `Tag`, `Num` and `Text`, `ValueError` for a field that is
    declared twice, and `SessionValueError` for one that can't be indexed.
    """

    def __init__(self, declared: Iterable[Field] = ()) -> None:
        fields = list(declared)
        for field in fields:
            if not isinstance(field, Tag | Num | Text):
                raise TypeError(
                    "SessionStore(index=[...]) takes Tag, Num and Text, not "
                    f'{type(field).__name__}. Use Tag("name") for a field that is compared whole.'
                )
        #: The app's own fields, without metadata, by name.
        self.declared = {field.name: field for field in fields if not field.is_metadata}
        if _KEY_NAME in self.declared:
            _refuse_key_name()
        if len(self.declared) < sum(not field.is_metadata for field in fields):
            raise ValueError("SessionStore(index=[...]): a field is declared twice. Choose one.")
        metadata: list[Field] = [*map(Tag, METADATA["Tag"]), *map(Num, METADATA["Num"])]
        self._fields = [*metadata, *self.declared.values()] if fields else []
        self._aliases = dict(_aliases_of(self._fields))
        #: What commits and backfills need to know of this declaration.
        self.shadows = Shadows(
            [_shadow_of(field) for field in self._fields if field.shadow_name != field.name],
            checks={_KEY_NAME: _refuse_key_name} if fields else {},
            address_shadow=Tag("@ip").shadow_name,
        )

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __repr__(self) -> str:
        return ", ".join(map(repr, self._fields)) or "nothing"

    def alias(self, field: Field) -> str:
        """The name of a field in queries. Raises `SessionValueError` if it is not declared."""
        alias = self._aliases.get((type(field), field.name))
        if alias is None:
            raise SessionValueError(
                f"{type(field).__name__}({shown(field.name)}) is not in the index of this store, "
                f"which has {self!r}. Use one of these, or declare it in SessionStore(index=...)."
            )
        return alias

    def query(self, where: Filter | None) -> tuple[str, list[str]]:
        """
        The text and the parameters of the query for a filter; None matches all sessions.

        Raises `SessionValueError` for an undeclared field and for a filter that is nested too
        deeply, `TypeError` for anything that is not a filter.
        """
        if where is None:
            return "*", []
        if not isinstance(where, Filter):
            raise TypeError(
                f'A filter is needed, not {type(where).__name__}. Use Tag("name") == "value".'
            )
        query = Query(self.alias)
        try:
            return where.text(query), query.params
        except RecursionError:
            raise SessionValueError(
                "This filter is nested too deeply. Use .in_([...]), or ask several times."
            ) from None

    @property
    def schema(self) -> list[str]:
        """The fields, as FT.CREATE takes them."""
        words: list[str] = []
        for field in self._fields:
            words += [field.shadow_name, "AS", self.alias(field), *field.kind]
            if isinstance(field, Tag) and not field.is_metadata:
                # SORTABLE keeps the values in memory, so that `count_by(exact=False)` need not
                # read each session.
                words += ["SORTABLE", "UNF"]
        return words

    @property
    def fingerprint(self) -> str:
        """A name for this declaration. Equal declarations share it, in any order."""
        declared = sorted(f"{field!r}" for field in self._fields)
        return hashlib.sha256("\n".join([_VERSION, *declared]).encode()).hexdigest()[:12]


def _refuse_key_name(_: Any = None) -> None:
    """A check that nothing passes: Redis Search would read the key's name instead of the field."""
    raise SessionValueError(
        f"session[{_KEY_NAME!r}]: a store with an index can't hold a field of this name, which "
        "Redis Search takes for the key's own. Choose another one."
    )


def _shadow_of(field: Field) -> Shadow:
    return Shadow(
        field=field.name,
        name=field.shadow_name,
        check=field.check,
        copy_of=_tag_of_text if field.is_metadata else field.shadow_of,
        largest=field.largest,
    )


def _tag_of_text(raw: bytes) -> bytes:
    """The shadow of metadata. Unlike fields, metadata is stored as plain text."""
    return encode_tag(encode(raw.decode(errors="replace"))).encode()


def _aliases_of(fields: Iterable[Field]) -> Iterator[tuple[tuple[type[Field], str], str]]:
    """
    Names for queries that need no escaping. A field keeps its own name if that is plain; the
    others are numbered.
    """
    for number, field in enumerate(fields):
        if field.is_metadata:
            alias = f"_{field.name[1:]}"
        else:
            alias = field.name if _ALIAS.fullmatch(field.name) else f"_{number}"
        yield (type(field), field.name), alias
