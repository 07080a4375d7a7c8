"""What a search finds while sessions change and end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import (
    Num,
    SearchUnavailable,
    Session,
    SessionGone,
    SessionStore,
    SessionValueError,
    Tag,
)
from asgi_redis_session.search.filters import Filter

from ..support.internals import (
    Send,
    id_of,
    limit_pages,
    limit_rows,
    limit_sessions,
    open_session,
)
from ..support.keyspace import index_key
from ..support.search import NOTE, SKUS, TENANT, TOTAL, found, handles, plant, put
from ..support.servers import ask_all
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_increments_keep_their_shadows(shop: SessionStore) -> None:
    """Of a Num, of a Tag, of an absent field, and of one that nothing was loaded of."""
    session = await put(shop, tenant=1)
    fresh = open_session(shop, id_of(session))
    assert await fresh.increment("tenant", 2) == 3
    assert await fresh.increment("total", -7) == -7
    assert await found(shop, (TENANT == 3) & (TOTAL == -7)) == handles(session)
    assert await found(shop, TENANT == 1) == []
    assert await shop.search.sum_by("tenant", "total") == {3: -7}


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_sessions_end_for_a_reason(shop: SessionStore) -> None:
    """`session.absence` says it to their next requests."""
    session = await put(shop, "ada", tenant="acme", total=1)
    assert await shop.search.revoke(TENANT == "acme", reason="the shop has closed") == 1
    await shop.drain()
    absence = (await open_session(shop, id_of(session)).load()).absence
    assert absence is not None
    assert (absence.kind, absence.reason) == ("revoked", "the shop has closed")


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_the_expired_are_not_there(shop: SessionStore, admin: Any) -> None:
    """Though Redis has not reaped them, no exact answer knows them, nor are they revoked."""
    ask_all(admin, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        dying = [await put(shop, tenant="acme", total=1) for _ in range(5)]
        alive = await put(shop, tenant="acme", total=2)
        for session in dying:
            admin.pexpire(f"{shop.prefix}:{session.handle}", 1)
        await asyncio.sleep(0.01)
        # What is not exact says so: that is what makes it fast.
        assert await shop.search.count(TENANT == "acme", exact=False) == 6
        assert await shop.search.count_by("tenant", exact=False) == {"acme": 6}
        for where in (None, TENANT == "acme", ~(TENANT == "x"), TOTAL >= 1):
            assert await found(shop, where) == handles(alive)
        assert await shop.search.count_by("tenant") == {"acme": 1}
        assert await shop.search.sum_by("tenant", "total") == {"acme": 2}
        assert await shop.search.count(TOTAL == 1) == 0
        assert await shop.search.count_by("tenant", TOTAL == 1) == {}
        assert await shop.search.revoke(TENANT == "acme") == 1
    finally:
        ask_all(admin, "DEBUG", "SET-ACTIVE-EXPIRE", "1")


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
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


@pytest.mark.needs_search
async def test_verbs_search_revoke_crash(shop: SessionStore, admin: Any) -> None:
    """Two of five are gone, and their places are pruned; a next call ends the others."""
    for _ in range(5):
        await put(shop, "ada", tenant="acme")
    await shop.drain()
    steps, ended, both = Steps(shop), 0, asyncio.Event()

    async def crash(_: str, number: int, send: Send) -> Any:
        nonlocal ended
        if number > 2:
            await both.wait()
            raise asyncio.CancelledError
        reply = await send()
        ended += 1
        if ended == 2:
            both.set()
        return reply

    steps.on_step = crash
    with pytest.raises(asyncio.CancelledError):
        await shop.search.revoke(TENANT == "acme")
    steps.on_step = None
    assert len(await found(shop, TENANT == "acme")) == 3
    assert admin.zcard(index_key(shop.prefix, "ada")) == 5
    assert await shop.users.count("ada") == 3
    assert admin.zcard(index_key(shop.prefix, "ada")) == 3
    assert await shop.search.revoke(TENANT == "acme") == 3
    assert await shop.users.count("ada") == 0


@pytest.mark.needs_search
async def test_verbs_search_revoke_and_a_write(shop: SessionStore) -> None:
    """What no longer matches when its turn comes is ended all the same; a later write is gone."""
    session = await put(shop, "ada", tenant="acme")
    late = await open_session(shop, id_of(session)).load()
    await shop.drain()
    reached, go_on = Steps(shop).pause_before("end")
    revoking = asyncio.create_task(shop.search.revoke(TENANT == "acme"))
    await reached.wait()
    session["tenant"] = "other"
    await session.save()
    go_on.set()
    assert await revoking == 1
    late["total"] = 1
    with pytest.raises(SessionGone):
        await late.save()
    assert await found(shop) == []
    assert await shop.users.count("ada") == 0


@pytest.mark.needs_search
async def test_revoke_needs_a_filter(shop: SessionStore) -> None:
    """Ending everything has to be said."""
    await put(shop)
    with pytest.raises(TypeError, match="To end all sessions, say so"):
        await shop.search.revoke(None)  # type: ignore[arg-type]
    assert await shop.search.count() == 1


@pytest.mark.needs_search
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
