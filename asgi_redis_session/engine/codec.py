"""
Values, and the bytes that represent them in a hash field.

The first byte tells the type, so that every value comes back equal and of the same type, and
`redis-cli HGETALL` stays readable:

    str           raw UTF-8, with a leading ' if it could be mistaken for something else
    int, float    digits, as JSON writes them
    bool, None    true, false, null
    list, dict    compact JSON

Everything else is refused, at any depth. No I/O here, and nothing about sessions.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import SessionValueError

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

_LITERALS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
#: Text that reads like a literal, or like what some JSON writers make of floats.
_WORDS = frozenset({"true", "false", "null", "NaN", "Infinity"})
_FLOAT_WORDS = frozenset({b"NaN", b"Infinity"})
#: First characters of encoded values that are not plain text.
_MARKS = frozenset("'\"{[-0123456789")
_QUOTE, _DOUBLE_QUOTE, _AT = b"'\"@"
_JSON_MARKS = frozenset(b"{[-0123456789")
#: First bytes of encoded values that are not plain text, or might not be.
_NOT_PLAIN = frozenset(bytes([first]) for first in _JSON_MARKS | frozenset(b"'\"tfnNI")) | {b""}

#: CPython refuses to turn longer integers into text, and back (`sys.set_int_max_str_digits`).
#: Checked in bits, because counting digits would itself be the slow conversion.
_INT_BITS = 14_280

DEPTH = 32
"""How deeply lists and dicts may be nested in a value, unless `Limits` says otherwise."""


class CorruptValue(Exception):
    """Bytes in Redis that this encoder never writes."""


def encode(value: Any, depth: int = DEPTH) -> bytes:
    """
    Return the bytes of the hash field that holds this value.

    Raises `SessionValueError` for what would not come back equal and of the same type: other types
    (subclasses, too), NaN and infinities, lone surrogates, keys that are no str, integers of more
    than 4,300 digits, and nesting beyond *depth*.
    """
    kind = type(value)
    if kind is str:
        if value[:1] in _MARKS or value in _WORDS:
            value = "'" + value
        return _utf8(value)
    if kind is not bool and value is not None:
        _refuse_inexact(value, depth)
    return _to_json(value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SessionValueError(
            "Text with a lone surrogate can't be stored: it has no UTF-8 form. "
            "Decode the text properly where it comes in."
        ) from None


def _refuse_inexact(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _utf8(value)
    elif kind is int:
        if value.bit_length() > _INT_BITS:
            raise SessionValueError(
                "An integer of about 4,300 digits or more can't be stored. Store it as text."
            )
    elif kind is float:
        if value - value != 0.0:  # true only for NaN and the infinities
            raise SessionValueError("NaN and infinity can't be stored. Store None or text instead.")
    elif kind is list or kind is dict:
        _refuse_inexact_items(value, depth)
    elif value is not None and kind is not bool:
        raise SessionValueError(
            f"A value of type {kind.__name__} can't be stored: it would not come back the same. "
            "Use str, int, float, bool, None, list or dict."
        )


def _refuse_inexact_items(container: list[Any] | dict[Any, Any], depth: int) -> None:
    if depth <= 0:
        raise SessionValueError(
            "A value that is nested this deeply (or contains itself) can't be stored. "
            "Flatten it, or raise Limits(depth=...)."
        )
    if isinstance(container, list):
        for item in container:
            _refuse_inexact(item, depth - 1)
        return
    for key, item in container.items():
        if type(key) is not str:
            raise SessionValueError(
                f"A dict with a key of type {type(key).__name__} can't be stored: it would come "
                "back as text. Use str keys."
            )
        _utf8(key)
        _refuse_inexact(item, depth - 1)


def decode(raw: bytes) -> Any:
    """Return the value of a hash field; raises `CorruptValue`."""
    try:
        if not raw:
            return ""
        mark = raw[0]
        if mark in _JSON_MARKS:
            return _from_json(raw)
        if mark == _QUOTE:
            return raw[1:].decode()
        if raw in _LITERALS:
            return _LITERALS[raw]
        text = raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CorruptValue("a field is neither text, nor a number, nor valid JSON") from None
    if mark == _DOUBLE_QUOTE or raw in _FLOAT_WORDS:
        raise CorruptValue("a field holds text that should have been quoted")
    return text


class StoredHash:
    """
    A hash as Redis returned it: *pairs* are its names and values in turn, as HGETALL lists them.

    *values*: the fields of the app, decoded. Raises `CorruptValue` if one can't be decoded. The
    fields of the library, whose names begin with `@`, are left as bytes.
    """

    __slots__ = ("_pairs", "_raws", "values")

    def __init__(self, pairs: Sequence[bytes] = ()) -> None:
        self._pairs = pairs
        self._raws: dict[bytes, bytes] | None = None
        values: dict[str, Any] = {}
        self.values = values
        parts = iter(pairs)
        try:
            for name, raw in zip(parts, parts, strict=True):
                if name[0] != _AT:
                    # Decoding is the most expensive part of a load. Most values are plain text, so
                    # that case is handled first.
                    values[name.decode()] = decode(raw) if raw[:1] in _NOT_PLAIN else raw.decode()
        except (UnicodeDecodeError, IndexError):  # an empty name has no first byte
            raise CorruptValue(
                "a field's name or text is not UTF-8, or the name is empty"
            ) from None

    @property
    def raws(self) -> dict[bytes, bytes]:
        """All fields as bytes, by name. Built when somebody asks: a request that reads does not."""
        if self._raws is None:
            self._raws = dict(zip(self._pairs[::2], self._pairs[1::2], strict=True))
        return self._raws


def check_name(name: object) -> str:
    """Return the name of one of the app's fields, or raise `SessionValueError`."""
    if type(name) is not str:
        raise SessionValueError(
            f"A field's name must be a str, not {type(name).__name__}, as in session['cart']."
        )
    if not name or name[0] == "@":
        raise SessionValueError(
            "A field's name must not be empty or start with '@': those names are reserved. "
            "Choose another name."
        )
    _utf8(name)
    return name
