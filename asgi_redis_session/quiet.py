"""What `repr` shows of objects that hold ids or values: error reports show local variables."""

from typing import Any

__all__ = ["repr_without"]


def repr_without(one: Any, *hidden: str) -> str:
    """Return the `repr` of a named tuple, with `…` in place of the *hidden* fields."""
    fields = zip(one._fields, one, strict=True)
    shown = [f"{name}={'…' if name in hidden else repr(value)}" for name, value in fields]
    return f"{type(one).__name__}({', '.join(shown)})"
