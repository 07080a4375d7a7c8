"""
`Tag`, `Num` and `Text`: what an index is declared of, and what filters are made of.

Redis Search does not index a session's field itself, but its *shadow*: a copy in another hash
field, written in the same commit. The shadow of a `Tag` or `Text` is encoded so that Redis Search
can only compare whole values or whole words. A `Num` has a shadow only if it holds a number.
So a filter matches exactly what it says, and no value can keep a session out of the index.

No I/O: values in, shadows and filters out.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..engine.codec import check_name, decode, encode, to_base
from ..engine.ids import check_user_id
from ..errors import SessionValueError
from .filters import Filter, Has, Within

__all__ = ["Field", "Num", "Tag", "Text", "decode_tag", "encode_tag"]

#: Separates the tags of one shadow.
SEPARATOR = "\x1f"
#: Metadata that every index has, by kind.
METADATA: Mapping[str, tuple[str, ...]] = {"Tag": ("@user", "@ip"), "Num": ("@created", "@auth")}

#: Not percent-encoded, beside letters, digits and `_.-~`: Redis Search gives them no meaning.
_PLAIN = "'@:/+"
_LONGEST = 96
_DIGEST = "%~"
#: Redis Search compares numbers as floats, which represent every integer up to here exactly.
_LARGEST_EXACT = 2**53 - 1
_MOST_VALUES = 1000
#: A run of characters that are neither whitespace nor punctuation.
_WORD = re.compile(r"[^\s!-/:-@\[-^`{-~¡§«¶·»¿\u2010-\u205e\u3001-\u3011\uff01-\uff0f]+")

_SCALARS = (str, int, float, bool, type(None))


def encode_tag(raw: bytes) -> str:
    """
    Encode the stored bytes of a value as one tag. Two tags are equal only if the values are.

    Short plain text stays as it is. Other bytes are percent-encoded, because Redis Search trims
    blanks and cuts at separators and NUL. A long result is replaced by the value's SHA-256.
    """
    # An empty tag can't be indexed, so "" becomes a lone ': the codec never writes that.
    tag = quote_from_bytes(raw or b"'", _PLAIN)
    if len(tag) <= _LONGEST:
        return tag
    digest = hashlib.sha256(raw).digest()
    return _DIGEST + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def decode_tag(tag: str) -> Any:
    """Return the value of a tag. Raises `LookupError` if the tag is a digest."""
    if tag.startswith(_DIGEST):
        raise LookupError(tag)
    return decode(unquote_to_bytes(tag))


def words_of(text: str) -> list[str]:
    """The distinct words of a text in their order, case-folded and normalized for comparison."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(unicodedata.normalize("NFC", word) for word in found))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Field:
    """The base of `Tag`, `Num` and `Text`: one field of a session that can be searched."""

    name: str

    #: How the shadow's name begins. Each kind has its own, so that a field which is declared as
    #: another kind never finds the shadows that were written before.
    mark: ClassVar[str] = ""
    #: The field's type, as FT.CREATE takes it.
    kind: ClassVar[tuple[str, ...]] = ()
    #: The values that it accepts, in words.
    takes: ClassVar[str] = ""
    #: The largest integer that is compared exactly; None if there is no such limit.
    largest: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        known = METADATA.get(type(self).__name__, ())
        if not isinstance(self.name, str) or self.name not in known:
            try:
                check_name(self.name)
            except SessionValueError as error:
                raise SessionValueError(f"{type(self).__name__}(...): {error}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return self._is(value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~self._is(value)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    @property
    def is_metadata(self) -> bool:
        """Whether it is metadata of the library, which every index has."""
        return self.name.startswith("@")

    @property
    def shadow_name(self) -> str:
        """
        The name of the hash field that is indexed. The field's own name is encoded in it, because
        Redis Search can't handle every name (NUL ends a C string, quotes end a query).
        """
        if self.name in METADATA["Num"]:  # numbers already, so they are indexed without a copy
            return self.name
        return f"{self.mark}{encode_tag(self.name.encode())}"

    def check(self, value: Any) -> None:
        """Raise `SessionValueError` for a value that no filter could find."""
        if not self._accepts(value):
            raise SessionValueError(
                f"session[{self.name!r}] is indexed by {self!r}, which takes {self.takes}. Store "
                f"one of these, or take the field out of SessionStore(index=...)."
            )

    def shadow_of(self, raw: bytes) -> bytes | None:
        """The shadow of the field's stored bytes; None if they have none."""
        value = decode(raw)
        if not self._accepts(value):
            return None
        return SEPARATOR.join(self._tags(raw, value)).encode() or None

    def _is(self, value: object) -> Filter:
        raise NotImplementedError

    def _accepts(self, value: Any) -> bool:
        raise NotImplementedError

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        raise NotImplementedError


class Tag(Field):
    """
    A field whose values are compared as a whole: a scalar, or a list of scalars of which any one
    may match.

    Values are compared as they are stored: `1`, `"1"`, `1.0` and `True` are different, and so are
    `"a"` and `"A"`. `Tag("@user")` and `Tag("@ip")` are metadata: the user and the client's
    address at login.
    """

    __slots__ = ()
    mark = "@#"
    kind = ("TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE")
    takes = "a str, int, float, bool or None, or a list of these"

    def _is(self, value: object) -> Filter:
        return self._has((value,), "==", value)

    def in_(self, values: Iterable[Any]) -> Filter:
        """Match sessions that have one of these values, of which there may be 1,000."""
        values = _listed(f"{self!r}.in_", values)
        return self._has(values, ".in_", list(values))

    def contains_any(self, values: Iterable[Any]) -> Filter:
        """Same as `in_`; reads better for a field that holds lists. Any common value matches."""
        values = _listed(f"{self!r}.contains_any", values)
        return self._has(values, ".contains_any", list(values))

    def _has(self, values: Sequence[Any], operator: str, operand: Any) -> Filter:
        return Has(self, tuple((self._tag(value),) for value in values), operator, (operand,))

    def _tag(self, value: Any) -> str:
        value = to_base(value)
        if type(value) not in _SCALARS:
            raise TypeError(
                f"{self!r} is compared with a str, int, float, bool or None, not with "
                f"{type(value).__name__}. Use .in_([...]) for several values."
            )
        if self.name == "@user":
            value = check_user_id(value)
        return encode_tag(encode(value))

    def _accepts(self, value: Any) -> bool:
        return all(type(item) in _SCALARS for item in (value if type(value) is list else (value,)))

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        if type(value) is list:
            return dict.fromkeys(encode_tag(encode(item)) for item in value)
        return (encode_tag(raw),)


class Num(Field):
    """
    A field that holds a number, for comparisons and sums. None is not a number.

    Integers of 2^53 and more are refused, because Redis Search cannot distinguish them from their
    neighbours. `Num("@created")` and `Num("@auth")` are metadata: when the session was created
    and when its user logged in, in milliseconds since 1970. They can be compared with an aware
    datetime, too.
    """

    __slots__ = ()
    mark = "@+"
    kind = ("NUMERIC",)
    takes = "an int of less than 2^53, a float, or None"
    largest = _LARGEST_EXACT

    def _is(self, value: object) -> Filter:
        number = self._number(value)
        return Within(self, ((number, number),), "==", (value,))

    def __lt__(self, value: object) -> Filter:
        return Within(self, (("-inf", f"({self._number(value)}"),), "<", (value,))

    def __le__(self, value: object) -> Filter:
        return Within(self, (("-inf", self._number(value)),), "<=", (value,))

    def __gt__(self, value: object) -> Filter:
        return Within(self, ((f"({self._number(value)}", "+inf"),), ">", (value,))

    def __ge__(self, value: object) -> Filter:
        return Within(self, ((self._number(value), "+inf"),), ">=", (value,))

    def between(self, low: object, high: object) -> Filter:
        """Match sessions whose number is at least *low* and at most *high*."""
        ends = (self._number(low), self._number(high))
        return Within(self, (ends,), ".between", (low, high))

    def in_(self, values: Iterable[object]) -> Filter:
        """Match sessions that have one of these numbers, of which there may be 1,000."""
        values = _listed(f"{self!r}.in_", values)
        numbers = tuple(self._number(value) for value in values)
        ranges = tuple((number, number) for number in numbers)
        return Within(self, ranges, ".in_", (list(values),))

    def _number(self, value: object) -> str:
        if isinstance(value, datetime) and self.is_metadata:
            if value.tzinfo is None:
                raise TypeError(f"{self!r} is compared with an aware datetime. Give it a tzinfo.")
            value = round(value.timestamp() * 1000)
        value = to_base(value)
        if type(value) not in (int, float):
            wanted = "a datetime or a number" if self.is_metadata else "a number"
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
            return -_LARGEST_EXACT <= value <= _LARGEST_EXACT
        return value is None or (type(value) is float and abs(value) != float("inf"))

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:
        return () if value is None else (raw.decode(),)


class Text(Field):
    """
    A field that holds text and is found by its words. Upper and lower case are the same. Words
    are separated by whitespace and punctuation. There is no stemming, and there are no stop words.
    """

    __slots__ = ()
    mark = "@~"
    kind = ("TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE")
    takes = "a str or None"

    def _is(self, value: object) -> Filter:
        return Has(self, (self._words(value),), "==", (value,))

    def contains_any(self, texts: Iterable[str]) -> Filter:
        """Match sessions whose text has all words of at least one of these texts."""
        texts = _listed(f"{self!r}.contains_any", texts)
        alternatives = tuple(self._words(text) for text in texts)
        return Has(self, alternatives, ".contains_any", (list(texts),))

    def _words(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, str):
            raise TypeError(
                f"{self!r} is compared with a str, not with {type(value).__name__}. "
                "Give the words to look for."
            )
        encode(value)  # refuses text without a UTF-8 form
        words = words_of(value)
        if not words:
            raise SessionValueError(f"{self!r} is searched by words. Give at least one.")
        return tuple(encode_tag(word.encode()) for word in words)

    def _accepts(self, value: Any) -> bool:
        return value is None or type(value) is str

    def _tags(self, raw: bytes, value: Any) -> Iterable[str]:  # noqa: ARG002
        return () if value is None else (encode_tag(word.encode()) for word in words_of(value))


def _listed(what: str, values: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping) or not isinstance(
        values, Iterable
    ):
        raise TypeError(f"{what} takes a list of values, not {type(values).__name__}. Use [...].")
    listed = tuple(values)
    if len(listed) > _MOST_VALUES:
        raise SessionValueError(
            f"{what} takes at most {_MOST_VALUES} values. Ask several times, or give a range."
        )
    return listed
