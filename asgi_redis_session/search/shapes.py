"""
What to make of the sessions that match: a count, sums by group, or the sessions themselves.

Each shape can be had in two ways: one server runs the steps of FT.AGGREGATE, and the masters of a
Cluster run a script that reads the same fields (`lua/ask.lua`). Both make the same rows. No I/O.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from .fields import SEPARATOR, Num, Tag

#: The most rows of one answer: of groups, or of sessions created in the same millisecond. In a
#: Cluster also the most sessions of one master that are looked at.
MOST_ROWS = 1_000_000

Row = dict[str, bytes]
Kind = Literal["count", "groups", "sessions"]


class Shape(NamedTuple):
    """
    *kind*: what the rows are. A count is one row, with `_n`. Groups have `_w`, a tag, and `_n`.
    Sessions have `__key` and `_created`; a row is empty if its session has expired.

    *read*: the fields of the hash that each session must have. *steps*: of FT.AGGREGATE. *most*:
    how many rows are wanted. *is_exact*: whether each match is looked at, to see whether it has
    expired.
    """

    kind: Kind
    read: tuple[str, ...]
    steps: tuple[str, ...]
    most: int = MOST_ROWS
    is_exact: bool = True


def count(*, exact: bool) -> Shape:
    """How many sessions match."""
    live = _read_live(_v="@v") if exact else ()
    return Shape("count", ("@v",), (*live, *_count_per()), is_exact=exact)


def counts_by(tag: Tag, shadow: str | None, most: int) -> Shape:
    """
    How many sessions have each value of a tag.

    *shadow*: the property under which the index itself has the values; None: read each session.
    """
    read = () if shadow else ("LOAD", "3", f"@{tag.shadow_name}", "AS", "_t")
    name = shadow or "_t"
    # Group by whole shadows first, because there are few of them, and split only these.
    # Sessions that lack the field or have expired form a group whose value is not a text.
    # FILTER drops that group, because its value does not compare as greater than "".
    steps = [*read, *_count_per(f"@{name}"), "FILTER", f'@{name} > ""', *_split(name)]
    steps += _sum_per_tag("_n")
    shape = Shape("groups", (tag.shadow_name,), (*steps, *_limit(most)), most)
    return shape._replace(is_exact=shadow is None)


def sums_by(tag: Tag, number: Num, most: int) -> Shape:
    """The sum of a number for each value of a tag."""
    steps = [*_read_live(_t=tag.shadow_name, _s=number.shadow_name), *_split("_t")]
    steps += _sum_per_tag("_s")
    return Shape("groups", (tag.shadow_name, number.shadow_name), (*steps, *_limit(most)), most)


def sessions(most: int) -> Shape:
    """The sessions themselves: their keys, and when they were created."""
    return Shape(
        "sessions", ("@created",), ("LOAD", "2", "@__key", "@_created", *_limit(most)), most
    )


def rows_of_sessions(kind: Kind, read: Mapping[bytes, Sequence[bytes]]) -> list[Row]:
    """Make the rows of a shape from what was read of single sessions, by key."""
    if kind == "count":
        return [{"_n": b"%d" % len(read)}]
    if kind == "sessions":
        return [{"__key": key, "_created": values[0]} for key, values in read.items()]
    return summed(
        (tag, float(number[0]) if number else 1)
        for shadow, *number in read.values()
        for tag in shadow.split(SEPARATOR.encode())
    )


def summed(pairs: Iterable[tuple[bytes, float]]) -> list[Row]:
    """Make one row for each tag."""
    sums: dict[bytes, float] = defaultdict(float)
    for tag, number in pairs:
        sums[tag] += number
    return [{"_w": tag, "_n": repr(number).encode()} for tag, number in sums.items()]


# --- Steps of FT.AGGREGATE ---


def _read_live(**fields: str) -> list[str]:
    """Read hash fields, and drop sessions that lack one. An expired session lacks all of them."""
    words = ["LOAD", str(3 * len(fields))]
    for name, field in fields.items():
        words += [f"@{field}", "AS", name]
    return [*words, "FILTER", " && ".join(f"exists(@{name})" for name in fields)]


def _split(name: str) -> tuple[str, ...]:
    """Make one row for each tag of a shadow."""
    return ("APPLY", f'split(@{name}, "{SEPARATOR}", "")', "AS", "_w")


def _count_per(*properties: str) -> Iterable[str]:
    grouped = ("GROUPBY", str(len(properties)), *properties)
    return (*grouped, "REDUCE", "COUNT", "0", "AS", "_n")


def _sum_per_tag(name: str) -> Iterable[str]:
    return ("GROUPBY", "1", "@_w", "REDUCE", "SUM", "1", f"@{name}", "AS", "_n")


def _limit(most: int) -> tuple[str, ...]:
    """Ask for one row more than wanted, to learn whether there are more."""
    return ("LIMIT", "0", str(most + 1))
