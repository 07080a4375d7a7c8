"""Verbs that read or write a single field at once, without loading or saving the whole session."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from .arguments import is_async, refuse_no_integer, shown
from .engine import actions, appending, atomic, keyed
from .engine.codec import check_name, to_base
from .errors import SessionValueError
from .key import Key
from .mapping import SessionMapping
from .options import NOT_GIVEN, NotGiven

__all__ = ["FieldVerbs"]

T = TypeVar("T")

_FETCH_NAMES = 1000
#: The most items that `append` keeps. A field of the default size holds fewer.
_KEEP = 100_000


class FieldVerbs(SessionMapping):
    """The verbs of `Session` that read or write single fields in Redis, each in one atomic step."""

    __slots__ = ()

    async def fetch(self, *names: str) -> dict[str, Any]:
        """
        Read single fields of a large session (HMGET); returns those that exist.

        The session stays unloaded, and changes inside the returned values are not noticed. If it
        was loaded before, its fields are returned as they are, with staged changes. At most 1,000
        names. Raises `SessionUnavailable`, and `SessionValueError` for an unusable name.
        """
        names = tuple([check_name(name) for name in names])
        if len(names) > _FETCH_NAMES:
            raise SessionValueError(
                f"session.fetch takes at most {_FETCH_NAMES} names. Load the session instead."
            )
        self._state.accessed = True
        return await actions.fetch(self._state, names)

    async def increment(self, name: str, amount: int = 1) -> int:
        """
        Add to an integer field, atomically in Redis (HINCRBY); returns the sum.

        Use it for counters: unlike `session[name] += 1`, concurrent increments all count. It acts
        at once, and is kept even if the request fails later. An absent field counts as 0. In a new
        session, and over a staged assignment, it changes the staged value instead.

        Raises `SessionValueError` if the field holds no 64-bit integer, `SessionGone` if the loaded
        session has ended, `SessionUnavailable`, and `DurabilityNotReached`.
        """
        name = check_name(name)
        amount = to_base(amount)
        if type(amount) is not int or not -actions.INT64 <= amount < actions.INT64:
            raise SessionValueError("session.increment: the amount must be a 64-bit integer.")
        self._state.accessed = True
        return await actions.increment(self._state, name, amount)

    @overload
    async def transform(
        self, name: Key[T], function: Callable[[T], T], *, default: T | NotGiven = ...
    ) -> T: ...

    @overload
    async def transform(
        self, name: str, function: Callable[[Any], Any], *, default: Any = ...
    ) -> Any: ...

    async def transform(
        self, name: str | Key[Any], function: Callable[[Any], Any], *, default: Any = NOT_GIVEN
    ) -> Any:
        """
        Replace a field by what *function* returns for its value; returns the new value.

            def add(cart): return [*cart, sku]

            await session.transform("cart", add, default=[])

        Compare-and-set in Redis: if another request has written the field meanwhile, *function* is
        called again with that value, so it must have no effects of its own. No change is lost, as
        it would be with `session["cart"].append(sku)` in two requests at once. It acts at once, and
        is kept even if the request fails later. In a new session, and over a value that this
        request has changed, it changes the staged value instead. *default*: what *function* gets if
        there is no such field.

        Raises `SessionValueError` for what can't be stored, `SessionGone`, `SessionUnavailable`,
        `DurabilityNotReached`, and what *function* raises.
        """
        if not callable(function):
            raise TypeError(f"session.transform takes a function, not {shown(function)}.")
        if is_async(function):
            raise TypeError(
                "session.transform may call the function several times, so it can't be async. "
                "Await what you need before, and give a plain function."
            )
        self._state.accessed = True
        if isinstance(name, Key):
            return await keyed.transform(self._state, name, function, default)
        default = None if default is NOT_GIVEN else default
        return await atomic.transform(self._state, check_name(name), function, default)

    async def append(self, name: str, value: Any, *, keep: int) -> int:
        """
        Add an item to the end of a list, atomically in Redis; returns how many items it has then.

            await session.append("seen", sku, keep=50)

        Use it for what was done last: only the last *keep* items stay. Unlike
        `session["seen"].append(sku)`, items that several requests add at once are all there, and
        the list need not be read. It acts at once, and is kept even if the request fails later. An
        absent field counts as an empty list. In a new session, and over a value that this request
        has changed, it changes the staged value instead. *keep*: 1 to 100,000.

        Raises `SessionValueError` for what can't be stored, if the field holds no list, and if the
        list would be larger than a field may be; `SessionGone` if the loaded session has ended;
        `SessionUnavailable`, and `DurabilityNotReached`.
        """
        name = check_name(name)
        refuse_no_integer("session.append(keep)", keep, 1, _KEEP, SessionValueError)
        self._state.accessed = True
        return await appending.append(self._state, name, value, keep)

    @overload
    async def take(self, name: Key[T]) -> T | None: ...

    @overload
    async def take(self, name: Key[T], default: T) -> T: ...

    @overload
    async def take(self, name: str, default: Any = ...) -> Any: ...

    async def take(self, name: str | Key[Any], default: Any = None) -> Any:
        """
        Read a field and remove it, in one atomic step in Redis; returns its value, or *default*.

        Use it for what may be used once: an OAuth state, a one-time password, a flash message. Of
        two requests at once, one gets it; with `pop`, both would. It acts at once. A value that
        this request has set itself is taken from what is staged.

        Raises `SessionGone` if the session has ended, `SessionUnavailable`, `DurabilityNotReached`.
        """
        self._state.accessed = True
        if isinstance(name, Key):
            return await keyed.take(self._state, name, default)
        return await atomic.take(self._state, check_name(name), default)
