"""A search finds exactly what was asked for."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from asgi_redis_session import Num, SessionStore, SessionValueError, Tag

from ..support.internals import id_of, open_session, requests_lane
from ..support.search import HOSTILE, INDEX, SKUS, TENANT, TOTAL, found, handles, indexed, put
from ..support.values import NASTY_TEXTS

pytestmark = pytest.mark.on_cluster

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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_sums_are_those_of_the_numbers(shop: SessionStore) -> None:
    """By the value of a tag; sessions without either are left out."""
    for tenant, total in (("a", 1.5), ("a", 2), ("b", 2**53 - 1), ("b", None), ("c", None)):
        await put(shop, tenant=tenant, total=total)
    await put(shop, total=9)
    assert await shop.search.sum_by("tenant", "total") == {"a": 3.5, "b": 2**53 - 1}
    assert await shop.search.sum_by(TENANT, TOTAL, TOTAL < 2) == {"a": 1.5}


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_reading_does_not_count_as_use(shop: SessionStore, admin: Any) -> None:
    """A search leaves every TTL as it is."""
    session = await put(shop, tenant="acme")
    key = f"{shop.prefix}:{session.handle}"
    admin.pexpire(key, 60_000)
    await found(shop, TENANT == "acme")
    await shop.search.count_by("tenant")
    assert admin.pttl(key) <= 60_000


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_questions_travel_by_themselves(shop: SessionStore) -> None:
    """Neither the query nor the reading of what it finds is on the lane of the requests."""
    await put(shop, "ada", tenant="acme")
    requests = requests_lane(shop)
    before = requests.commands
    await found(shop, TENANT == "acme")
    await shop.search.create_index(backfill=True)
    await shop.search.revoke(TENANT == "acme")
    assert requests.commands == before
