"""
Values and the bytes that stand for them in a hash field: "tagged raw".

The first byte tells the type, so that every value comes back equal and of the same type, and
`redis-cli HGETALL` can still be read:

    str           raw UTF-8; a leading ' if it could be taken for something else
    int, float    digits, as JSON writes them
    bool, None    true, false, null
    list, dict    compact JSON

Everything else is refused, at any depth. No I/O here, and nothing about sessions.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import SessionValueError

__all__ = [
    "CorruptValue",
    "by_name",
    "check_name",
    "decode",
    "decode_fields",
    "encode",
]

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

_LITERALS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
_NAMED = frozenset({"true", "false", "null", "NaN", "Infinity"})
_NAMED_BYTES = frozenset({b"NaN", b"Infinity"})
_TAGS = frozenset("'\"{[-0123456789")
_QUOTE, _DOUBLE_QUOTE, _AT = b"'\"@"
_STRUCTURED = frozenset(b"{[-0123456789")
#: First bytes of what is not plain text, or might not be.
_TELLING = frozenset(bytes([first]) for first in _STRUCTURED | frozenset(b"'\"tfnNI")) | {b""}

#: CPython refuses to turn longer integers into text, and back (`sys.set_int_max_str_digits`).
#: Checked in bits, because counting digits would itself be the slow conversion.
_INT_BITS = 14_280

DEPTH = 32
"""How deeply lists and dicts may be nested in a value, unless `Limits` says otherwise."""


class CorruptValue(Exception):
    """Bytes in Redis that no encoder of ours has written."""


def encode(value: Any, depth: int = DEPTH) -> bytes:
    """
    Turn a value into the bytes of its hash field.

    Raises `SessionValueError` for whatever would not come back equal and with the same type:
    other types (also subclasses), NaN and infinities, lone surrogates, other keys than str,
    integers of more than 4,300 digits, and nesting beyond *depth*.
    """
    kind = type(value)
    if kind is str:
        if value[:1] in _TAGS or value in _NAMED:
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
        if value - value != 0.0:  # true for NaN and the infinities alone
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
    """Turn the bytes of a hash field back into its value; raises `CorruptValue`."""
    try:
        if not raw:
            return ""
        tag = raw[0]
        if tag in _STRUCTURED:
            return _from_json(raw)
        if tag == _QUOTE:
            return raw[1:].decode()
        if raw in _LITERALS:
            return _LITERALS[raw]
        text = raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CorruptValue("a field is neither text, nor a number, nor JSON of ours") from None
    if tag == _DOUBLE_QUOTE or raw in _NAMED_BYTES:
        raise CorruptValue("a field holds text that we would have quoted")
    return text


def decode_fields(pairs: Sequence[bytes]) -> dict[str, Any]:
    """The user's values of a hash as Redis lists it: names and values in turn."""
    values: dict[str, Any] = {}
    parts = iter(pairs)
    try:
        # The dearest part of a load: a short way for plain text, which most values are.
        for name, raw in zip(parts, parts, strict=True):
            if name[0] != _AT:
                values[name.decode()] = decode(raw) if raw[:1] in _TELLING else raw.decode()
    except (UnicodeDecodeError, IndexError):  # no name has no first byte
        raise CorruptValue("a field's name or text is not UTF-8, or it has no name") from None
    return values


def by_name(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash as Redis lists it, as a dict of its bytes, with all that is ours."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def check_name(name: object) -> str:
    """Return the name of a user's field, or raise `SessionValueError`."""
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
