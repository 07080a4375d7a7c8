"""Values that no session takes, and values that come back as their base."""

import enum
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Self
from uuid import UUID

import pytest

from .values import nested


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Literal(enum.StrEnum):
    TRUE = "true"


class Weight(float, enum.Enum):
    HALF = 0.5


class Doubled(int, enum.Enum):
    """Its members equal twice their `value`."""

    ONE = 1

    def __new__(cls, value: int) -> Self:
        member = int.__new__(cls, 2 * value)
        member._value_ = value
        return member


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Number(int):
    pass


class Real(float):
    pass


class Items(list[Any]):
    pass


Point = namedtuple("Point", "x y")  # noqa: PYI024  (a plain namedtuple is what apps have)


def ring() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def loop() -> dict[str, Any]:
    """A dict that contains itself."""
    value: dict[str, Any] = {}
    value["again"] = value
    return value


#: What must be refused, alone and inside anything.
REFUSED: dict[str, Any] = {
    "NaN": float("nan"),
    "negative NaN": -float("nan"),
    "infinity": float("inf"),
    "negative infinity": float("-inf"),
    "bytes": b"raw",
    "bytearray": bytearray(b"raw"),
    "memoryview": memoryview(b"raw"),
    "tuple": (1, 2),
    "empty tuple": (),
    "named tuple": Point(1, 2),
    "tuple in a subclass of list": Items([(1,)]),
    "NaN of a subclass": Real("nan"),
    "surrogate of a subclass": Text("\ud800"),
    "int key in an OrderedDict": OrderedDict({1: 1}),
    "set": {1},
    "frozenset": frozenset({1}),
    "datetime": datetime(2026, 1, 2, tzinfo=UTC),
    "date": date(2026, 1, 2),
    "timedelta": timedelta(seconds=1),
    "UUID": UUID(int=7),
    "Decimal": Decimal("1.5"),
    "Fraction": Fraction(1, 3),
    "complex": 1j,
    "path": PurePath("a"),
    "Enum": Colour.RED,
    "UserDict": UserDict(a=1),
    "deque": deque([1]),
    "range": range(3),
    "generator": (n for n in [1]),
    "function": ring,
    "class": Number,
    "object": object(),
    "Ellipsis": ...,
    "dict with an int key": {1: "a"},
    "dict with a None key": {None: "a"},
    "dict with a bool key": {True: "a"},
    "dict with a float key": {1.5: "a"},
    "dict with a tuple key": {(1,): "a"},
    "dict with str and int keys": {"1": 1, 1: 1},
    "lone high surrogate": "\ud800",
    "lone low surrogate": "\udfff",
    "surrogate inside": "ab\ud83dcd",
    "surrogates in the wrong order": "\udc00\ud800",
    "surrogate pair that is not one character": "\ud83d\ude00",
    "surrogate as a key": {"\udcff": 1},
    "int of 4301 digits": 10**4300,
    "negative int of 4301 digits": -(10**4300),
    "int of 20000 digits": 10**20_000,
    "list in itself": ring(),
    "dict in itself": loop(),
    "33 lists": nested(33),
    "10000 lists": nested(10_000),
}


#: What comes back as its base: the value, and what comes back.
ACCEPTED: dict[str, tuple[Any, Any]] = {
    "IntEnum": (Level.LOW, 1),
    "StrEnum": (Word.YES, "yes"),
    "StrEnum that reads like a literal": (Literal.TRUE, "true"),
    "float and Enum": (Weight.HALF, 0.5),
    "int and Enum whose value is another": (Doubled.ONE, 2),
    "IntFlag": (Rights.READ | Rights.WRITE, 3),
    "str subclass": (Text("text"), "text"),
    "str subclass with a __str__ of its own": (Loud("text"), "text"),
    "int subclass": (Number(5), 5),
    "float subclass": (Real(0.5), 0.5),
    "list subclass": (Items([1]), [1]),
    "OrderedDict": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "defaultdict": (defaultdict(list, a=[1]), {"a": [1]}),
    "Counter": (Counter("aab"), {"a": 2, "b": 1}),
    "str subclass as a key": ({Text("a"): 1}, {"a": 1}),
    "StrEnum as a key": ({Word.YES: Word.YES}, {"yes": "yes"}),
    "a subclass before such a key": ({"a": Text("b"), Text("c"): 1}, {"a": "b", "c": 1}),
    "everything in everything": (
        OrderedDict(a=Items([Level.LOW, {Word.YES: Real(0.5)}])),
        {"a": [1, {"yes": 0.5}]},
    ),
}


accepted = pytest.mark.parametrize(("value", "base"), ACCEPTED.values(), ids=ACCEPTED.keys())
refused = pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
