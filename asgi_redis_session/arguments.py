"""
What public callables refuse: each in one sentence that names the option and what it takes.

The sentences show plain values only, and not all of a long one: another object's `repr` may fail,
or show a secret.
"""

import inspect
from typing import Any

__all__ = [
    "is_async",
    "refuse_no_bool",
    "refuse_no_function",
    "refuse_no_integer",
    "refuse_other",
    "shown",
]

_PLAIN = (str, bytes, int, float, bool, type(None))
_LENGTH = 80


def shown(value: object) -> str:
    """Return a value as an error message may show it."""
    if type(value) not in _PLAIN:
        return f"<{type(value).__name__}>"
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "<int>"
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def is_async(function: object) -> bool:
    """Whether calling it makes a coroutine, also if it is an object."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  (an object may have an async one)
    )


def refuse_other(option: str, value: object, kinds: Any, takes: str) -> None:
    """Raise `TypeError` unless the value is of one of these types. *takes*: them in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{option} takes {takes}, not {shown(value)}.")


def refuse_no_bool(option: str, value: object) -> None:
    """Raise `TypeError` for anything but True and False: `"no"` would mean the opposite."""
    refuse_other(option, value, bool, "True or False")


def refuse_no_integer(
    option: str, value: object, least: int, most: int, kind: type[ValueError] = ValueError
) -> None:
    """Raise *kind* for anything but an integer from *least* to *most*."""
    if type(value) is not int or not least <= value <= most:
        called = option.removesuffix(")")
        end = option[len(called) :]
        raise kind(f"{called}={shown(value)}{end}: give an integer from {least} to {most}.")


def refuse_no_function(option: str, value: object, takes: str) -> None:
    """Raise `TypeError` for what can't be called, and for an async function."""
    if not callable(value):
        raise TypeError(f"{option} takes {takes}, not {shown(value)}.")
    if is_async(value):
        raise TypeError(
            f"{option} takes a plain function: an async one would never be awaited, so it would "
            "not run. Start a task in it."
        )
