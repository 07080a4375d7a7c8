"""
Filters: conditions on sessions, written in Python and translated for Redis Search.

Comparing a `Tag`, `Num` or `Text` makes a filter (see `fields`). Its query text contains names of
fields and of parameters, but never a value: values travel as parameters. No I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

__all__ = ["Filter", "Has", "Query", "Within"]


class Query:
    """The parameters of one query, and the names that its text uses for them."""

    def __init__(self, alias: Callable[[Any], str]) -> None:
        #: Returns the name of a field in the text. Raises for a field that is not declared.
        self.alias = alias
        self._numbers: dict[str, str] = {}

    def name(self, value: str) -> str:
        """The name of a value in the text. The value becomes a parameter."""
        return f"$p{self._numbers.setdefault(value, str(len(self._numbers)))}"

    @property
    def params(self) -> list[str]:
        """The parameters, as FT commands take them."""
        pairs = [part for value, n in self._numbers.items() for part in (f"p{n}", value)]
        return ["PARAMS", str(len(pairs)), *pairs] if pairs else []


class Filter:
    """
    A condition on sessions: the result of comparing a `Tag`, `Num` or `Text`.

    Combine filters with `&`, `|` and `~`. `~` matches every session that the filter does not match,
    so also sessions without the field. `repr` shows the Python expression.
    """

    __slots__ = ()

    def text(self, query: Query) -> str:
        """The filter in the query language of Redis Search."""
        raise NotImplementedError

    def __and__(self, other: object) -> "Filter":
        return _combined("&", self, other)

    def __or__(self, other: object) -> "Filter":
        return _combined("|", self, other)

    def __invert__(self) -> "Filter":
        return self.part if isinstance(self, _Not) else _Not(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "A filter is neither true nor false until Redis evaluates it. Combine filters with &, "
            "| and ~, each comparison in parentheses, instead of and, or, not, in, a < b < c."
        )


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Has(Filter):
    """True if the field has all tags of at least one alternative."""

    field: Any
    alternatives: tuple[tuple[str, ...], ...]
    operator: str
    operands: tuple[Any, ...]

    def text(self, query: Query) -> str:  # noqa: D102  (as in Filter)
        field = f"@{query.alias(self.field)}"
        if all(len(tags) == 1 for tags in self.alternatives):
            # Without alternatives nothing may match. No value is ever encoded as the tag "%".
            names = [query.name(tag) for (tag,) in self.alternatives] or [query.name("%")]
            return f"{field}:{{{'|'.join(names)}}}"
        joined = [
            f"({' '.join(f'{field}:{{{query.name(tag)}}}' for tag in tags)})"
            for tags in self.alternatives
        ]
        return f"({'|'.join(joined)})"

    def __repr__(self) -> str:
        return _written(self.field, self.operator, self.operands)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Within(Filter):
    """True if the field's number is in one of these ranges, given in the query language."""

    field: Any
    ranges: tuple[tuple[str, str], ...]
    operator: str
    operands: tuple[Any, ...]

    def text(self, query: Query) -> str:  # noqa: D102  (as in Filter)
        field = f"@{query.alias(self.field)}"
        # Without ranges nothing may match. The range from 1 to 0 is empty.
        texts = [
            f"{field}:[{_end(low, query)} {_end(high, query)}]"
            for low, high in self.ranges or (("1", "0"),)
        ]
        return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"

    def __repr__(self) -> str:
        return _written(self.field, self.operator, self.operands)


def _written(field: Any, operator: str, operands: tuple[Any, ...]) -> str:
    shown = ", ".join(map(repr, operands))
    return (
        f"{field!r}{operator}({shown})" if operator[0] == "." else f"{field!r} {operator} {shown}"
    )


def _end(end: str, query: Query) -> str:
    if end.endswith("inf"):
        return end
    return f"({query.name(end[1:])}" if end.startswith("(") else query.name(end)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class _Combined(Filter):
    """Filters joined by *operator*: `&`, or `|`."""

    operator: str
    parts: tuple[Filter, ...]

    def text(self, query: Query) -> str:
        between = " " if self.operator == "&" else "|"
        return f"({between.join(part.text(query) for part in self.parts)})"

    def __repr__(self) -> str:
        return f" {self.operator} ".join(f"({part!r})" for part in self.parts)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class _Not(Filter):
    part: Filter

    def text(self, query: Query) -> str:
        return f"(-{self.part.text(query)})"

    def __repr__(self) -> str:
        return f"~({self.part!r})"


def _combined(operator: str, left: Filter, right: object) -> Filter:
    """Combine two filters. A chain of any length stays flat, so that nothing recurses into it."""
    if not isinstance(right, Filter):
        raise TypeError(
            f"A filter can't be combined with {type(right).__name__}. Put each comparison in "
            'parentheses, as in (Tag("tenant") == "acme") & (Num("total") > 9).'
        )
    parts: list[Filter] = []
    for each in (left, right):
        if isinstance(each, _Combined) and each.operator == operator:
            parts += each.parts
        else:
            parts.append(each)
    return _Combined(operator, tuple(parts))
