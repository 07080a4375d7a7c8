"""The session as a mapping: everything that it has in common with a dict."""

import logging
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

from .engine import keyed, timing
from .engine.state import SessionState
from .key import Key
from .options import NOT_GIVEN, Duration, milliseconds
from .records import about

__all__ = ["SessionMapping"]

_Names = set[str]
T = TypeVar("T")
D = TypeVar("D")

logger = logging.getLogger("asgi_redis_session")


class SessionMapping(MutableMapping[str, Any]):
    """What a session and a dict have in common."""

    __slots__ = ("_state",)

    #: Public attributes that hide a field of the same name in templates; each is warned about once.
    _hiding: ClassVar[_Names] = set()

    def __init_subclass__(cls) -> None:
        cls._hiding = {name for name in dir(cls) if not name.startswith("_")}

    def __init__(self, state: SessionState) -> None:
        self._state = state

    @overload
    def __getitem__(self, name: str) -> Any: ...

    @overload
    def __getitem__(self, name: Key[T]) -> T: ...

    def __getitem__(self, name: str | Key[Any]) -> Any:
        try:
            return self._state.readable().get(name)  # type: ignore[arg-type]
        except KeyError:  # a name costs nothing for what keys can do
            if isinstance(name, Key):
                return keyed.get(self._state, name)
            raise

    @overload
    def __setitem__(self, name: str, value: Any) -> None: ...

    @overload
    def __setitem__(self, name: Key[T], value: T) -> None: ...

    def __setitem__(self, name: str | Key[Any], value: Any) -> None:
        fields = self._state.writable()
        if isinstance(name, Key):
            keyed.assign(fields, name, value)
            name = name.name
        else:
            fields.set(name, value)
        if name in self._hiding:
            self._warn_of_hidden(name)

    @overload
    def set(self, name: str, value: Any, *, ttl: Duration | None = ...) -> None: ...

    @overload
    def set(self, name: Key[T], value: T, *, ttl: Duration | None = ...) -> None: ...

    def set(self, name: str | Key[Any], value: Any, *, ttl: Duration | None = None) -> None:
        """
        Set a field that ends sooner than the session: a one-time code, say.

            session.set("otp", code, ttl=timedelta(minutes=5))

        Like an assignment it is staged. *ttl*: a timedelta or seconds, counted by Redis' clock from
        the commit on. After that the field is absent for every reader. Assigning the field anew
        takes the TTL away; changes inside its value, `increment`, `append` and `transform` leave
        the end as it is. None: no TTL, as with `session[name] = value`.

        Raises `SessionValueError` for what can't be stored, and for a field that is indexed.
        """
        if ttl is None:
            self[name] = value
            return
        ttl_ms = milliseconds("session.set(ttl)", ttl)
        if isinstance(name, Key):
            timing.set_for(self._state, name.name, name.encode(value), ttl_ms)
            keyed.hold(self._state.fields, name, value)
        else:
            timing.set_for(self._state, name, value, ttl_ms)

    def __delitem__(self, name: str | Key[Any]) -> None:
        self._state.writable().remove(name.name if isinstance(name, Key) else name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.readable().values)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._state.readable().values)

    def __len__(self) -> int:
        return len(self._state.readable().values)

    def __contains__(self, name: object) -> bool:
        values = self._state.readable().values
        return name in values or (isinstance(name, Key) and name.name in values)

    if TYPE_CHECKING:  # only types: what a dict does with them works for keys, too

        @overload
        def get(self, name: Key[T], /) -> T | None: ...
        @overload
        def get(self, name: Key[T], /, default: T) -> T: ...
        @overload
        def get(self, name: Key[T], /, default: D) -> T | D: ...
        @overload
        def get(self, name: str, /) -> Any | None: ...
        @overload
        def get(self, name: str, /, default: Any) -> Any: ...
        def get(self, name: Any, /, default: Any = None) -> Any:
            """Return a value, or *default*."""

    @overload
    def pop(self, key: Key[T], /) -> T: ...
    @overload
    def pop(self, key: Key[T], /, default: D) -> T | D: ...
    @overload
    def pop(self, key: str, /) -> Any: ...
    @overload
    def pop(self, key: str, /, default: Any) -> Any: ...

    def pop(self, key: str | Key[Any], /, default: Any = NOT_GIVEN) -> Any:
        """Remove a field and return its value, or *default*, as a dict does."""
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is not NOT_GIVEN:
            return default
        if isinstance(key, Key):
            return key.default
        raise KeyError(key)

    def _warn_of_hidden(self, name: str) -> None:
        self._hiding.discard(name)
        logger.warning(
            "The field %r has the name of an attribute of the session. In a template, `session.%s` "
            'is the attribute: write `session["%s"]`, or choose another name.',
            *(name, name, name),
            extra=about("field_name_hidden", field=name),
        )

    def clear(self) -> None:
        """
        Remove all fields.

        If nothing is written afterwards, the session ends and the browser forgets its cookie, as
        apps written for Starlette expect.
        """
        self._state.writable().clear()

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the field that was added last, as a dict does."""
        name = next(reversed(self), None)
        if name is None:
            raise KeyError("popitem(): the session is empty")
        return name, self.pop(name)

    def copy(self) -> dict[str, Any]:
        """Return the fields as a plain dict."""
        return dict(self)

    def __or__(self, other: Any) -> dict[str, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: Any) -> dict[str, Any]:
        return dict(other) | dict(self)

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self
