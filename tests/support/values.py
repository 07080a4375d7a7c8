"""Values for property tests: what can be stored, and how strictly it is compared."""

import re
import struct
from typing import Any

from hypothesis import strategies as st

#: The ends of what an encoder could take for something else, or trip over.
NASTY_STARTS = ["'", '"', "{", "[", "-", *"0123456789", "''", "@", " ", "\n", "\ufeff", "\x00"]
NASTY_TEXTS = [
    *NASTY_STARTS,
    *("true", "false", "null", "NaN", "Infinity", "-Infinity", "nan", "inf", "True", "None"),
    *(
        "'true",
        "'NaN",
        '"quoted"',
        '"open',
        "[1,2]",
        "[1,2",
        '{"a":1}',
        "-0",
        "-0.0",
        "1e5",
        "0x10",
    ),
    *("1", "-1", "1.0", "007", " 1", "1 ", "[]", "{}", "''", "NaNny", "nullable", "truely"),
    *("\x00", "a\x00b", "\x1f", "\x7f", "\x85", "\u2028", "\ud7ff", "\ue000", "\uffff"),
    *("😀", "👨‍👩‍👧‍👦", "e\u0301", "שלום", "\u202egnp.exe", "\u200f", "\uff46\uff55", "\U0010ffff"),
    *("\\", "\\u0000", "\\ud800", "%00", "\r\nSet-Cookie: a=b", "$-1\r\n", "*3\r\n"),
    "x" * 10_240,
    "é" * 5_120,
    "😀" * 2_560,
    "'" * 10_240,
]

texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(NASTY_TEXTS),
    st.builds(str.__add__, st.sampled_from(NASTY_STARTS), st.text(max_size=20)),
)
short_texts = st.one_of(
    st.text(max_size=8), st.sampled_from([t for t in NASTY_TEXTS if len(t) < 20])
)

integers = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.builds(
        lambda bits, sign, step: sign * 2**bits + step,
        st.sampled_from([7, 31, 32, 53, 63, 64, 127, 1_000, 14_000]),
        st.sampled_from([1, -1]),
        st.integers(-2, 2),
    ),
)

floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072011e-308, 1e16, 1e22, 2.0**53, 0.1]
    ),
    st.sampled_from([1.7976931348623157e308, -1.7976931348623157e308, 1e-7, 123456789012345680.0]),
    st.integers(-(2**53), 2**53).map(float),
)

scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts)

_nested = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, floats, short_texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(short_texts, inner, max_size=5)
    ),
    max_leaves=12,
)

#: Lists and dicts of everything that can be stored.
containers = st.one_of(
    st.lists(_nested, max_size=5), st.dictionaries(short_texts, _nested, max_size=5)
)

#: Without very long texts, for tests that compare very often.
small_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    integers,
    floats,
    short_texts,
    st.lists(_nested, max_size=3),
    st.dictionaries(short_texts, _nested, max_size=3),
)

#: Everything that can be stored.
values = st.one_of(scalars, containers)

names = st.one_of(
    st.sampled_from(
        ["a", "b", "cart", "_state_google_1", "'", "1", "true", "x:y", "\x00", "schön"]
    ),
    st.text(min_size=1, max_size=12),
).filter(lambda name: not name.startswith("@"))


def same(left: Any, right: Any) -> bool:
    """Equal with the same types at every depth; `-0.0` is not `0.0`, and dicts keep their order."""
    if type(left) is not type(right):
        return False
    if type(left) is float:
        return struct.pack("<d", left) == struct.pack("<d", right)
    if type(left) is list:
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is dict:
        return same(list(left), list(right)) and all(same(left[name], right[name]) for name in left)
    return bool(left == right)


def nested(depth: int) -> list[Any]:
    """A list in a list in a list …, *depth* of them."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def is_helpful(message: str) -> bool:
    """Whether a message is one or two sentences and says what to do."""
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z`])", message)
    return (
        1 <= len(sentences) <= 2
        and message.endswith(".")
        and re.search(
            r"\b(Use|use|must|Store|Choose|Decode|Flatten|Group|Keep|Give|give|raise|Call)\b",
            sentences[-1],
        )
        is not None
    )
