"""Values that no option means."""

import enum
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID


class Colour(enum.Enum):
    RED = "red"


class Hostile:
    """An object that fails wherever it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __len__(self) -> int:
        raise RuntimeError("len")

    __hash__ = None  # type: ignore[assignment]


async def asynchronous(_: Any) -> None:
    """What nobody awaits."""


class AsyncCallable:
    async def __call__(self, _: Any) -> None:
        """What nobody awaits, either."""


def generator() -> Iterator[int]:
    yield 1


NONSENSE: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "1": 1,
    "-1": -1,
    "7": 7,
    "2**70": 2**70,
    "-2**70": -(2**70),
    "10**5000": 10**5000,
    "0.0": 0.0,
    "0.5": 0.5,
    "-0.5": -0.5,
    "1e300": 1e300,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "empty": "",
    "blank": " ",
    "16 blanks": " " * 16,
    "16 times a": "a" * 16,
    "word": "x",
    "yes": "yes",
    "none": "none",
    "newline": "x\n",
    "header": "x\r\nSet-Cookie: a=b",
    "NUL": "x\0",
    "umlaut": "ü",
    "surrogate": "\ud800" * 20,
    "long": "a" * 100_000,
    "long and various": "abcdefgh" * 10_000,
    "semicolon": "a;b",
    "blank inside": "a b",
    "braces": "{a}",
    "star": "*",
    "path": "../x",
    "no bytes": b"",
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "memoryview": memoryview(b"x"),
    "empty tuple": (),
    "tuple": (1, "x"),
    "empty list": [],
    "list": [1],
    "list of words": ["x"],
    "list of None": [None],
    "list in a list": [[]],
    "empty dict": {},
    "dict": {"a": 1},
    "empty set": set(),
    "set": {1},
    "set of secrets": {"a secret of many characters", "another one of as many"},
    "range": range(3),
    "complex": 1j,
    "Decimal": Decimal("1.5"),
    "Fraction": Fraction(1, 3),
    "datetime": datetime(2026, 1, 2, tzinfo=UTC),
    "date": date(2026, 1, 2),
    "no time": timedelta(0),
    "negative time": timedelta(seconds=-1),
    "all time": timedelta.max,
    "UUID": UUID(int=7),
    "pure path": PurePath("a"),
    "Enum": Colour.RED,
    "object": object(),
    "hostile": Hostile(),
    "class": int,
    "function": lambda: None,
    "async function": asynchronous,
    "async callable": AsyncCallable(),
    "generator": generator(),
    "module": enum,
    "exception": ValueError("x"),
    "ellipsis": ...,
    "NotImplemented": NotImplemented,
}
