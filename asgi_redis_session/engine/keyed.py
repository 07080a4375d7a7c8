"""Reading and assigning fields by a `Key`: typed values, beside the plain ones."""

from collections.abc import Callable
from typing import Any, TypeVar

from ..key import Key
from ..options import NotGiven
from . import atomic
from .fields import Fields
from .state import SessionState
from .typed import Held

T = TypeVar("T")

_ABSENT: Any = object()


def get(state: SessionState, key: Key[T]) -> T:
    """Return a field's value as its type. Raises `KeyError`, and `SessionValueError`."""
    fields = state.readable()
    values, typed = fields.values, fields.typed
    held = typed.get(key.name) if typed else None
    if held is not None and held.key is key and held.is_current(values):
        same: T = held.value
        return same
    value = key.decode(values[key.name], state.handle) if key.name in values else key.default
    hold(fields, key, value)
    return value


def assign(fields: Fields, key: Key[T], value: T) -> None:
    """Stage a typed value. Raises `SessionValueError`."""
    fields.set(key.name, key.encode(value))
    hold(fields, key, value)


def hold(fields: Fields, key: Key[T], value: T) -> None:
    """Notice changes inside the value from now on."""
    typed = fields.typed
    if typed is None:
        typed = fields.typed = {}
    typed[key.name] = Held(key, value, fields.values)


async def transform(
    state: SessionState, key: Key[T], function: Callable[[T], T], default: T | NotGiven
) -> T:
    """Replace a field by what *function* makes of its typed value, in one atomic step."""

    def of_plain(plain: Any) -> Any:
        value = plain.value if isinstance(plain, _Default) else key.decode(plain, state.handle)
        return key.encode(function(value))

    given = key.default if isinstance(default, NotGiven) else default
    return key.decode(await atomic.transform(state, key.name, of_plain, _Default(given)))


async def take(state: SessionState, key: Key[T], default: T | None) -> T | None:
    """Read a field as its type and remove it, in one atomic step."""
    plain = await atomic.take(state, key.name, _ABSENT)
    return default if plain is _ABSENT else key.decode(plain, state.handle)


class _Default:
    """What a function gets if there is no such field: not of JSON types yet."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
