"""
Questions across sessions: every answer is compared with what a walk through the sessions finds.

On a server without Redis Search the tests that need it are skipped, and those at the end say what
is left.
"""

import asyncio
import os
import secrets
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_redis_session import (
    Backfill,
    Lifetime,
    Num,
    SearchUnavailable,
    Session,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
    Tag,
    Text,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.search.filters import Filter

from .conftest import needs_search
from .support.internals import (
    Send,
    around_scripts,
    id_of,
    index_names,
    limit_pages,
    limit_query_time,
    limit_rows,
    limit_sessions,
    open_session,
    requests_lane,
    write_shadows,
)
from .values import NASTY_TEXTS, floats, same

TENANT, SKUS, TOTAL, NOTE = Tag("tenant"), Tag("skus"), Num("total"), Text("note")
INDEX = (TENANT, SKUS, TOTAL, NOTE)
#: What an attacker would send as a value, to be found by more than its owner.
HOSTILE = [
    *("*", "a*", "%", "%%a%%", "$p0", "$v", "@user:{x}", "} | @tenant:{*", "a|b", "{a}", "a}"),
    *("[0 9]", "@tenant", "tenant", "+inf"),
    *("-", "-a", "~a", '"', '"a"', "\\", "a\\", "\\*", "=>[KNN 2 @v $b]", "(a)", "a) | (b", "w'*'"),
    *("' | *", "a,b", " a", "a ", "  ", "\t", "\n", "a\nb", "\x1f", "a\x1fb", "\x00", "a\x00", ""),
    *("é", "e\u0301", "日本", "😀", "A", "a", "null", "true", "1", "1.0", "-0", "%20", "'", "''"),
    *("x" * 4095, "x" * 4096, "x" * 4097, "y" * 10_240, "😀" * 2_560),
]  # fmt: skip

#: Names of fields that could be taken for something else.
NAMES = [
    *(
        "AS",
        "TAG",
        "SORTABLE",
        "*",
        "a b",
        'a"]',
        "a|b",
        "$p0",
        "@".join("ab"),
        "ünï",
        "😀",
        "\x00",
    ),
    *(
        "a\x00b",
        "'",
        "\\",
        "-",
        "(",
        "__score",
        "_v",
        "_t",
        "_4",
        "4",
        "Tenant",
        "tenant",
        "\n",
        "\x1f",
    ),
]


@asynccontextmanager
async def indexed(url: str, prefix: str, **options: Any) -> AsyncIterator[SessionStore]:
    """A store whose index exists, and is gone afterwards."""
    async with SessionStore.from_url(url, prefix=prefix, **{"index": INDEX, **options}) as store:
        await store.search.create_index()
        try:
            yield store
        finally:
            await store.search.drop_index()


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def shop(session_redis_url: str, prefix: str, request: Any) -> AsyncIterator[SessionStore]:
    """A store with an index of everything that these tests ask for."""
    url = session_redis_url.partition("?")[0]
    async with indexed(f"{url}?protocol={request.param}", prefix) as store:
        yield store


async def put(store: SessionStore, user: str | int | None = None, **fields: Any) -> Session:
    """A stored session with these fields."""
    session = await open_session(store).load()
    if user is not None:
        await session.login(user)
    session.update(fields)
    session.setdefault("stored", True)
    await session.save()
    return session


async def found(store: SessionStore, where: Filter | None = None) -> list[str]:
    """The handles that a filter finds; each once, and as many as are counted."""
    handles = [info.handle async for info in store.search.find(where)]
    assert len(set(handles)) == len(handles) == await store.search.count(where)
    return sorted(handles)


def handles(*sessions: Session) -> list[str]:
    return sorted(session.handle or "" for session in sessions)


# --- Against a brute-force oracle ---

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


@needs_search
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
            assert await store.search.revoke(Num("@created") >= 0) == len(sessions)
        assert await found(store) == []

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_sessions, max_size=6), st.lists(cases, min_size=1, max_size=6))
    def run(sessions: list[Fields], asked: list[Case]) -> None:
        runner.run(check(store, sessions, asked))

    context = indexed(url, prefix)
    store = runner.run(context.__aenter__())
    try:
        run()
    finally:
        runner.run(context.__aexit__(None, None, None))


# --- Exactly what was asked for ---


@needs_search
async def test_hostile_values_find_only_themselves(shop: SessionStore) -> None:
    """Each of them is found by itself, as a scalar, an item and a user, and finds nothing else."""
    values = [*HOSTILE, *[text for text in NASTY_TEXTS if text not in HOSTILE], 1, True, None, 1.0]
    sessions = [await put(shop, tenant=value, skus=["other", value]) for value in values]
    for value, session in zip(values, sessions, strict=True):
        for where in (TENANT == value, SKUS == value, TENANT.in_([value])):
            assert await found(shop, where) == handles(session), (value, where)
        assert await shop.search.count(~(TENANT == value)) == len(values) - 1
    counted = await shop.search.count_by("tenant")
    assert counted == Counter(values)
    assert {type(key) for key in counted} >= {str, type(None)}


@needs_search
async def test_fields_may_have_any_name(session_redis_url: str, prefix: str) -> None:
    """Names that would mean something to Redis Search, or to C, are indexed like others."""
    names = [*NAMES, *(f"{name}{name}" for name in NAMES), "x" * 300]
    async with indexed(session_redis_url, prefix, index=[Tag(name) for name in names]) as store:
        sessions = {name: await put(store, **{name: name}) for name in names}
        for name, session in sessions.items():
            assert await found(store, Tag(name) == name) == handles(session), name
            for exact in (True, False):
                assert await store.search.count_by(name, exact=exact) == {name: 1}, name
        assert await store.search.count(~(Tag("AS") == "AS")) == len(names) - 1


@needs_search
async def test_users_are_found_by_exactly_their_id(shop: SessionStore) -> None:
    """Ids with blanks, commas, separators, emoji or of 10 KB; an int is its digits."""
    users = [*(text for text in HOSTILE if text), "7 ", "7,8"]
    sessions = {user: await put(shop, user) for user in users}
    for user, session in sessions.items():
        assert await found(shop, Tag("@user") == user) == handles(session)
    seven = await put(shop, 7)
    assert await found(shop, Tag("@user").in_([7])) == handles(seven)
    assert await found(shop, Tag("@user") == "7") == handles(seven)
    assert await shop.search.count_by("@user") == dict.fromkeys([*users, "7"], 1)


@needs_search
async def test_metadata_can_be_asked_for(shop: SessionStore) -> None:
    """Who is logged in, from where, since when."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    anonymous = await put(shop)
    near = open_session(shop, origin=(("203.0.113.9", 1), ()))
    await near.login("ada")
    await near.save()
    far = open_session(shop, origin=(("2001:db8::1", 1), ()))
    await far.login("ada")
    await far.save()
    network = Tag("@ip").in_(map(str, ip_network("203.0.113.0/24")))
    assert await found(shop, network & (Tag("@user") == "ada")) == handles(near)
    assert await found(shop, Num("@auth") >= 0) == handles(near, far)
    assert await found(shop, ~(Num("@auth") >= 0)) == handles(anonymous)
    assert await found(shop, Num("@created") >= before) == handles(anonymous, near, far)
    assert await found(shop, Num("@created") < before) == []
    created = far.created_at
    assert created is not None
    assert set(handles(far)) <= set(await found(shop, Num("@created") == created))
    assert await shop.search.count_by(Tag("@ip")) == {"203.0.113.9": 1, "2001:db8::1": 1}


@needs_search
async def test_another_login_leaves_no_shadow_of_the_last(shop: SessionStore) -> None:
    """The same session, logged in from elsewhere or from nowhere known, is found there only."""
    session = open_session(shop, origin=(("192.0.2.1", 1), ()))
    await session.login("ada")
    await session.save()
    again = open_session(shop, id_of(session))
    await again.login("ada")
    await again.save()
    assert await found(shop, Tag("@ip") == "192.0.2.1") == []
    assert await found(shop, Tag("@user") == "ada") == handles(again)


@needs_search
async def test_other_apps_are_never_seen(session_redis_url: str, prefix: str, admin: Any) -> None:
    """Not those whose prefix begins with ours, nor hashes that are no sessions."""
    others = [f"{prefix}:x", f"{prefix}2", f"{prefix}:user", f"{prefix}:idx", "x"]
    async with indexed(session_redis_url, prefix) as store:
        for name in others:
            async with SessionStore.from_url(session_redis_url, prefix=name, index=INDEX) as other:
                await put(other, "ada", tenant="acme", total=1)
        for name in ("a" * 32, "x" * 31, "z" * 32, f"user:{'a' * 27}"):
            admin.hset(
                f"{prefix}:{name}", mapping={"@#tenant": "acme", "@#@user": "ada", "@+total": 1}
            )
        mine = await put(store, "ada", tenant="acme", total=2)
        for where in (None, TENANT == "acme", Tag("@user") == "ada", ~(TENANT == "x")):
            assert await found(store, where) == handles(mine)
        assert await store.search.count_by("tenant") == {"acme": 1}
        assert await store.search.sum_by("tenant", "total") == {"acme": 2}
        assert await store.search.revoke(TENANT == "acme") == 1
        for name in others:
            async with SessionStore.from_url(session_redis_url, prefix=name) as other:
                assert await other.users.count("ada") == 1


@needs_search
async def test_sums_are_those_of_the_numbers(shop: SessionStore) -> None:
    """By the value of a tag; sessions without either are left out."""
    for tenant, total in (("a", 1.5), ("a", 2), ("b", 2**53 - 1), ("b", None), ("c", None)):
        await put(shop, tenant=tenant, total=total)
    await put(shop, total=9)
    assert await shop.search.sum_by("tenant", "total") == {"a": 3.5, "b": 2**53 - 1}
    assert await shop.search.sum_by(TENANT, TOTAL, TOTAL < 2) == {"a": 1.5}


@needs_search
async def test_only_the_chosen_fields_are_read(shop: SessionStore) -> None:
    """`fields=` gives these and the description of the session; without it, all."""
    await put(shop, "ada", tenant="acme", total=1, secret="x")
    (chosen,) = [info async for info in shop.search.find(fields=["total", "absent"])]
    assert chosen.fields == {"total": 1}
    (whole,) = [info async for info in shop.search.find()]
    assert whole.fields == {"tenant": "acme", "total": 1, "secret": "x", "stored": True}
    assert (chosen.user_id, chosen.expires_at) == ("ada", whole.expires_at)
    (bare,) = [info async for info in shop.search.find(fields=())]
    assert bare.fields == {}
    for wrong in ("total", ["@user"], [""], [1]):
        with pytest.raises((TypeError, SessionValueError)):
            shop.search.find(fields=wrong)  # type: ignore[arg-type]


@needs_search
async def test_reading_does_not_count_as_use(shop: SessionStore, admin: Any) -> None:
    """A search leaves every TTL as it is."""
    session = await put(shop, tenant="acme")
    key = f"{shop.prefix}:{session.handle}"
    admin.pexpire(key, 60_000)
    await found(shop, TENANT == "acme")
    await shop.search.count_by("tenant")
    assert admin.pttl(key) <= 60_000


@needs_search
async def test_questions_travel_by_themselves(shop: SessionStore) -> None:
    """Neither the query nor the reading of what it finds is on the lane of the requests."""
    await put(shop, "ada", tenant="acme")
    requests = requests_lane(shop)
    before = requests.commands
    await found(shop, TENANT == "acme")
    await shop.search.create_index(backfill=True)
    await shop.search.revoke(TENANT == "acme")
    assert requests.commands == before


# --- What changes ---


@needs_search
async def test_a_commit_is_in_the_next_answer(shop: SessionStore) -> None:
    """Assignments, nested changes, removals and increments."""
    session = await put(shop, tenant="a", skus=["x"], total=1, note="red")
    session["tenant"] = "b"
    session["skus"].append("y")
    session["note"] = "blue"
    await session.save()
    await session.increment("total", 4)
    changed = (TENANT == "b") & (SKUS == "y") & (TOTAL == 5) & (NOTE == "blue")
    assert await found(shop, changed) == handles(session)
    assert await found(shop, (TENANT == "a") | (TOTAL == 1) | (NOTE == "red")) == []
    for name in ("tenant", "skus", "total", "note"):
        del session[name]
    await session.save()
    assert (
        await found(shop, (TENANT == "b") | (SKUS == "y") | (TOTAL == 5) | (NOTE == "blue")) == []
    )
    assert await found(shop, ~(TENANT == "b") & ~(TOTAL == 5)) == handles(session)


@needs_search
async def test_increments_keep_their_shadows(shop: SessionStore) -> None:
    """Of a Num, of a Tag, of an absent field, and of one that nothing was loaded of."""
    session = await put(shop, tenant=1)
    fresh = open_session(shop, id_of(session))
    assert await fresh.increment("tenant", 2) == 3
    assert await fresh.increment("total", -7) == -7
    assert await found(shop, (TENANT == 3) & (TOTAL == -7)) == handles(session)
    assert await found(shop, TENANT == 1) == []
    assert await shop.search.sum_by("tenant", "total") == {3: -7}


@needs_search
async def test_what_cannot_be_indexed_is_refused_by_name(shop: SessionStore, admin: Any) -> None:
    """At the assignment, at the commit for what is nested, and at the increment."""
    session = await put(shop, skus=["a"], total=2**53 - 1)
    for name, value in (
        ("tenant", {}),
        ("tenant", [["a"]]),
        ("skus", [{}]),
        ("total", "1"),
        ("total", True),
        ("total", [1]),
        ("total", 2**53),
        ("note", 1),
        ("note", ["a"]),
    ):
        with pytest.raises(SessionValueError, match=rf"session\['{name}'\].*takes.*Store"):
            session[name] = value
    assert not session.modified
    session["skus"].append({})
    with pytest.raises(SessionValueError, match=r"session\['skus'\].*takes"):
        await session.save()
    await session.reload()
    with pytest.raises(SessionValueError, match="2\\^53"):
        await session.increment("total")
    with pytest.raises(SessionValueError, match=r"session\['note'\].*takes a str"):
        await session.increment("note")
    assert await found(shop, (SKUS == "a") & (TOTAL == 2**53 - 1)) == handles(session)
    with pytest.raises(SessionValueError):
        await open_session(shop, id_of(session)).increment("note")
    with pytest.raises(SessionValueError, match=r"takes for the key's own\. Choose"):
        session["__key"] = f"{shop.prefix}:{'a' * 32}"
    with pytest.raises(SessionValueError, match="key's own"):
        await session.increment("__key")
    with pytest.raises(SessionValueError, match="key's own"):
        SessionStore.from_url("redis://127.0.0.1:1/0", index=[Tag("__key")])
    new = await open_session(shop).load()
    with pytest.raises(SessionValueError):
        await new.increment("note")


Ends = Callable[[SessionStore, Session], Awaitable[Any]]


async def _clear(store: SessionStore, session: Session) -> None:
    session.clear()
    await session.save()


async def _over_the_limit(store: SessionStore, session: Session) -> None:
    limit_sessions(store, 1)
    await put(store, "ada", tenant="other")


@needs_search
@pytest.mark.parametrize(
    "ends",
    [
        lambda store, session: session.logout(),
        lambda store, session: store.revoke(session.handle),
        lambda store, session: store.users.revoke("ada", session.handle),
        lambda store, session: store.users.revoke_all("ada"),
        lambda store, session: store.search.revoke(TENANT == "acme"),
        _clear,
        _over_the_limit,
    ],
    ids=["logout", "revoke", "users.revoke", "revoke_all", "search.revoke", "clear", "limit"],
)
async def test_a_session_that_was_ended_is_not_found(shop: SessionStore, ends: Ends) -> None:
    """By whatever path it ends: the next answer is without it, and so is its user's list."""
    session = await put(shop, "ada", tenant="acme", total=1)
    await ends(shop, session)
    assert await found(shop, TENANT == "acme") == []
    assert await shop.search.count(TENANT == "acme", exact=False) == 0
    assert "acme" not in await shop.search.count_by("tenant", exact=False)
    assert await shop.users.count("ada") == await shop.search.count(Tag("@user") == "ada")


@needs_search
async def test_a_session_with_a_new_id_is_found_once(shop: SessionStore) -> None:
    """Renewed, or logged in: the same fields under the new handle, none under the old."""
    session = await put(shop, tenant="acme")
    old = session.handle
    session.renew()
    await session.save()
    assert await found(shop, TENANT == "acme") == handles(session) != [old]
    await session.login("ada")
    session["total"] = 5
    await session.save()
    assert await found(shop, (TENANT == "acme") & (TOTAL == 5)) == handles(session)
    await session.login("eve")
    await session.save()
    assert await found(shop, TENANT == "acme") == []
    assert await found(shop, Tag("@user").in_(["ada", "eve"])) == handles(session)


@needs_search
async def test_the_expired_are_not_there(shop: SessionStore, admin: Any) -> None:
    """Though Redis has not reaped them, no exact answer knows them, nor are they revoked."""
    admin.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        dying = [await put(shop, tenant="acme", total=1) for _ in range(5)]
        alive = await put(shop, tenant="acme", total=2)
        for session in dying:
            admin.pexpire(f"{shop.prefix}:{session.handle}", 1)
        await asyncio.sleep(0.01)
        for where in (None, TENANT == "acme", ~(TENANT == "x"), TOTAL >= 1):
            assert await found(shop, where) == handles(alive)
        assert await shop.search.count_by("tenant") == {"acme": 1}
        assert await shop.search.sum_by("tenant", "total") == {"acme": 2}
        assert await shop.search.count(TOTAL == 1) == 0
        assert await shop.search.count_by("tenant", TOTAL == 1) == {}
        # What is not exact says so: that is what makes it fast.
        assert await shop.search.count(TENANT == "acme", exact=False) == 6
        assert await shop.search.count_by("tenant", exact=False) == {"acme": 6}
        assert await shop.search.revoke(TENANT == "acme") == 1
    finally:
        admin.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def plant(admin: Any, prefix: str, count: int, **fields: Any) -> list[str]:
    """Sessions as a commit would leave them, faster."""
    pipeline, planted = admin.pipeline(transaction=False), []
    for number in range(count):
        handle = secrets.token_hex(16)
        pipeline.hset(
            f"{prefix}:{handle}",
            mapping={"@v": 1, "@created": 1_795_000_000_000 + number // 3, **fields},
        )
        pipeline.pexpire(f"{prefix}:{handle}", 600_000)
        planted.append(handle)
    pipeline.execute()
    return planted


@needs_search
@pytest.mark.parametrize("where", [None, TENANT == "acme", ~(SKUS == "none"), TOTAL >= 0], ids=str)
async def test_what_is_written_meanwhile_is_neither_missed_nor_met_twice(
    shop: SessionStore, admin: Any, monkeypatch: pytest.MonkeyPatch, where: Filter | None
) -> None:
    """A session that matches all the time is found once, however often it is indexed anew."""
    limit_pages(monkeypatch, first=2, others=20)
    shadows = {"@#tenant": "acme", "@+total": 1, "tenant": "acme", "total": 1}
    planted = plant(admin, shop.prefix, 300, **shadows)
    seen, number = [], 0
    async for info in shop.search.find(where, fields=()):
        seen.append(info.handle)
        for handle in planted[number % 29 :: 29]:
            admin.hset(f"{shop.prefix}:{handle}", "@+total", number)
        number += 1
        if number == 100:  # new ones may be met or not, and make nobody miss
            plant(admin, shop.prefix, 50, **shadows)
    assert len(set(seen)) == len(seen)
    assert set(planted) <= set(seen)
    for handle in planted:
        admin.delete(f"{shop.prefix}:{handle}")


@needs_search
async def test_many_sessions_of_one_instant_are_found(
    shop: SessionStore, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of time that can't be cut any further may have more than a page."""
    limit_pages(monkeypatch, first=2, others=5)
    planted = [
        handle
        for _ in range(30)  # of three each, all with the same times
        for handle in plant(admin, shop.prefix, 3)
    ]
    assert await found(shop) == sorted(planted)
    assert await shop.search.revoke(Num("@created") < 1_800_000_000_000) == 90


@needs_search
async def test_an_answer_that_would_be_too_long_is_an_error(
    shop: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither groups nor sessions are left out quietly."""
    limit_rows(monkeypatch, 2)
    for tenant in ("a", "b"):
        await put(shop, tenant=tenant)
    assert await shop.search.count_by("tenant") == {"a": 1, "b": 1}
    await put(shop, tenant="c")
    with pytest.raises(SearchUnavailable, match="more than 2 rows"):
        await shop.search.count_by("tenant")
    with pytest.raises(SearchUnavailable, match="more than 2 rows"):
        await found(shop)


@needs_search
async def test_revoke_misses_none_that_is_renewed_meanwhile(
    shop: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that flee to new ids while they are revoked are all ended, places included."""
    limit_pages(monkeypatch, first=2, others=3)
    sessions = [await put(shop, "ada", tenant="acme") for _ in range(30)]

    async def flee(session: Session) -> None:
        for _ in range(3):
            session.renew()
            await session.save()

    _, ended = await asyncio.gather(
        asyncio.gather(*map(flee, sessions), return_exceptions=True),
        shop.search.revoke(TENANT == "acme"),
    )
    assert ended == 30
    assert await found(shop) == []
    assert await shop.users.count("ada") == 0
    assert await shop.search.revoke(TENANT == "acme") == 0


@needs_search
async def test_revoke_needs_a_filter(shop: SessionStore) -> None:
    """Ending everything has to be said."""
    await put(shop)
    with pytest.raises(TypeError, match="To end all sessions, say so"):
        await shop.search.revoke(None)  # type: ignore[arg-type]
    assert await shop.search.count() == 1


@needs_search
async def test_undeclared_fields_are_refused_before_anything_is_sent(shop: SessionStore) -> None:
    """Each verb names what is declared."""
    other, number = Tag("other"), Num("other")
    asked: list[Callable[[], Any]] = [
        lambda: shop.search.count(other == 1),
        lambda: shop.search.count_by("other"),
        lambda: shop.search.count_by("total"),
        lambda: shop.search.count_by("tenant", other == 1),
        lambda: shop.search.sum_by("tenant", "other"),
        lambda: shop.search.sum_by("tenant", number),
        lambda: shop.search.revoke(number == 1),
    ]
    for ask in asked:
        with pytest.raises(SessionValueError, match=r"not in the index .* Tag\('tenant'\)"):
            await ask()
    with pytest.raises(SessionValueError, match="not in the index"):
        shop.search.find(other == 1)
    with pytest.raises(TypeError, match="counted by a Tag"):
        await shop.search.count_by(TOTAL)  # type: ignore[arg-type]


# --- The index itself ---


@needs_search
async def test_create_index_can_be_called_again(shop: SessionStore) -> None:
    """It finds what it made and leaves it alone; two at once make one."""
    await put(shop, tenant="acme")
    status = await shop.search.create_index()
    assert await shop.search.create_index() == status == await shop.search.status()
    assert (status.documents, status.failures, status.progress) == (1, 0, 1)
    assert status.memory > 0
    await shop.search.drop_index()
    one, other = await asyncio.gather(shop.search.create_index(), shop.search.create_index())
    assert one.name == other.name
    assert await shop.search.count() == 1


@needs_search
async def test_check_looks_at_the_index(shop: SessionStore, admin: Any) -> None:
    """It says how many are indexed, what could not be, and that there is no index."""

    async def finding() -> tuple[str, str]:
        (found,) = [one for one in (await shop.check()).findings if one.name == "index"]
        return found.level, found.message

    await put(shop, tenant="acme")
    assert await finding() == ("ok", "1 sessions are indexed.")
    planted = f"{shop.prefix}:{'0' * 32}"
    admin.hset(planted, mapping={"@v": 1, "@created": "then"})
    admin.pexpire(planted, 60_000)
    level, message = await finding()
    assert level == "problem"
    assert message.startswith("1 hashes could not be indexed")
    await shop.search.drop_index()
    assert (await finding())[0] == "problem"


@needs_search
async def test_a_changed_declaration_is_noticed(session_redis_url: str, prefix: str) -> None:
    """It is said, by create_index and by every question, until the index is rebuilt."""
    async with indexed(session_redis_url, prefix) as old:
        session = await put(old, tenant="acme", plan="pro")
        async with SessionStore.from_url(
            session_redis_url, prefix=prefix, index=[TENANT, Tag("plan")]
        ) as new:
            for ask in (new.search.create_index, new.search.count, new.search.status):
                with pytest.raises(SearchUnavailable, match="another declaration"):
                    await ask()
            assert await found(old, TENANT == "acme") == handles(session)
            await new.search.create_index(rebuild=True, backfill=True)
            assert await found(new, Tag("plan") == "pro") == handles(session)
            with pytest.raises(SearchUnavailable, match="another declaration"):
                await old.search.count(TENANT == "acme")
            assert len(await index_names(new)) == 1


@needs_search
async def test_no_answer_is_short_while_an_index_is_rebuilt(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Questions go on being answered by the old index until the new one is complete."""
    async with indexed(session_redis_url, prefix) as store:
        plant(admin, prefix, 5000, **{"@#tenant": "acme"})
        before = await store.search.status()
        rebuilding = asyncio.create_task(store.search.create_index(rebuild=True))
        counts = set()
        while not rebuilding.done():
            counts.add(await store.search.count(TENANT == "acme"))
            await asyncio.sleep(0)
        after = await rebuilding
        assert counts == {5000}
        assert after.name != before.name
        assert after.documents == before.documents == 5000
        assert await store.search.revoke(TENANT == "acme") == 5000


@needs_search
async def test_an_index_that_is_being_built_says_so(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Before it is complete there is no answer, and the message tells how far it is."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        with pytest.raises(SearchUnavailable, match=r"have no index yet.*create_index"):
            await store.search.count()
        plant(admin, prefix, 10_000, **{"@#tenant": "acme"})
        messages: set[str] = set()
        for _ in range(20):  # Redis may be done before we have asked once
            creating = asyncio.create_task(store.search.create_index())
            while not creating.done():
                try:
                    assert await store.search.count() == 10_000
                except SearchUnavailable as error:
                    messages.add(str(error).partition(",")[0])
                with suppress(SearchUnavailable):
                    assert (await store.search.status()).progress == 1
            await creating
            if "The index is being built" in messages:
                break
            await store.search.drop_index()
        assert messages >= {"The index is being built"}
        assert await store.search.count() == 10_000
        await store.search.revoke(TENANT == "acme")
        await store.search.drop_index()


@needs_search
async def test_without_its_index_only_search_is_away(shop: SessionStore) -> None:
    """An index that is dropped under way is missed by questions, and by nobody else."""
    session = await put(shop, "ada", tenant="acme")
    assert await shop.search.drop_index()
    assert not await shop.search.drop_index()
    with pytest.raises(SearchUnavailable, match=r"no index yet"):
        await shop.search.count()
    session["tenant"] = "b"
    await session.save()
    assert await shop.users.count("ada") == 1
    await shop.search.create_index()
    assert await found(shop, TENANT == "b") == handles(session)


@needs_search
async def test_indexing_failures_are_reported(
    shop: SessionStore, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """We write nothing that can't be indexed; what somebody else planted is counted and told."""
    admin.hset(f"{shop.prefix}:{'a' * 32}", mapping={"@created": 1, "@+total": "many"})
    status = await shop.search.create_index()
    assert status.failures == (await shop.search.status()).failures == 1
    assert "1 hashes could not be indexed" in caplog.text
    admin.delete(f"{shop.prefix}:{'a' * 32}")


@needs_search
async def test_a_query_that_was_stopped_is_an_error(shop: SessionStore, admin: Any) -> None:
    """Redis would return a part of the answer; nobody gets to see it, in RESP2 and RESP3."""
    plant(admin, shop.prefix, 10_000, **{"@#tenant": "acme"})
    limit_query_time(shop, 1)
    for ask in (shop.search.count, lambda: shop.search.count_by("tenant")):
        with pytest.raises(SearchUnavailable, match="its answer is incomplete"):
            await ask()
    limit_query_time(shop, 5000)
    assert await shop.search.revoke(TENANT == "acme") == 10_000


# --- Sessions from before ---


@needs_search
async def test_older_sessions_are_found_after_a_backfill(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """With the TTL that they had; what could not be indexed today is found by its other fields."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as before:
        old = await put(before, "ada, b", tenant="acme", skus=["a", "b"], total=5, note="Red")
        odd = await put(before, tenant={"a": 1}, skus=["a", []], total="many", note=7)
        for session in (old, odd):
            admin.pexpire(f"{prefix}:{session.handle}", 50_000)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        await store.search.create_index()
        assert await found(store, TENANT == "acme") == []
        steps: list[Backfill] = []
        await store.search.create_index(backfill=True, progress=steps.append)
        where = (TENANT == "acme") & (SKUS == "b") & (TOTAL == 5) & (NOTE == "red")
        assert await found(store, where & (Tag("@user") == "ada, b")) == handles(old)
        assert await found(store, ~(TENANT == "acme")) == handles(odd)
        assert steps[-1].cursor == 0
        assert steps[-1].written == 1  # of the odd one there is nothing to write
        assert steps[-1].scanned >= 4  # twice: the second time finds nothing left
        assert admin.pttl(f"{prefix}:{old.handle}") <= 50_000
        await store.search.create_index(backfill=True, progress=steps.append)
        assert steps[-1].written == 0
        await store.search.drop_index()


@needs_search
async def test_a_backfill_goes_on_where_it_was_interrupted(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """What was done is not done again, and nothing is left out."""
    raw = {"tenant": "acme"}
    plant(admin, prefix, 1000, **raw)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        steps: list[Backfill] = []

        def interrupt(step: Backfill) -> None:
            steps.append(step)
            if step.written >= 200:
                raise KeyError("interrupted")

        with pytest.raises(KeyError):
            await store.search.create_index(backfill=True, progress=interrupt)
        first = steps[-1]
        assert 200 <= first.written < 1000
        await store.search.create_index(backfill=True, resume=first.cursor, progress=steps.append)
        assert first.written + steps[-1].written == 1000
        assert await store.search.count(TENANT == "acme") == 1000
        await store.search.revoke(TENANT == "acme")
        await store.search.drop_index()


@needs_search
async def test_a_backfill_never_undoes_a_commit(shop: SessionStore, admin: Any) -> None:
    """A shadow that was made of what has changed meanwhile is not written; nothing comes back."""
    session = await put(shop, tenant="a")
    key = f"{shop.prefix}:{session.handle}"
    admin.hdel(key, "@#tenant")
    reads = 0

    async def write_between(_: str, send: Send) -> Any:
        nonlocal reads
        reply = await send()
        reads += 1
        if reads == 1:  # read, and not written yet
            session["tenant"] = "b"
            await session.save()
        return reply

    stop = around_scripts(shop, write_between)
    await write_shadows(shop, session.handle or "")
    stop()
    assert reads > 1
    assert admin.hget(key, "@#tenant") == b"b"

    admin.hdel(key, "@#tenant")

    async def end_between(_: str, send: Send) -> Any:
        reply = await send()
        admin.delete(key)
        return reply

    stop = around_scripts(shop, end_between)
    assert not await write_shadows(shop, session.handle or "")
    stop()
    assert admin.exists(key) == 0


@needs_search
async def test_shadows_of_the_past_are_put_right(session_redis_url: str, prefix: str) -> None:
    """What a process without the declaration has changed is found as it is, after a backfill."""
    async with indexed(session_redis_url, prefix) as store:
        session = await put(store, tenant="a", skus=["x"])
        async with SessionStore.from_url(session_redis_url, prefix=prefix) as other:
            again = await open_session(other, id_of(session)).load()
            again["tenant"] = "b"
            del again["skus"]
            await again.save()
        await store.search.create_index(backfill=True)
        assert await found(store, TENANT == "b") == handles(session)
        assert await found(store, (TENANT == "a") | (SKUS == "x")) == []


# --- Without Search ---


async def test_nothing_declared_is_nothing_to_search_by(store: SessionStore) -> None:
    """`index=()`: each verb says what to declare, and no shadow is written."""
    for ask in (store.search.count, store.search.create_index, store.search.status):
        with pytest.raises(SearchUnavailable, match=r"SessionStore\(index=\(\)\)"):
            await ask()
    with pytest.raises(SearchUnavailable):
        await anext(aiter(store.search.find()))


async def test_a_server_without_search_is_told_apart(prefix: str) -> None:
    """All else works, with the declaration and its checks; questions say what to install."""
    binary = os.environ.get("SESSION_TEST_SERVER")
    with DevServer(binary=binary, search=False) as server:
        async with SessionStore.from_url(server.url, prefix=prefix, index=INDEX) as store:
            session = await put(store, "ada", tenant="acme", skus=["a"], total=1)
            assert await session.increment("total") == 2
            with pytest.raises(SessionValueError):
                session["total"] = "x"
            assert await store.users.count("ada") == 1
            for ask in (
                store.search.count,
                store.search.create_index,
                store.search.status,
                lambda: store.search.revoke(TENANT == "acme"),
            ):
                with pytest.raises(SearchUnavailable, match=r"has no Search.*Redis 8"):
                    await ask()
            assert await store.users.revoke_all("ada") == 1


async def test_a_server_that_is_away_is_no_matter_of_search() -> None:
    """Then it is SessionUnavailable, as for every other verb."""
    async with SessionStore.from_url("redis://127.0.0.1:1/0", index=INDEX, timeout=0.5) as store:
        with pytest.raises(SessionUnavailable):
            await store.search.count()


async def test_an_index_does_not_change_what_an_app_sees(
    session_redis_url: str, prefix: str
) -> None:
    """Shadows are metadata: no field, no item of a list of sessions, and within the limits."""
    lifetime = Lifetime(idle=60)
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, index=INDEX, lifetime=lifetime
    ) as store:
        session = await put(store, "ada", tenant="acme", skus=["a"], total=1, note="red")
        loaded = await open_session(store, id_of(session)).load()
        assert dict(loaded) == dict(session)
        assert loaded.modified is False
        (info,) = await store.users.list("ada")
        assert info.fields == dict(session)
        await store.revoke(session.handle or "")
