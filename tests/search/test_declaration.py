"""Declarations and filters: what they say, what they refuse, and the shadows that values cast."""

import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_redis_session import Num, SessionValueError, Tag, Text
from asgi_redis_session.engine.codec import encode
from asgi_redis_session.search.fields import decode_tag, encode_tag
from asgi_redis_session.search.index import Index

from ..support.values import NASTY_TEXTS, is_helpful, same, scalars

pytestmark = pytest.mark.anywhere

TENANT, TOTAL, NOTE = Tag("tenant"), Num("total"), Text("note")


INDEX = Index([TENANT, TOTAL, NOTE])


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (TENANT, "Tag('tenant')"),
        (TENANT == "acme", "Tag('tenant') == 'acme'"),
        (TENANT != "acme", "~(Tag('tenant') == 'acme')"),
        (TENANT.in_({"a": 1}.keys()), "Tag('tenant').in_(['a'])"),
        (TENANT.contains_any(["a", 1]), "Tag('tenant').contains_any(['a', 1])"),
        (TOTAL == 1, "Num('total') == 1"),
        (TOTAL != 1, "~(Num('total') == 1)"),
        (TOTAL < 1, "Num('total') < 1"),
        (TOTAL <= 1.5, "Num('total') <= 1.5"),
        (TOTAL > -1, "Num('total') > -1"),
        (1 <= TOTAL, "Num('total') >= 1"),
        (TOTAL.between(1, 2), "Num('total').between(1, 2)"),
        (TOTAL.in_([1, 2]), "Num('total').in_([1, 2])"),
        (NOTE == "two words", "Text('note') == 'two words'"),
        (NOTE != "word", "~(Text('note') == 'word')"),
        (NOTE.contains_any(["a b", "c"]), "Text('note').contains_any(['a b', 'c'])"),
        (~~(TOTAL < 1), "Num('total') < 1"),
        (
            (TENANT == "a") & (TOTAL < 1) & ~(NOTE == "x"),
            "(Tag('tenant') == 'a') & (Num('total') < 1) & (~(Text('note') == 'x'))",
        ),
        (
            ((TENANT == "a") | (TOTAL < 1)) & (TENANT == "b"),
            "((Tag('tenant') == 'a') | (Num('total') < 1)) & (Tag('tenant') == 'b')",
        ),
    ],
)
def test_filters_read_as_they_are_written(made: Any, shown: str) -> None:
    """The repr of a filter is the Python that makes it."""
    assert repr(made) == str(made) == shown
    names = {"Tag": Tag, "Num": Num, "Text": Text}
    assert repr(eval(shown, names)) == shown


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: TENANT == ["a"],
        lambda: TENANT == {"a": 1},
        lambda: TENANT == b"a",
        lambda: TENANT == Tag("tenant"),
        lambda: TENANT.in_("acme"),
        lambda: TENANT.in_(1),  # type: ignore[arg-type]
        lambda: TOTAL == "1",
        lambda: TOTAL > "1",
        lambda: TOTAL <= None,
        lambda: TOTAL == True,  # noqa: E712
        lambda: TOTAL.between(1, "2"),
        lambda: TOTAL.in_(["1"]),
        lambda: TOTAL < datetime.now(UTC),
        lambda: Num("@auth") < datetime(2026, 1, 1),  # noqa: DTZ001
        lambda: NOTE == 1,
        lambda: NOTE.contains_any("word"),
        lambda: NOTE.contains_any([1]),  # type: ignore[list-item]
        lambda: (TENANT == "a") & "b",
        lambda: (TENANT == "a") | TENANT,
        lambda: bool(TENANT == "a"),
        lambda: (TENANT == "a") and (TOTAL < 1),
        lambda: (TENANT == "a") or (TOTAL < 1),
        lambda: not (TOTAL < 1),
        lambda: 1 < TOTAL < 5,
        lambda: TENANT in [NOTE, TOTAL],
        lambda: INDEX.query("*"),  # type: ignore[arg-type]
        lambda: INDEX.query(TENANT),  # type: ignore[arg-type]
        lambda: Index(["tenant"]),  # type: ignore[list-item]
    ],
)
def test_misuse_is_refused_at_once(misuse: Any) -> None:
    """What Redis could only guess at is a TypeError that says what to write instead."""
    with pytest.raises(TypeError) as caught:
        misuse()
    cure = re.sub(r"\b(Convert|Combine|Put)\b", "Use", str(caught.value))
    assert is_helpful(cure)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: TENANT == "\ud800",
        lambda: TENANT == 10**5000,
        lambda: TENANT.in_(range(1001)),
        lambda: TOTAL == 2**53,
        lambda: TOTAL < math.nan,  # noqa: PLW0177
        lambda: TOTAL.between(0, math.inf),
        lambda: NOTE == "",
        lambda: NOTE == " ?!, ",
        lambda: NOTE == "\ud800",
        lambda: NOTE.contains_any(["word", ""]),
        lambda: Tag("@user") == "",
        lambda: Tag(""),
        lambda: Tag("@idle"),
        lambda: Num("@user"),
        lambda: Tag(1),  # type: ignore[arg-type]
        lambda: INDEX.query(Tag("other") == 1),
        lambda: INDEX.query(Num("tenant") == 1),
        lambda: INDEX.query((TENANT == 1) & ~(Text("total") == "x")),
        lambda: Index().query(TENANT == 1),
    ],
)
def test_what_cannot_be_found_is_refused(refused: Any) -> None:
    """A value that nothing can equal, and a field that is not indexed, are SessionValueErrors."""
    with pytest.raises(SessionValueError):
        refused()


def test_a_field_that_is_not_declared_is_told_the_others() -> None:
    """The message lists what is declared, by kind; metadata is always there."""
    with pytest.raises(SessionValueError) as caught:
        INDEX.query(Tag("teant") == 1)
    assert str(caught.value) == (
        "Tag('teant') is not in the index of this store, which has Tag('@user'), Tag('@ip'), "
        "Num('@created'), Num('@auth'), Tag('tenant'), Num('total'), Text('note'). Use one of "
        "these, or declare it in SessionStore(index=...)."
    )


def test_a_field_is_declared_once() -> None:
    """Two kinds of one field would be two answers to one question."""
    with pytest.raises(ValueError, match="declared twice"):
        Index([Tag("a"), Text("a")])


def test_deep_nesting_is_refused_and_long_chains_are_not() -> None:
    """A chain of a thousand is flat; what alternates a thousand levels deep is refused."""
    chain = TENANT == 0
    for number in range(1, 1000):
        chain |= TENANT == number
    text, params = INDEX.query(chain)
    assert (text.count("("), len(params)) == (1, 2002)
    deep = TENANT == 0
    for number in range(1000):
        deep = (deep | (TENANT == number)) & (TENANT == number)
    with pytest.raises(SessionValueError, match="nested too deeply"):
        INDEX.query(deep)


@given(st.one_of(st.text(), st.sampled_from(NASTY_TEXTS)))
def test_no_value_gets_into_the_text_of_a_query(value: str) -> None:
    """Whatever the value, the text is the same; the value is among the parameters."""
    text, params = INDEX.query((TENANT == value) & (TOTAL >= 1))
    assert text == "(@tenant:{$p0} @total:[$p1 +inf])"
    assert params == ["PARAMS", "4", "p0", encode_tag(encode(value)), "p1", "1"]


@given(scalars)
def test_a_tag_is_plain_and_can_be_read_back(value: Any) -> None:
    """Nothing but harmless ASCII, never empty, never long; and not a digest: the value again."""
    tag = encode_tag(encode(value))
    assert re.fullmatch(r"[A-Za-z0-9_.~%'@:/+-]{1,96}", tag)
    if not tag.startswith("%~"):
        assert same(decode_tag(tag), value)


@given(scalars, scalars)
def test_tags_differ_as_values_do(one: Any, other: Any) -> None:
    """Two values have the same tag only if they are the same value of the same type."""
    assert (encode_tag(encode(one)) == encode_tag(encode(other))) == same(one, other)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("acme", "acme"),
        ("SKU-1", "SKU-1"),
        ("it's 5 o'clock", "it's%205%20o'clock"),
        ("", "'"),
        ("7", "'7"),
        (7, "7"),
        (-1.5, "-1.5"),
        (True, "true"),
        (None, "null"),
        ("a,b\x1f", "a%2Cb%1F"),
        ("ü", "%C3%BC"),
        ("x" * 96, "x" * 96),
        ("x" * 97, "%~Gajwfut_PQwLc3fjfXLszeFEzv60S-rJwyJxMaUmaI0"),
    ],
)
def test_plain_words_stay_as_they_are(value: Any, tag: str) -> None:
    """What is short and plain can be read with redis-cli; a change here needs a new version."""
    assert encode_tag(encode(value)) == tag


def test_fields_have_aliases_without_special_characters() -> None:
    """Names that are plain stay, others are numbered; none can meet another."""
    index = Index([Tag("tenant"), Tag("Tenant"), Num("_4"), Tag('a b"]'), Text("x" * 65)])
    aliases = [index.alias(field) for field in index.declared.values()]
    assert aliases == ["tenant", "_5", "_6", "_7", "_8"]
    assert index.alias(Tag("@user")) == "_user"


def test_the_fingerprint_is_that_of_the_declaration() -> None:
    """Order does not matter; a field more, less, or of another kind does."""
    same_one = Index([NOTE, TENANT, TOTAL])
    assert same_one.fingerprint == INDEX.fingerprint
    others = [Index([TENANT, TOTAL]), Index([TENANT, TOTAL, Tag("note")]), Index([Tag("@user")])]
    assert len({index.fingerprint for index in (INDEX, *others)}) == 4


def test_the_index_of_nothing_is_false() -> None:
    """Without a declaration there are no shadows at all."""
    assert not Index()
    assert not Index().shadows
    assert Index().shadows.names == Index().shadows.sources == ()
    assert Index([Tag("@user")]).shadows.names == ("@#@user", "@#@ip")
