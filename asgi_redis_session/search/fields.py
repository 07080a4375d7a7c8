"""
What an index is declared of, and filters are made of: `Tag`, `Num`, `Text`.

A value is not indexed as it stands in its field, but as a *shadow*: metadata beside it, written in
the same commit. The values of a `Tag`, and the words of a `Text`, are spelled so that Redis Search
can only compare them whole; of a `Num` there is a shadow only if it holds a number. So every filter
means exactly what it says, and nothing that stands in a session can keep it out of the index.

Pure: declarations, filters and changes in, the words of commands out.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..engine.codec import CorruptValue, check_name, decode, encode
from ..engine.record import Changes, Login, check_user
from ..errors import SessionValueError
from .filters import Filter, Has, Query, Within

__all__ = ["Field", "Index", "Num", "Tag", "Text", "spell", "unspell"]

SEPARATOR = "\x1f"
#: Changes whenever shadows or schemas are made in another way, so that old indexes are noticed.
_VERSION = "1"
#: Spelled as they are, beside letters, digits and `_.-~`; none means anything to Redis Search.
_PLAIN = "'@:/+"
_LONGEST = 96
_DIGEST = "%~"
#: Up to here every integer is a float of its own, which is what Redis Search compares.
EXACT = 2**53 - 1
_MOST_VALUES = 1000
_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: Runs without whitespace and punctuation.
_WORD = re.compile(r"[^\s!-/:-@\[-^`{-~¡§«¶·»¿\u2010-\u205e\u3001-\u3011\uff01-\uff0f]+")

_SCALARS = (str, int, float, bool, type(None))


def spell(raw: bytes) -> str:
    """
    The encoded bytes of a value as one tag: two are equal if, and only if, the values are.

    Short plain text stays as it is. Other bytes are percent-encoded, since Redis Search trims
    blanks and cuts at separators and NUL; what gets long is replaced by its SHA-256.
    """
    # An empty tag can't be indexed. A lone ' stands for it: the codec never writes one.
    tag = quote_from_bytes(raw or b"'", _PLAIN)
    if len(tag) <= _LONGEST:
        return tag
    digest = hashlib.sha256(raw).digest()
    return _DIGEST + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def unspell(tag: str) -> Any:
    """The value that was spelled so; raises `LookupError` for a digest."""
    if tag.startswith(_DIGEST):
        raise LookupError(tag)
    return decode(unquote_to_bytes(tag))


def words_of(text: str) -> list[str]:
    """The different words of a text, ready to be compared: without case, in order."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(unicodedata.normalize("NFC", word) for word in found))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Field:
    """What is indexed, and what filters are made of: a `Tag`, `Num` or `Text`."""

    name: str

    #: What the shadow's name begins with: another one for each kind, so that a field that is
    #: declared anew never meets the shadows of its past.
    mark: ClassVar[str] = ""
    kind: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.name not in _METADATA.get(type(self).__name__, ()):
            try:
                check_name(self.name)
            except SessionValueError as error:
                raise SessionValueError(f"{type(self).__name__}(...): {error}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    @property
    def is_ours(self) -> bool:
        """Whether it is metadata, which every index has."""
        return self.name.startswith("@")

    @property
    def shadow(self) -> str:
        """The name of the hash field that is indexed: C strings, and queries, can hold it."""
        if self.name in _METADATA["Num"]:
            return self.name
        return f"{self.mark}{spell(self.name.encode())}"

    def check(self, value: Any) -> None:
        """Refuse, with `SessionValueError`, a value that could not be found by a filter."""
        if not self._accepts(value):
            raise SessionValueError(
                f"session[{self.name!r}] is indexed by {self!r}, which takes {self.takes}. Store "
                f"one of these, or take the field out of SessionStore(index=...)."
            )

    def cast(self, raw: bytes | None) -> bytes | None:
        """The shadow that these encoded bytes of the field cast; None for none."""
        value = None if raw is None else decode(raw)
        if raw is None or not self._accepts(value):
            return None
        return SEPARATOR.join(self._tags(raw, value)).encode() or None

    def _accepts(self, value: Any) -> bool:
        raise NotImplementedError

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        raise NotImplementedError


class Tag(Field):
    """
    A field that is compared whole: a scalar, or a list of scalars, of which any may match.

    As stored, `1`, `"1"`, `1.0` and `True` are different values, and so are `"a"` and `"A"`. Of
    metadata there are `Tag("@user")` and `Tag("@ip")`.
    """

    __slots__ = ()
    mark = "@#"
    kind = ("TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE")
    takes = "a str, int, float, bool or None, or a list of these"

    __hash__ = Field.__hash__

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return self._has((value,), "==", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~(self == value)

    def in_(self, values: Iterable[Any]) -> Filter:
        """Sessions that have one of these values."""
        values = _listed(f"{self!r}.in_", values)
        return self._has(values, ".in_", list(values))

    def contains_any(self, values: Iterable[Any]) -> Filter:
        """The same, for a field that holds lists: at least one value is in both."""
        values = _listed(f"{self!r}.contains_any", values)
        return self._has(values, ".contains_any", list(values))

    def _has(self, values: Sequence[Any], operator: str, operand: Any) -> Filter:
        return Has(self, tuple((self._tag(value),) for value in values), operator, (operand,))

    def _tag(self, value: Any) -> str:
        if type(value) not in _SCALARS:
            raise TypeError(
                f"{self!r} is compared with a str, int, float, bool or None, not with "
                f"{type(value).__name__}. Use .in_([...]) for several values."
            )
        if self.name == "@user":
            value = check_user(value)
        return spell(encode(value))

    def _accepts(self, value: Any) -> bool:
        return all(type(item) in _SCALARS for item in (value if type(value) is list else (value,)))

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        if type(value) is list:
            return dict.fromkeys(spell(encode(item)) for item in value)
        return (spell(raw),)


class Num(Field):
    """
    A field that holds a number, for comparisons and sums. None is no number.

    Integers of 2^53 and more are refused: their neighbours would be equal to them. Of metadata
    there are `Num("@created")` and `Num("@auth")` (the login): milliseconds since 1970, compared
    with an aware datetime as well.
    """

    __slots__ = ()
    mark = "@+"
    kind = ("NUMERIC",)
    takes = "an int of less than 2^53, a float, or None"

    __hash__ = Field.__hash__

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        number = self._number(value)
        return Within(self, ((number, number),), "==", (value,))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~(self == value)

    def __lt__(self, value: object) -> Filter:
        return Within(self, (("-inf", f"({self._number(value)}"),), "<", (value,))

    def __le__(self, value: object) -> Filter:
        return Within(self, (("-inf", self._number(value)),), "<=", (value,))

    def __gt__(self, value: object) -> Filter:
        return Within(self, ((f"({self._number(value)}", "+inf"),), ">", (value,))

    def __ge__(self, value: object) -> Filter:
        return Within(self, ((self._number(value), "+inf"),), ">=", (value,))

    def between(self, low: object, high: object) -> Filter:
        """Sessions whose number is at least *low* and at most *high*."""
        ends = (self._number(low), self._number(high))
        return Within(self, (ends,), ".between", (low, high))

    def in_(self, values: Iterable[object]) -> Filter:
        """Sessions that have one of these numbers."""
        values = _listed(f"{self!r}.in_", values)
        numbers = tuple(self._number(value) for value in values)
        ranges = tuple((number, number) for number in numbers)
        return Within(self, ranges, ".in_", (list(values),))

    def _number(self, value: object) -> str:
        if isinstance(value, datetime) and self.is_ours:
            if value.tzinfo is None:
                raise TypeError(f"{self!r} is compared with an aware datetime. Give it a tzinfo.")
            value = round(value.timestamp() * 1000)
        if type(value) not in (int, float):
            wanted = "a datetime or a number" if self.is_ours else "a number"
            raise TypeError(
                f"{self!r} is compared with {wanted}, not with {type(value).__name__}. "
                "Convert the value, or declare a Tag."
            )
        if not self._accepts(value) or value != value:  # noqa: PLR0124  (NaN)
            raise SessionValueError(
                f"{self!r} can't be compared with this number. Give a finite float, or an int of "
                "less than 2^53."
            )
        return repr(value)

    def _accepts(self, value: Any) -> bool:
        if type(value) is int:
            return -EXACT <= value <= EXACT
        return value is None or (type(value) is float and abs(value) != float("inf"))

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        return () if value is None else (raw.decode(),)


class Text(Field):
    """
    A field that holds text, found by its words: upper and lower case are the same, and a word is
    what stands between blanks and punctuation. Nothing is stemmed, and no word is too common.
    """

    __slots__ = ()
    mark = "@~"
    kind = ("TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE")
    takes = "a str or None"

    __hash__ = Field.__hash__

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return Has(self, (self._words(value),), "==", (value,))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~(self == value)

    def contains_any(self, texts: Iterable[str]) -> Filter:
        """Sessions whose text has all words of at least one of these."""
        texts = _listed(f"{self!r}.contains_any", texts)
        alternatives = tuple(self._words(text) for text in texts)
        return Has(self, alternatives, ".contains_any", (list(texts),))

    def _words(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, str):
            raise TypeError(
                f"{self!r} is compared with a str, not with {type(value).__name__}. "
                "Give the words to look for."
            )
        encode(value)  # refuses what has no UTF-8 form
        words = words_of(value)
        if not words:
            raise SessionValueError(f"{self!r} is searched by words. Give at least one.")
        return tuple(spell(word.encode()) for word in words)

    def _accepts(self, value: Any) -> bool:
        return value is None or type(value) is str

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:  # noqa: ARG002
        return () if value is None else (spell(word.encode()) for word in words_of(value))


class _KeyName(Field):
    """A field of this name would stand, to Redis Search, for the name of the session's key."""

    __slots__ = ()

    def check(self, value: Any) -> None:  # noqa: ARG002
        raise SessionValueError(
            f"session[{self.name!r}]: a store with an index can't hold a field of this name, which "
            "Redis Search takes for the key's own. Choose another one."
        )


def _listed(what: str, values: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{what} takes a list of values, not {type(values).__name__}. Use [...].")
    listed = tuple(values)
    if len(listed) > _MOST_VALUES:
        raise SessionValueError(
            f"{what} takes at most {_MOST_VALUES} values. Ask several times, or give a range."
        )
    return listed


#: Metadata that every index has: by kind, the names.
_METADATA: Mapping[str, tuple[str, ...]] = {"Tag": ("@user", "@ip"), "Num": ("@created", "@auth")}

# --- The declaration ---


class Index:
    """
    The fields that a store indexes: `SessionStore(index=[Tag("tenant"), …])`.

    Raises `TypeError` and `ValueError` for what is no declaration. An empty one is false: nothing
    is indexed then, and no shadow is written.
    """

    def __init__(self, declared: Iterable[Field] = ()) -> None:
        fields = list(declared)
        for field in fields:
            if not isinstance(field, Tag | Num | Text):
                raise TypeError(
                    "SessionStore(index=[...]) takes Tag, Num and Text, not "
                    f'{type(field).__name__}. Use Tag("name") for a field that is compared whole.'
                )
        #: What the app has declared, by the name of the session's field.
        self.declared = {field.name: field for field in fields if not field.is_ours}
        #: Which of the session's fields may not hold everything.
        self.checked: dict[str, Field] = dict(self.declared)
        if fields:
            self.checked["__key"] = _KeyName("__key")
        if "__key" in self.declared:
            self.checked["__key"].check(None)
        if len(self.declared) < sum(not field.is_ours for field in fields):
            raise ValueError("SessionStore(index=[...]): a field is declared twice. Choose one.")
        ours: list[Field] = [*map(Tag, _METADATA["Tag"]), *map(Num, _METADATA["Num"])]
        self._fields = [*ours, *self.declared.values()] if fields else []
        self._aliases = dict(_aliased(self._fields))
        #: The hash fields that are written for the index, and those that they are made from.
        self.shadows = [field.shadow for field in self._fields if field.shadow != field.name]
        self.sources = [*self.declared, *(_METADATA["Tag"] if fields else ())]

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __repr__(self) -> str:
        return ", ".join(map(repr, self._fields)) or "nothing"

    # --- For commands ---

    def alias(self, field: Field) -> str:
        """The name of a field in queries; `SessionValueError` for one that is not declared."""
        alias = self._aliases.get((type(field), field.name))
        if alias is None:
            raise SessionValueError(
                f"{field!r} is not in the index of this store, which has {self!r}. Use one of "
                "these, or declare it in SessionStore(index=...)."
            )
        return alias

    def query(self, where: Filter | None) -> tuple[str, list[str]]:
        """A filter as the text and the parameters of an FT command; None finds all sessions."""
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
        """The fields as FT.CREATE takes them."""
        words: list[str] = []
        for field in self._fields:
            words += [field.shadow, "AS", self.alias(field), *field.kind]
            if isinstance(field, Tag) and not field.is_ours:
                # Kept in memory, for counts that need not look at every session.
                words += ["SORTABLE", "UNF"]
        return words

    @property
    def fingerprint(self) -> str:
        """A name for this declaration: the same for equal ones, in any order."""
        declared = sorted(f"{field!r}" for field in self._fields)
        return hashlib.sha256("\n".join([_VERSION, *declared]).encode()).hexdigest()[:12]

    # --- For commits ---

    def cover(self, changes: Changes) -> Changes:
        """Changes with the shadows that go with them."""
        if not self.declared:
            return changes
        shadows = {
            field.shadow: field.cast(changes.fields[name])
            for name, field in self.declared.items()
            if name in changes.fields
        }
        return replace(changes, fields=changes.fields | shadows)

    def about(self, login: Login | None) -> Iterator[str | bytes]:
        """Names and values of the shadows of a login's metadata."""
        if self and login is not None:
            for name, text in (("@user", login.user_id), ("@ip", login.address)):
                if text is not None:
                    yield from (Tag(name).shadow, spell(encode(text)))

    def cast_all(self, raws: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """The shadows that a whole session should have, from its `sources`; None for none."""
        cast: dict[str, bytes | None] = {}
        for name, field in self.declared.items():
            try:
                cast[field.shadow] = field.cast(raws[name])
            except CorruptValue:
                cast[field.shadow] = None
        for name in _METADATA["Tag"]:
            raw = raws[name]
            text = None if raw is None else raw.decode(errors="replace")
            cast[Tag(name).shadow] = None if text is None else spell(encode(text)).encode()
        return cast


def _aliased(fields: Iterable[Field]) -> Iterator[tuple[tuple[type[Field], str], str]]:
    """Names that need no escaping: the field's own if it is one, else a number of ours."""
    for number, field in enumerate(fields):
        plain = _ALIAS.fullmatch(field.name)
        alias = f"_{field.name[1:]}" if field.is_ours else field.name if plain else f"_{number}"
        yield (type(field), field.name), alias
