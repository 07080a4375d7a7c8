"""Every operator, against a walk over all sessions."""

import asyncio
import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_redis_session import SessionStore, Tag
from asgi_redis_session.search.filters import Filter

from ..support.examples import examples
from ..support.search import HOSTILE, NOTE, TOTAL, found, indexed, put
from ..support.values import NASTY_TEXTS, floats, same

pytestmark = pytest.mark.on_cluster

Fields = dict[str, Any]


Case = tuple[Filter, Callable[[Fields], bool]]


_texts = st.one_of(
    st.sampled_from([text for text in [*HOSTILE, *NASTY_TEXTS] if len(text) < 100]),
    st.sampled_from(["a", "A", "b", "acme", "ACME", "x" * 150, "x" * 151]),
)


_tags = st.one_of(
    _texts, st.integers(-2, 2), st.booleans(), st.none(), st.sampled_from([0.0, -0.0, 1.0, 1e22])
)


_numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53 - 1, 1 - 2**53, 2**53 - 2, 0.1, 0.5, -0.0, 5e-324, 1e308, 1e-7]),
    floats,
)


_words = st.lists(
    st.sampled_from(["red", "Red", "straße", "STRASSE", "ﬁne", "😀", "日本", "a_b", "1.5", "x-y"]),
    min_size=1,
    max_size=3,
).map(", ".join)


_sessions = st.fixed_dictionaries(
    {},
    optional={
        "tenant": _tags,
        "skus": st.lists(_tags, max_size=4),
        "total": st.one_of(_numbers, st.none()),
        "note": st.one_of(_words, _texts, st.none()),
    },
)


def values_of(fields: Fields, name: str) -> list[Any]:
    if name not in fields:
        return []
    value = fields[name]
    return value if isinstance(value, list) else [value]


#: What stands between words, beside blanks; nothing else does.
_PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~¡§«¶·»¿") | {
    chr(code)
    for first, last in ((0x2010, 0x205E), (0x3001, 0x3011), (0xFF01, 0xFF0F))
    for code in range(first, last + 1)
}


def words_of(text: Any) -> set[str]:
    """The words of a text, letter by letter."""
    letters = unicodedata.normalize("NFKC", text or "").casefold()
    spaced = "".join(" " if letter in _PUNCTUATION else letter for letter in letters)
    return {unicodedata.normalize("NFC", word) for word in spaced.split()}


def different(fields: Fields, name: str) -> list[Any]:
    """The values of a field, without repetitions."""
    values = values_of(fields, name)
    return [one for n, one in enumerate(values) if not any(same(one, v) for v in values[:n])]


def has(fields: Fields, name: str, wanted: list[Any]) -> bool:
    return any(same(value, one) for value in values_of(fields, name) for one in wanted)


def number_in(fields: Fields, test: Callable[[Any], bool]) -> bool:
    value = fields.get("total")
    return value is not None and test(value)


def _of_tags(name: str, one: Any, more: list[Any]) -> list[Case]:
    field = Tag(name)
    return [
        (field == one, lambda fields: has(fields, name, [one])),
        (field != one, lambda fields: not has(fields, name, [one])),
        (field.in_(more), lambda fields: has(fields, name, more)),
        (field.contains_any(more), lambda fields: has(fields, name, more)),
    ]


def _of_numbers(low: float, high: float) -> list[Case]:
    return [
        (TOTAL == low, lambda f: number_in(f, lambda n: n == low)),
        (TOTAL != low, lambda f: not number_in(f, lambda n: n == low)),
        (TOTAL < low, lambda f: number_in(f, lambda n: n < low)),
        (TOTAL <= low, lambda f: number_in(f, lambda n: n <= low)),
        (TOTAL > low, lambda f: number_in(f, lambda n: n > low)),
        (TOTAL >= low, lambda f: number_in(f, lambda n: n >= low)),
        (TOTAL.between(low, high), lambda f: number_in(f, lambda n: low <= n <= high)),
        (TOTAL.in_([low, high]), lambda f: number_in(f, lambda n: n in (low, high))),
    ]


def _of_words(one: str, other: str) -> list[Case]:
    def all_of(text: str, fields: Fields) -> bool:
        return words_of(text) <= words_of(fields.get("note"))

    return [
        (NOTE == one, lambda fields: all_of(one, fields)),
        (NOTE != one, lambda fields: not all_of(one, fields)),
        (NOTE.contains_any([one, other]), lambda f: all_of(one, f) or all_of(other, f)),
    ]


_searched = st.one_of(_words, _texts.filter(words_of))


#: One comparison, as a filter and as Python.
comparisons = st.one_of(
    st.builds(_of_tags, st.sampled_from(["tenant", "skus"]), _tags, st.lists(_tags, max_size=3)),
    st.builds(_of_numbers, _numbers, _numbers),
    st.builds(_of_words, _searched, _searched),
).flatmap(st.sampled_from)


def combined(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return st.one_of(
        st.tuples(inner, inner).map(
            lambda two: (two[0][0] & two[1][0], lambda f: two[0][1](f) and two[1][1](f))
        ),
        st.tuples(inner, inner).map(
            lambda two: (two[0][0] | two[1][0], lambda f: two[0][1](f) or two[1][1](f))
        ),
        inner.map(lambda one: (~one[0], lambda f: not one[1](f))),
    )


cases = st.recursive(comparisons, combined, max_leaves=6)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.needs_search
@pytest.mark.parametrize("protocol", [3, 2])
def test_every_operator_finds_what_a_walk_finds(
    session_redis_url: str, runner: asyncio.Runner, protocol: int
) -> None:
    """Filters of every kind, on sessions of every kind: the same handles, counts and groups."""
    url = f"{session_redis_url.partition('?')[0]}?protocol={protocol}"
    prefix = f"oracle-{secrets.token_hex(6)}"

    async def check(store: SessionStore, sessions: list[Fields], asked: list[Case]) -> None:
        stored = {(await put(store, **fields)).handle: fields for fields in sessions}
        try:
            for where, predicate in asked:
                expected = [str(handle) for handle in stored if predicate(stored[handle])]
                assert await found(store, where) == sorted(expected), where
                assert await store.search.count(where, exact=False) == len(expected)
            for exact in (True, False):
                counted = await store.search.count_by("skus", exact=exact)
                assert counted == Counter(item for f in sessions for item in different(f, "skus"))
        finally:
            for handle in stored:
                await store.revoke(str(handle))
        assert await found(store) == []

    @settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_sessions, max_size=6), st.lists(cases, min_size=1, max_size=6))
    def run(sessions: list[Fields], asked: list[Case]) -> None:
        runner.run(check(store, sessions, asked))

    context = indexed(url, prefix)
    store = runner.run(context.__aenter__())
    try:
        run()
    finally:
        runner.run(context.__aexit__(None, None, None))
