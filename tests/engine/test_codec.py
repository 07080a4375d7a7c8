"""Every value comes back equal and of the same type, or is refused; nothing in between."""

import json
import sys
from collections import OrderedDict, UserDict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_redis_session import Limits, SessionValueError
from asgi_redis_session.engine.codec import (
    CorruptValue,
    StoredHash,
    check_name,
    decode,
    encode,
    encode_as_json,
    place_of_refusal,
    to_base,
)

from ..support.examples import examples
from ..support.refused import Colour, Point, Text, Word, accepted, refused, ring
from ..support.values import NASTY_TEXTS, is_helpful, names, nested, same, texts, values

pytestmark = pytest.mark.anywhere

relaxed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(relaxed, max_examples=examples(1_000))
@given(values)
@example(-0.0)
@example([-0.0, 0.0, 0, False, "", None, [], {}])
@example([True, 1, 1.0, "1", "true"])
@example({"": {"": [""]}})
def test_every_json_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    """What `encode` accepts, `decode` gives back the same, at every depth."""
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize("text", NASTY_TEXTS, ids=lambda text: ascii(text)[:24])
def test_nasty_texts_come_back(text: str) -> None:
    """Text that looks like something else stays text: alone, as an item, and as a key."""
    for value in (text, [text], {text: text}, {"a": [{text: [text]}]}):
        assert same(decode(encode(value)), value)


@settings(relaxed, max_examples=examples(300))
@given(texts)
def test_text_is_stored_as_it_is_or_with_one_quote_before_it(text: str) -> None:
    """`redis-cli` shows text as it is: what is stored is raw UTF-8, quoted only where needed."""
    assert encode(text) in (text.encode(), b"'" + text.encode())


@settings(relaxed, max_examples=examples(1_000))
@given(values, values)
def test_two_values_never_share_their_bytes(left: Any, right: Any) -> None:
    """The encoding is unambiguous: equal bytes mean the same value of the same type."""
    assert (encode(left) == encode(right)) is same(left, right)


@settings(relaxed, max_examples=examples(1_000))
@given(values)
def test_text_never_collides_with_another_type(value: Any) -> None:
    """Text that reads exactly like the bytes of another value is stored differently."""
    raw = encode(value)
    if isinstance(value, str):
        assert type(decode(raw)) is str
    else:
        text = raw.decode()
        assert encode(text) != raw
        assert same(decode(encode(text)), text)


def test_the_documented_format_is_what_is_written() -> None:
    """The bytes of each type are those of the documentation, readable with redis-cli."""
    assert encode("ada") == b"ada"
    assert encode("") == b""
    assert encode("'") == b"''"
    assert encode("5") == b"'5"
    assert encode("-5") == b"'-5"
    assert encode("true") == b"'true"
    assert encode(5) == b"5"
    assert encode(-0.0) == b"-0.0"
    assert encode(1.0) == b"1.0"
    assert [encode(value) for value in (True, False, None)] == [b"true", b"false", b"null"]
    assert encode([1, "a", {"b": None}]) == b'[1,"a",{"b":null}]'
    assert encode({"b": 1, "a": 2}) == b'{"b":1,"a":2}'


@pytest.mark.parametrize("digits", [4_000, 4_297, 4_298])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_of_up_to_4298_digits_come_back(digits: int, sign: int) -> None:
    """Far more digits than 64 bits have, positive or negative, alone or nested, are exact."""
    for value in (sign * 10 ** (digits - 1), sign * (10**digits - 1)):
        assert same(decode(encode(value)), value)
        assert same(decode(encode([value])), [value])


@pytest.mark.parametrize("sign", [1, -1])
def test_no_integer_is_stored_that_could_not_be_read(sign: int) -> None:
    """
    Close to the interpreter's limit of 4,300 digits, a number comes back or is refused at once: it
    comes back up to some number, and is refused from there on.
    """
    sizes = [
        value for n in (4_298, 4_299, 4_300) for value in (10**n, 3 * 10**n, 10 ** (n + 1) - 1)
    ]
    accepted = []
    for value in sizes:
        try:
            raw = encode(sign * value)
        except SessionValueError:
            continue
        assert same(decode(raw), sign * value)
        accepted.append(value)
    assert accepted == sizes[: len(accepted)]
    assert 1 <= len(accepted) < len(sizes)
    assert max(accepted) < 10**4_300


def test_32_levels_fit() -> None:
    """Nesting is accepted up to the limit of 32."""
    assert same(decode(encode(nested(32))), nested(32))


def test_depth_is_what_the_caller_says() -> None:
    """A larger or smaller depth is obeyed exactly, for lists and for dicts."""
    assert same(decode(encode(nested(60), 60)), nested(60))
    assert same(decode(encode({"a": {"b": 1}}, 2)), {"a": {"b": 1}})
    too_deep: list[Any] = [nested(3), {"a": {"b": {}}}, {"a": [[]]}]
    for value in too_deep:
        with pytest.raises(SessionValueError):
            encode(value, 2)
    assert encode("text", 0) == b"text"


@refused
def test_what_would_not_come_back_is_refused(value: Any) -> None:
    """Each unsupported value is refused alone, in a list and in a dict, naming the cure."""
    for wrapped in (value, [value], {"a": value}, [1, {"a": [value]}]):
        with pytest.raises(SessionValueError) as caught:
            encode(wrapped)
        assert is_helpful(str(caught.value))
        assert caught.value.__cause__ is None


@accepted
def test_a_subclass_comes_back_as_its_base(value: Any, base: Any) -> None:
    """What equals its JSON base is stored as that base: alone, as an item, and in a dict."""
    assert same(decode(encode(value)), base)
    assert same(decode(encode([value, {"a": value}])), [base, {"a": base}])
    assert same(to_base(value), base)


CURES = {
    "tuple": ((1,), "list(value)"),
    "set": ({1}, "sorted(value)"),
    "bytes": (b"", "value.hex()"),
    "datetime": (datetime(2026, 1, 2, tzinfo=UTC), "value.isoformat()"),
    "timedelta": (timedelta(1), "value.total_seconds()"),
    "UUID": (UUID(int=1), "str(value)"),
    "Decimal": (Decimal(1), "str(value)"),
    "Enum": (Colour.RED, "member.value"),
    "UserDict": (UserDict(), "dict(value)"),
    "generator": (iter([]), "list(value)"),
    "dataclass": (Limits(), "dataclasses.asdict(value)"),
    "object": (object(), "Use str, int"),
}


@pytest.mark.parametrize(("value", "cure"), CURES.values(), ids=CURES.keys())
def test_a_refusal_says_what_to_store_instead(value: Any, cure: str) -> None:
    """A refusal names the type, and the expression that makes something of it that is stored."""
    with pytest.raises(SessionValueError) as caught:
        encode(value)
    assert type(value).__name__ in str(caught.value)
    assert cure in str(caught.value)


def test_a_pydantic_model_is_refused_with_its_own_method() -> None:
    """A pydantic model is told to dump itself as JSON."""

    class User(pydantic.BaseModel):
        name: str

    with pytest.raises(SessionValueError, match=r"model_dump\(mode=.json.\)"):
        encode(User(name="ada"))


JSON = {
    "tuple": ((1, (2,)), [1, [2]]),
    "int keys": (
        {1: "a", None: "b", False: "c", 1.5: "d"},
        {"1": "a", "null": "b", "false": "c", "1.5": "d"},
    ),
    "NaN": (float("nan"), None),
    "infinity in a list": ([float("-inf")], [None]),
    "subclasses": (OrderedDict(a=(Text("x"),)), {"a": ["x"]}),
    "a named tuple": (Point(1, 2), [1, 2]),
    "text": ("true", "true"),
}


@pytest.mark.parametrize(("value", "stored"), JSON.values(), ids=JSON.keys())
def test_as_json_a_value_becomes_what_json_makes_of_it(value: Any, stored: Any) -> None:
    """`encode_as_json` accepts what Starlette's middleware accepts."""
    assert same(decode(encode_as_json(value)), stored)


@pytest.mark.parametrize(
    "value",
    [{1}, b"x", object(), {(1,): 2}, [{"a": {1}}], nested(10_000), ring(), "\ud800", 10**5_000],
    ids=lambda value: type(value).__name__,
)
def test_as_json_what_json_refuses_is_refused(value: Any) -> None:
    """The refusal is the one that says what to store instead."""
    with pytest.raises(SessionValueError) as caught:
        encode_as_json(value)
    assert is_helpful(str(caught.value))


def test_a_refusal_says_where_the_value_is() -> None:
    """The place is that of the first value that is refused; keys are not shown."""
    assert place_of_refusal([1, ("a", "b")]) == "[1]"
    assert place_of_refusal({"flashes": [["info", {1}]]}) == "[...][0][1]"
    assert place_of_refusal((1,)) == ""
    assert place_of_refusal({1: 1}) == ""


def test_a_dataclass_or_msgspec_like_object_is_not_turned_into_a_dict() -> None:
    """What msgspec could encode by itself is refused too, because it would come back as a dict."""

    class Model:
        def __init__(self) -> None:
            self.name = "ada"

    with pytest.raises(SessionValueError, match="Model"):
        encode([Model()])


def test_errors_do_not_carry_the_value() -> None:
    """A message names a type and a cure, never what the app wanted to store."""
    for value in (b"hush", ("hush",), {"hush"}, {("hush",): 1}, "hush\ud800"):
        with pytest.raises(SessionValueError) as caught:
            encode({"a": value})
        assert "hush" not in str(caught.value)


def test_a_value_is_not_altered_by_encoding() -> None:
    """Encoding neither sorts nor copies: the app's own value stays as it was."""
    value: dict[str, Any] = {"b": [1, {"z": 1, "a": 2}], "a": -0.0}
    before = json.dumps(value)
    encode(value)
    assert json.dumps(value) == before


def test_the_recursion_limit_is_never_reached() -> None:
    """Refusing deep nesting takes no deep recursion: it works close to the interpreter's limit."""

    def dive(levels: int) -> None:
        if levels:
            dive(levels - 1)
        else:
            with pytest.raises(SessionValueError):
                encode(nested(10_000))

    dive(sys.getrecursionlimit() - 250)


# --- Bytes from elsewhere ---


def decodes_or_refuses(raw: bytes) -> None:
    try:
        value = decode(raw)
    except CorruptValue:
        return
    try:
        again = encode(value)
    except SessionValueError:
        return
    assert same(decode(again), value)


@settings(relaxed, max_examples=examples(2_000))
@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"[" * 500 + b"]" * 500)
@example(b"1e999")
@example(b"-")
@example(b"-0")
@example(b"'")
@example(b"'\xff")
@example(b'["\\ud800"]')
@example(b'{"\\udc00":1}')
@example(b"1" * 4_301)
@example(b"[" + b"9" * 100_000 + b"]")
@example(b"0." + b"1" * 100_000)
@example(b"\xef\xbb\xbf[1]")
@example(b'{"a":1,"a":2}')
@example(b"\x80\x04K\x01.")
def test_arbitrary_bytes_are_decoded_or_corrupt(raw: bytes) -> None:
    """`decode` returns a value that could be stored, or raises `CorruptValue`, and nothing else."""
    decodes_or_refuses(raw)


JSON_PIECES = [
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b'"',
        b"'",
        b"\\",
        b"\\u",
        b"d800",
        b"-",
        b".",
        b"e",
        b"E",
    ),
    *(b"true", b"false", b"null", b"NaN", b"Infinity", b"0", b"1", b"9" * 30, b'"a"', b" ", b"\n"),
    *(b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"//", b"/*", b"+"),
]


@settings(relaxed, max_examples=examples(1_500))
@given(st.lists(st.sampled_from(JSON_PIECES), max_size=15).map(b"".join))
def test_heaps_of_json_pieces_are_decoded_or_corrupt(raw: bytes) -> None:
    """Almost-JSON never raises anything but `CorruptValue`."""
    decodes_or_refuses(raw)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The encoding of a value, with a few bytes cut, doubled, changed or put in."""
    raw = bytearray(encode(draw(values)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.sampled_from(["cut", "drop", "put", "flip", "double"])):
            case "cut":
                del raw[at:]
            case "drop":
                del raw[at : at + draw(st.integers(1, 3))]
            case "put":
                raw[at:at] = draw(st.sampled_from(JSON_PIECES))
            case "flip" if at < len(raw):
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "double":
                raw[at:at] = raw[:at]
    return bytes(raw)


@settings(relaxed, max_examples=examples(1_500))
@given(mutated())
def test_damaged_encodings_are_decoded_or_corrupt(raw: bytes) -> None:
    """A field that was damaged in Redis is another value or corrupt, never an unknown error."""
    decodes_or_refuses(raw)


def decoded(raw: bytes) -> tuple[bool, Any]:
    """Whether these bytes can be decoded, and the value."""
    try:
        return True, decode(raw)
    except CorruptValue:
        return False, None


def is_text(raw: bytes) -> bool:
    try:
        return raw.decode() is not None
    except UnicodeDecodeError:
        return False


_metadata = st.binary(max_size=6).map(b"@".__add__)
_sound = st.tuples(names.map(str.encode), values.map(encode))
_doubtful = st.tuples(st.binary(max_size=3), st.one_of(st.binary(max_size=8), mutated()))


@settings(relaxed, max_examples=examples(600))
@given(
    st.one_of(
        st.lists(st.one_of(_sound, st.tuples(_metadata, st.binary(max_size=8)))),
        st.builds(list.__add__, st.lists(_sound, max_size=4), st.lists(_doubtful, max_size=2)),
    )
)
@example([(b"a", b"1"), (b"@\xff", b"\xff"), (b"b", b"")])
@example([(b"a", b"1"), (b"\xff", b"1")])
@example([(b"a", b"1"), (b"", b"1")])
@example([(b"a", b"1"), (b"b", b"\xff")])
@example([(b"a", b"1"), (b"b", b"[1")])
@example([(b"b", b"NaN"), (b"a", b"1")])
def test_a_hash_is_decoded_if_each_of_its_fields_is(pairs: list[tuple[bytes, bytes]]) -> None:
    """
    A whole hash gives the value of every field that is not ours, whatever ours hold, and is
    corrupt if one name is empty or no text, or one value can't be decoded.
    """
    fields = dict(pairs)
    theirs = {name: decoded(raw) for name, raw in fields.items() if not name.startswith(b"@")}
    if all(name and is_text(name) and is_sound for name, (is_sound, _) in theirs.items()):
        found = StoredHash(fields)
        assert same(found.values, {name.decode(): value for name, (_, value) in theirs.items()})
        assert found.raws == fields
    else:
        with pytest.raises(CorruptValue):
            StoredHash(fields)


def test_a_field_without_a_name_is_not_ours() -> None:
    """Nobody can write one through a session, so whoever did has written other things as well."""
    with pytest.raises(CorruptValue, match="name is empty"):
        StoredHash({b"user": b"ada", b"": b"x"})


@settings(relaxed, max_examples=examples(300))
@given(st.dictionaries(names, values, max_size=6))
def test_a_hash_of_ours_comes_back_whole(fields: dict[str, Any]) -> None:
    """Fields and metadata come apart again, in the order in which Redis lists them."""
    encoded = {name.encode(): encode(value) for name, value in fields.items()}
    stored = {b"@v": b"1", **encoded, b"@created": b"7"}
    found = StoredHash(stored)
    assert same(found.values, fields)
    assert found.raws == stored


# --- Names ---


@pytest.mark.parametrize(
    "name",
    ["", "@", "@v", "@user", "@ x", "\ud800", "a\udfff", 1, None, True, 1.5, b"cart", ("a",)],
    ids=ascii,
)
def test_bad_names_are_refused(name: object) -> None:
    """A name that is empty, reserved, not a str or not text is refused, naming the cure."""
    with pytest.raises(SessionValueError) as caught:
        check_name(name)
    assert is_helpful(str(caught.value))


def test_a_str_subclass_is_a_name() -> None:
    """A member of a StrEnum, for instance, names the same field as its text."""
    assert same(check_name(Text("cart")), "cart")
    assert same(check_name(Word.YES), "yes")


@settings(relaxed, max_examples=examples(300))
@given(names)
def test_every_other_name_is_allowed(name: str) -> None:
    """Blanks, colons, NUL, quotes and emoji are fine in a name."""
    assert check_name(name) is name
