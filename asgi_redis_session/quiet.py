"""What `repr` shows of objects that hold ids or values: error reports show local variables."""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["hiding"]

T = TypeVar("T", bound=type[tuple[Any, ...]])


def hiding(*hidden: str) -> Callable[[T], T]:
    """Give a named tuple a `repr` with `…` in place of these fields."""

    def text_of(one: Any) -> str:
        fields = zip(one._fields, one, strict=True)
        shown = [f"{name}={'…' if name in hidden else repr(value)}" for name, value in fields]
        return f"{type(one).__name__}({', '.join(shown)})"

    def hide(kind: T) -> T:
        kind.__repr__ = text_of  # type: ignore[method-assign]
        return kind

    return hide
