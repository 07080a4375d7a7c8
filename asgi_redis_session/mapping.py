"""The session as a mapping: what it can do because a dict can."""

import logging
from collections.abc import Iterator, MutableMapping
from typing import Any, ClassVar, Self

from .engine.state import SessionState

__all__ = ["SessionMapping"]

logger = logging.getLogger("asgi_redis_session")


class SessionMapping(MutableMapping[str, Any]):
    """What a session and a dict have in common."""

    __slots__ = ("_state",)

    #: Public attributes that hide a field of the same name in templates; each is warned about once.
    _hiding: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        cls._hiding = {name for name in dir(cls) if not name.startswith("_")}

    def __init__(self, state: SessionState) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Any:
        return self._state.readable().get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._state.writable().set(name, value)
        if name in self._hiding:
            self._warn_of_hidden(name)

    def __delitem__(self, name: str) -> None:
        self._state.writable().remove(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.readable().values)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._state.readable().values)

    def __len__(self) -> int:
        return len(self._state.readable().values)

    def __contains__(self, name: object) -> bool:
        return name in self._state.readable().values

    def _warn_of_hidden(self, name: str) -> None:
        self._hiding.discard(name)
        logger.warning(
            "The field %r has the name of an attribute of the session. In a template, `session.%s` "
            'is the attribute: write `session["%s"]`, or choose another name.',
            *(name, name, name),
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
