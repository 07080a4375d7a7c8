"""Names of fields that have a type: `Key("cart", Cart)`."""

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec

from .arguments import refuse_no_function, shown
from .errors import SessionValueError
from .options import NOT_GIVEN, NotGiven

__all__ = ["Key"]

T = TypeVar("T")


class Key(Generic[T]):
    """
    A field's name and the type of its value.

        CART = Key("cart", Cart, default=Cart())

        session[CART].items.append(sku)  # a Cart, for your type checker and at run time

    `session[CART]`, `session.get(CART)`, `session.pop(CART)`, `session.transform(CART, ...)` and
    `session.take(CART)` return the type, and `session[CART] = cart` takes it. Changes inside the
    value are noticed. What is in Redis stays readable JSON or text.

    *type*: a `msgspec.Struct`, dataclass, TypedDict, NamedTuple or pydantic model; datetime, date,
    time, timedelta, UUID, Decimal, Enum, bytes; list, dict, set or tuple of such types; or a union,
    as in `Key[date | None]("born", date | None)`.
    *default*: what a session without the field gives; a copy each time. Without it, `session[key]`
    raises `KeyError`, as for a name.
    *upgrade*: called with a stored value (as JSON types) that does not fit the type; what it
    returns is converted instead. Use it for fields that were stored before the type was changed.
    *on_misfit*: whether a value that does not fit, even then, raises `SessionValueError` with the
    field and the session's handle, or counts as absent, so that the *default* is returned.

    Raises `TypeError` and `SessionValueError` for arguments that can't be used.
    """

    __slots__ = ("_default", "_falls_back", "_type", "_upgrade", "name")

    @overload
    def __init__(
        self,
        name: str,
        type: type[T],
        *,
        default: T | NotGiven = ...,
        upgrade: Callable[[Any], Any] | None = ...,
        on_misfit: Literal["raise", "default"] = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        type: Any,
        *,
        default: T | NotGiven = ...,
        upgrade: Callable[[Any], Any] | None = ...,
        on_misfit: Literal["raise", "default"] = ...,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        type: Any,  # noqa: A002  (what it is)
        *,
        default: Any = NOT_GIVEN,
        upgrade: Callable[[Any], Any] | None = None,
        on_misfit: Literal["raise", "default"] = "raise",
    ) -> None:
        if not _is_name(name):
            raise SessionValueError(
                f"Key(name={shown(name)}): give the field's name, a str that is not empty and does "
                "not start with '@', as in Key('cart', Cart)."
            )
        if not isinstance(on_misfit, str) or on_misfit not in ("raise", "default"):
            raise ValueError(f"Key(on_misfit={shown(on_misfit)}): use 'raise' or 'default'.")
        if on_misfit == "default" and default is NOT_GIVEN:
            raise TypeError("Key(on_misfit='default') needs a default=.")
        if upgrade is not None:
            refuse_no_function("Key(upgrade)", upgrade, "a function of the stored value, or None")
        _refuse_type(type)
        #: The field's name.
        self.name = str.__str__(name)
        self._falls_back = on_misfit == "default"
        self._type = type
        self._upgrade = upgrade
        self._default = default
        if default is not NOT_GIVEN:
            self.decode(self.encode(default))

    def __repr__(self) -> str:
        return f"<Key {self.name!r}: {_shown_type(self._type)}>"

    # A key is equal to itself only. That is what every object does, but with a method of its own,
    # type checkers accept `CART in session`.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def default(self) -> T:
        """A copy of the default. Raises `KeyError` with the field's name if there is none."""
        if self._default is NOT_GIVEN:
            raise KeyError(self.name)
        copied: T = deepcopy(self._default)
        return copied

    def encode(self, value: T) -> Any:
        """
        Return a value of the key's type as JSON types.

        Raises `SessionValueError` if it would not come back equal.
        """
        try:
            plain = _plain(value)
            decoded = self._convert(plain)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            raise self._misfit("A value that is assigned to", error) from None
        has_equality = type(value).__eq__ is not object.__eq__
        if has_equality and decoded != value:
            raise SessionValueError(
                f"session[{self.name!r}]: this value would not come back equal as "
                f"{_shown_type(self._type)}. Assign a value of that type."
            )
        return plain

    def decode(self, plain: Any, handle: str | None = None) -> T:
        """
        Return stored JSON types as the key's type, for instance of `info.fields`.

        *handle*: the session's, for the error. Raises `SessionValueError` if they don't fit, unless
        the key says that they count as absent.
        """
        try:
            return self._convert(plain)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            misfit = error
        if self._upgrade is not None:
            upgraded = self._upgrade(deepcopy(plain))
            try:
                return self._convert(_plain(upgraded))
            except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
                misfit = error
        if self._falls_back:
            return self.default
        where = "A new session" if handle is None else f"The session {handle}"
        raise self._misfit(f"{where} has a value in", misfit)

    def _convert(self, plain: Any) -> T:
        converted: T = msgspec.convert(plain, self._type, str_keys=True, dec_hook=_load)
        return converted

    def _misfit(self, what: str, error: Exception) -> SessionValueError:
        # Not all of the message: it may quote the value.
        place = re.search(r"at `(\$[^`]*)`$", str(error))
        at = "" if place is None else f", at {place[1]}"
        return SessionValueError(
            f"{what} session[{self.name!r}] that does not fit {_shown_type(self._type)}{at}. "
            "Give Key(upgrade=...) for values of an earlier type, or on_misfit='default'."
        )


def _is_name(name: object) -> bool:
    try:
        return isinstance(name, str) and bool(name.encode()) and not name.startswith("@")
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _refuse_type(kind: Any) -> None:
    is_type = isinstance(kind, type) or hasattr(kind, "__args__") or hasattr(kind, "__origin__")
    if not is_type and kind is not Any:
        raise TypeError(
            f"Key(type) takes a type, such as a dataclass or list[str], not {shown(kind)}."
        )
    try:
        msgspec.json.Decoder(kind, dec_hook=_load)
    except NameError:  # a type that is defined later
        pass
    except Exception as error:  # noqa: BLE001  (msgspec raises what the type's own code raises)
        raise TypeError(f"Key(type={_shown_type(kind)}) can't be used: {error}") from None


def _shown_type(kind: Any) -> str:
    return kind.__qualname__ if type(kind) is type or isinstance(kind, type) else repr(kind)


def _is_pydantic(kind: Any) -> bool:
    return hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def _dump(value: Any) -> Any:
    """What msgspec does not know: a pydantic model."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise TypeError


def _load(kind: type, plain: Any) -> Any:
    """Convert to what msgspec does not know: a pydantic model."""
    if _is_pydantic(kind):
        return kind.model_validate_json(msgspec.json.encode(plain))  # type: ignore[attr-defined]
    raise TypeError


def _plain(value: Any) -> Any:
    """Return a value as JSON types, without a look whether it fits."""
    # Sets in an order of their own, so that equal ones have equal bytes.
    order: Any = "deterministic" if isinstance(value, set | frozenset) else None
    return _with_lists(msgspec.to_builtins(value, str_keys=True, enc_hook=_dump, order=order))


def _with_lists(plain: Any) -> Any:
    """Replace tuples by lists, at any depth: JSON has no tuples."""
    if isinstance(plain, list | tuple):
        return [_with_lists(item) for item in plain]
    if isinstance(plain, dict):
        return {name: _with_lists(item) for name, item in plain.items()}
    return plain
