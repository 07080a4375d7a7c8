"""
Values, and the bytes that represent them in a hash field.

The first byte shows the type, so that every value comes back equal and of the same type, and
`redis-cli HGETALL` stays readable. A subclass of one of these types is stored as that type:

    str           raw UTF-8, with a leading ' if it could be mistaken for something else
    int, float    digits, as JSON writes them
    bool, None    true, false, null
    list, dict    compact JSON

Everything else is refused, at any depth. No I/O here, and nothing about sessions.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from threading import Thread
from typing import Any
from uuid import UUID

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
_NOT_PLAIN = _JSON_MARKS | frozenset(b"'\"tfnNI")

#: CPython refuses to turn longer integers into text, and back (`sys.set_int_max_str_digits`).
#: Checked in bits, because counting digits would itself be the slow conversion.
_INT_BITS = 14_280

#: What to store instead of a value that is refused, by its type.
_CURES: tuple[tuple[Any, str], ...] = (
    (tuple, "Store a list: list(value)."),
    ((set, frozenset), "Store a list: sorted(value)."),
    ((bytes, bytearray, memoryview), "Store text, such as value.hex() or base64."),
    ((date, time), "Store text: value.isoformat()."),
    (timedelta, "Store a number: value.total_seconds()."),
    ((UUID, Decimal, PurePath), "Store text: str(value)."),
    (Enum, "Store its value: member.value."),
    (Mapping, "Store a dict: dict(value)."),
    ((Sequence, Iterator), "Store a list: list(value)."),
)
_CURES_BY_METHOD = (
    ("model_dump", 'Store a dict: value.model_dump(mode="json").'),
    ("__dataclass_fields__", "Store a dict: dataclasses.asdict(value)."),
)

SEALED_MARK = b"\xfe"
"""The first byte of an encrypted value. It is never valid UTF-8, so no plain value begins so."""

EXACT = frozenset({str, int, float, bool, type(None), list, dict})
"""The types that come back as they are. Subclasses of them come back as one of these."""

DEPTH = 32
"""How deeply lists and dicts may be nested in a value, unless `Limits` says otherwise."""


class CorruptValue(Exception):
    """Bytes in Redis that this encoder never writes."""


def encode(value: Any, depth: int = DEPTH) -> bytes:
    """
    Return the bytes of the hash field that holds this value.

    Raises `SessionValueError` for what would not come back equal: other types, NaN and infinities,
    lone surrogates, keys that are no str, integers of more than 4,300 digits, and nesting beyond
    *depth*. A subclass of str, int, float, list or dict is stored as that type, at any depth.
    """
    kind = type(value)
    if kind is str:
        if value[:1] in _MARKS or value in _WORDS:
            value = "'" + value
        return _utf8(value)
    if kind is not bool and value is not None and _has_subclass(value, depth):
        return encode(to_base(value), depth)
    return _to_json(value)


def encode_as_json(value: Any, depth: int = DEPTH) -> bytes:
    """
    Do the same as `encode`, but also accept what JSON changes: tuples become lists, and keys text.

    NaN and infinities become None: JSON has none. What JSON refuses is refused as `encode` does.
    """
    try:
        return encode(value, depth)
    except SessionValueError as refusal:
        try:
            changed = json.loads(json.dumps(value), parse_constant=lambda _: None)
        except (TypeError, ValueError, RecursionError):
            raise refusal from None
        return encode(changed, depth)


def to_base(value: Any) -> Any:
    """
    Return a value with each subclass replaced by its base, as it will come back.

    It is equal to *value*, which must be one that `encode` has looked at.
    """
    for base, convert in _CONVERSIONS:
        if isinstance(value, base):
            return convert(value)
    return value


def _list_to_base(value: list[Any]) -> list[Any]:
    return [to_base(item) for item in list.__iter__(value)]


def _dict_to_base(value: dict[str, Any]) -> dict[str, Any]:
    return {str.__str__(key): to_base(item) for key, item in dict.items(value)}


#: How a value becomes its base. By methods of the base: a subclass may have overridden its own.
_CONVERSIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool),  # first, because it is an int
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
    (list, _list_to_base),
    (dict, _dict_to_base),
)


def _utf8(text: str, what: str = "Text") -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SessionValueError(
            f"{what} with a lone surrogate can't be stored: it has no UTF-8 form. "
            "Decode the text properly where it comes in."
        ) from None


def _has_subclass(value: Any, depth: int) -> bool:
    """Whether a subclass must be replaced by its base. Raises `SessionValueError`."""
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
        return _have_subclass(value, depth)
    elif value is not None and kind is not bool:
        return _is_subclass(value, depth)
    return False


def _have_subclass(container: list[Any] | dict[Any, Any], depth: int) -> bool:
    if depth <= 0:
        raise SessionValueError(
            "A value that is nested this deeply (or contains itself) can't be stored. "
            "Flatten it, or raise Limits(depth=...)."
        )
    found = False
    if isinstance(container, list):
        for item in list.__iter__(container):
            found = _has_subclass(item, depth - 1) or found
        return found
    for key, item in dict.items(container):
        if type(key) is not str:
            found = _is_text(key)
        _utf8(key)
        found = _has_subclass(item, depth - 1) or found
    return found


def _is_text(key: Any) -> bool:
    if isinstance(key, str):
        return True
    raise SessionValueError(
        f"A dict with a key of type {type(key).__name__} can't be stored: it would come "
        "back as text. Use str keys."
    )


def _is_subclass(value: Any, depth: int) -> bool:
    """Return True for a subclass of what can be stored. Raises `SessionValueError` for others."""
    if isinstance(value, list | dict):
        _have_subclass(value, depth)
    elif isinstance(value, str | int | float):
        _has_subclass(to_base(value), depth)
    else:
        raise SessionValueError(
            f"A value of type {type(value).__name__} can't be stored: it would not come back the "
            f"same. {_cure_for(value)}"
        )
    return True


def place_of_refusal(value: Any, depth: int = DEPTH) -> str:
    """
    Say where in a list or dict the value is that `encode` has refused, as in "[0][...]".

    Keys are not shown: they may be as secret as values.
    """
    if depth <= 0 or not isinstance(value, list | dict):
        return ""
    items = value if isinstance(value, list) else value.values()
    for index, item in enumerate(items):
        try:
            _has_subclass(item, depth - 1)
        except SessionValueError:
            shown = str(index) if isinstance(value, list) else "..."
            return f"[{shown}]{place_of_refusal(item, depth - 1)}"
    return ""


def _cure_for(value: Any) -> str:
    for kinds, cure in _CURES:
        if isinstance(value, kinds):
            return cure
    for method, cure in _CURES_BY_METHOD:
        if hasattr(type(value), method):
            return cure
    return "Use str, int, float, bool, None, list or dict."


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
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CorruptValue("a field is neither text, nor a number, nor valid JSON") from None
    except RecursionError:
        return _decode_on_a_fresh_stack(raw)
    if mark == _DOUBLE_QUOTE or raw in _FLOAT_WORDS:
        raise CorruptValue("a field holds text that should have been quoted")
    return text


def _decode_on_a_fresh_stack(raw: bytes) -> Any:
    """
    Decode what is nested too deeply for what is left of this stack.

    How deep the app's stack is at a load must not decide whether a session can be read. A thread
    has a stack of its own; what is too deep for that, too, was never written here.
    """
    values: list[Any] = []

    def run() -> None:
        with suppress(msgspec.DecodeError, RecursionError):
            values.append(_from_json(raw))

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if not values:
        raise CorruptValue("a field is nested too deeply, or is no valid JSON")
    return values[0]


class StoredHash:
    """
    A hash as Redis returned it: *raws* are its fields as bytes, by name.

    *values*: the fields of the app, decoded. Raises `CorruptValue` if one can't be decoded. The
    fields of the library, whose names begin with `@`, are left as bytes.
    """

    __slots__ = ("raws", "values")

    def __init__(self, raws: dict[bytes, bytes] | None = None) -> None:
        self.raws = raws = {} if raws is None else raws
        values: dict[str, Any] = {}
        self.values = values
        try:
            for name, raw in raws.items():
                if name[0] != _AT:
                    # Decoding is the most expensive part of a load. Most values are plain text, so
                    # that case is handled first.
                    values[name.decode()] = (
                        decode(raw) if not raw or raw[0] in _NOT_PLAIN else raw.decode()
                    )
        except (UnicodeDecodeError, IndexError):  # an empty name has no first byte
            raise CorruptValue(
                "it is encrypted, and this store has no encryption= to read it"
                if any(raw[:1] == SEALED_MARK for raw in raws.values())
                else "a field's name or text is not UTF-8, or the name is empty"
            ) from None


def check_name(name: object) -> str:
    """Return the name of one of the app's fields as a plain str, or raise `SessionValueError`."""
    if type(name) is not str:
        if not isinstance(name, str):
            raise SessionValueError(
                f"A field's name must be a str, not {type(name).__name__}, as in session['cart']."
            )
        name = str.__str__(name)  # a member of a StrEnum, for instance
    if not name or name[0] == "@":
        raise SessionValueError(
            "A field's name must not be empty or start with '@': those names are reserved. "
            "Choose another name."
        )
    if not name.isascii():
        _utf8(name, "A field's name")
    return name
