"""`repr` of what holds an id or values: error reports such as Sentry's show local variables."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import asgi_redis_session

pytestmark = pytest.mark.anywhere

#: Fields of this name hold an id or values, wherever they are.
SECRETS = {
    *("session_id", "conflicting", "set_cookie", "set_cookies"),
    *("raw", "raws", "packed", "digits", "arguments", "fields"),
}
#: Whose `fields` are no values: a number, and names.
OTHERS = {"Limits"}
MARK = "a secret"


def _classes() -> Iterator[type]:
    """Every dataclass and named tuple of the package."""
    for module in pkgutil.walk_packages(asgi_redis_session.__path__, "asgi_redis_session."):
        if module.name.endswith("__main__"):
            continue
        for one in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(one) and one.__module__ == module.name:
                yield one


def _made(one: Any) -> Any:
    """An object of this class with a mark in every field that may hold a secret; None if none."""
    if issubclass(one, tuple) and hasattr(one, "_fields"):
        if not SECRETS & {*one._fields}:
            return None
        return one._make(MARK if name in SECRETS else 0 for name in one._fields)
    if dataclasses.is_dataclass(one):
        names = {known.name for known in dataclasses.fields(one)}
        if not SECRETS & names:
            return None
        made = object.__new__(one)  # type: ignore[arg-type]
        for name in names:
            object.__setattr__(made, name, MARK if name in SECRETS else 0)
        return made
    return None


MADE = {one.__name__: made for one in _classes() if (made := _made(one)) is not None}


@pytest.mark.parametrize("name", sorted(MADE.keys() - OTHERS))
def test_repr_shows_neither_ids_nor_values(name: str) -> None:
    """It names the class, and leaves out what nobody should see."""
    assert name in repr(MADE[name])
    assert MARK not in repr(MADE[name])


def test_the_objects_that_hold_secrets_are_found() -> None:
    """Those that were forgotten once are among them."""
    assert {"CookieChange", "SentCookies", "Login", "Changes", "Loaded", "Outcome"} <= MADE.keys()
