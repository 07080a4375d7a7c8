"""`session.set(..., ttl=)`: fields that end sooner than their session, by Redis' clock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import Key, Limits, Session, SessionStore, SessionValueError, Tag

from ..support.internals import handle_of, key_of, new_id, open_session, write_shadows
from ..support.sessions import create, log_in
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

HOUR = timedelta(hours=1)
Hold = Callable[[str], dict[bytes, bytes]]


@pytest.fixture
def held(store: SessionStore, admin: Any) -> Hold:
    """What Redis holds of a session, but for what is stored of every one."""

    def look(session_id: str) -> dict[bytes, bytes]:
        usual = (
            b"@v",
            b"@created",
            b"@deadline",
            b"@idle",
            b"@seen",
            b"@timed",
            b"@user",
            b"@auth",
        )
        raws = admin.hgetall(key_of(store, session_id))
        return {name: raw for name, raw in raws.items() if name not in usual}

    return look


@pytest.fixture
def end(store: SessionStore, admin: Any) -> Callable[..., None]:
    """Let time go on for a field of a session: its end is past now."""

    def act(session_id: str, name: str = "otp") -> None:
        key = key_of(store, session_id)
        assert admin.hexists(key, f"@-{name}")
        admin.hset(key, f"@-{name}", int(admin.hget(key, f"@-{name}")) - 3_600_000)

    return act


async def timed(store: SessionStore, **fields: Any) -> str:
    """A session with `otp`, which lasts for an hour, and other fields."""
    session = await open_session(store).load()
    session.update(fields)
    session.set("otp", "123", ttl=HOUR)
    await session.save()
    return new_id(session)


async def everyone(store: SessionStore, session_id: str) -> list[dict[str, Any]]:
    """The fields as each reader sees them."""
    handle = handle_of(store, session_id)
    info = await store.get(handle)
    assert info is not None
    async with store.edit(handle) as edited:
        fields = dict(edited)
    return [
        dict(await open_session(store, session_id).load()),
        await open_session(store, session_id).fetch("otp", "n"),
        info.fields,
        fields,
    ]


async def test_it_ends_for_every_reader_by_the_clock_of_redis(
    store: SessionStore, held: Hold, end: Callable[..., None]
) -> None:
    """Before: shown like any field. After: by none, though it is still there."""
    session_id = await timed(store, n=1)
    assert held(session_id)[b"@=otp"] == b"'123"
    assert b"otp" not in held(session_id)
    assert await everyone(store, session_id) == [{"otp": "123", "n": 1}] * 4
    end(session_id)
    assert await everyone(store, session_id) == [{"n": 1}] * 4
    assert b"@=otp" in held(session_id)


async def test_its_end_is_the_servers_time_plus_the_ttl(store: SessionStore, admin: Any) -> None:
    """The script adds it, so the clock of this process does not matter."""
    session_id = await timed(store)
    raws = admin.hgetall(key_of(store, session_id))
    assert int(raws[b"@-otp"]) == int(raws[b"@created"]) + 3_600_000
    session = await open_session(store, session_id).load()
    session.set("otp", "456", ttl=2)
    await session.save()
    raws = admin.hgetall(key_of(store, session_id))
    assert int(raws[b"@-otp"]) == int(raws[b"@seen"]) + 2000


async def test_a_list_of_users_and_sockets_see_its_end(store: SessionStore) -> None:
    """Also what was loaded before: a socket may be open for hours."""
    session = await open_session(store).load()
    await session.login("ann")
    session.set("otp", "123", ttl=0.2)
    session["n"] = 1
    await session.save()
    other = await open_session(store, new_id(session)).load()
    for seen in (session, other):
        assert seen.get("otp") in ("123", None)
    async with asyncio.timeout(20):
        while "otp" in session or "otp" in other:
            await asyncio.sleep(0.01)
        while "otp" in (await store.users.list("ann"))[0].fields:
            await asyncio.sleep(0.01)
    for seen in (session, other):
        assert dict(seen) == {"n": 1}
        assert len(seen) == 1
        with pytest.raises(KeyError):
            seen["otp"]
        assert not seen.modified


async def test_the_next_commit_removes_what_has_ended(
    store: SessionStore, held: Hold, end: Callable[..., None]
) -> None:
    """And only that: not what another request has set anew meanwhile."""
    session_id = await timed(store, n=1)
    end(session_id)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    await session.save()
    await store.drain()
    assert held(session_id) == {b"n": b"2"}
    session_id = await timed(store, n=1)
    end(session_id)
    late = await open_session(store, session_id).load()
    other = await open_session(store, session_id).load()
    other.set("otp", "456", ttl=HOUR)
    await other.save()
    late["n"] = 2
    await late.save()
    await store.drain()
    assert await everyone(store, session_id) == [{"otp": "456", "n": 2}] * 4


async def test_it_survives_renewals_and_logins(
    store: SessionStore, held: Hold, end: Callable[..., None]
) -> None:
    """With its end; also one that the same commit sets."""
    session_id = await timed(store)
    ends = held(session_id)[b"@-otp"]
    session = await open_session(store, session_id).load()
    session.renew()
    await session.save()
    session_id = new_id(session)
    assert held(session_id)[b"@-otp"] == ends
    session = await open_session(store, session_id).load()
    await session.login("ann")
    session.set("other", 7, ttl=HOUR)
    await session.save()
    session_id = new_id(session)
    assert held(session_id)[b"@-otp"] == ends
    assert dict(await open_session(store, session_id).load()) == {"otp": "123", "other": 7}
    end(session_id)
    assert dict(await open_session(store, session_id).load()) == {"other": 7}
    session = await open_session(store, session_id).load()
    await session.login("bob")
    session.set("otp", "8", ttl=HOUR)
    await session.save()
    assert dict(session) == {"otp": "8"}
    del session["otp"]
    session["n"] = 1
    await session.save()
    assert held(new_id(session)) == {b"n": b"1"}


async def test_assigning_takes_the_ttl_away(store: SessionStore, held: Hold) -> None:
    """Even the same value; removing removes all of it; `set` without a TTL assigns."""
    writes: list[Callable[[Session], object]] = [
        lambda session: session.__setitem__("otp", "123"),
        lambda session: session.set("otp", "123"),
        lambda session: session.update(otp="123"),
    ]
    for write in writes:
        session = await open_session(store, session_id := await timed(store)).load()
        write(session)
        assert session.modified
        await session.save()
        assert held(session_id) == {b"otp": b"'123"}
    removals: list[Callable[[Session], object]] = [
        lambda session: session.pop("otp"),
        lambda session: session.__delitem__("otp"),
    ]
    for remove in removals:
        session = await open_session(store, session_id := await timed(store, n=1)).load()
        remove(session)
        await session.save()
        assert held(session_id) == {b"n": b"1"}


async def test_a_plain_field_can_get_a_ttl_and_a_ttl_can_change(
    store: SessionStore, held: Hold
) -> None:
    """The last `set` counts, also within one commit, also with an equal value."""
    session = await open_session(store, session_id := await create(store, otp="123")).load()
    session.set("otp", "123", ttl=HOUR)
    assert session.modified
    await session.save()
    first = held(session_id)
    assert first.keys() == {b"@=otp", b"@-otp"}
    session.set("otp", "123", ttl=2 * HOUR)
    await session.save()
    assert int(held(session_id)[b"@-otp"]) >= int(first[b"@-otp"]) + 3_600_000
    session.set("otp", "1", ttl=HOUR)
    session["otp"] = "2"
    await session.save()
    assert held(session_id) == {b"otp": b"'2"}


async def test_changes_inside_leave_the_end(store: SessionStore, held: Hold) -> None:
    """Of a list, and of a typed value."""
    key = Key("tags", set[str])
    session = await open_session(store, session_id := await create(store, n=1)).load()
    session.set("list", [1], ttl=HOUR)
    session.set(key, {"a"}, ttl=HOUR)
    await session.save()
    before = held(session_id)
    session = await open_session(store, session_id).load()
    session["list"].append(2)
    session[key].add("b")
    await session.save()
    after = held(session_id)
    assert after == {**before, b"@=list": b"[1,2]", b"@=tags": b'["a","b"]'}


async def test_verbs_on_single_fields_heed_the_end(
    store: SessionStore, held: Hold, end: Callable[..., None]
) -> None:
    """`increment`, `append` and `transform` keep it; after it, they begin anew."""
    session = await open_session(store, session_id := await create(store, n=1)).load()
    session.set("tries", 1, ttl=HOUR)
    session.set("list", [1], ttl=HOUR)
    session.set("other", [1], ttl=HOUR)
    await session.save()

    async def act() -> list[Any]:
        fresh = open_session(store, session_id)
        return [
            await fresh.increment("tries"),
            await fresh.append("list", 2, keep=9),
            await fresh.transform("other", lambda other: [*other, 2], default=[]),
        ]

    ends = {name: raw for name, raw in held(session_id).items() if name.startswith(b"@-")}
    assert await act() == [2, 2, [1, 2]]
    assert held(session_id) == {
        **ends,
        b"n": b"1",
        b"@=tries": b"2",
        b"@=list": b"[1,2]",
        b"@=other": b"[1,2]",
    }
    late = await open_session(store, session_id).load()
    for name in ("tries", "list", "other"):
        end(session_id, name)
    assert await late.transform("other", lambda other: [*other, 3], default=[]) == [3]
    assert (await act())[:2] == [1, 1]
    assert dict(await open_session(store, session_id).load()) == {
        "n": 1,
        "tries": 1,
        "list": [2],
        "other": [3, 2],
    }


async def test_one_of_many_takes_a_code_that_lives(
    store: SessionStore, held: Hold, end: Callable[..., None]
) -> None:
    """Once, and not after its end."""
    session_id = await timed(store, n=1)
    taken = await asyncio.gather(*[open_session(store, session_id).take("otp") for _ in range(9)])
    assert sorted(taken, key=str) == ["123"] + [None] * 8
    assert held(session_id) == {b"n": b"1"}
    session_id = await timed(store, n=1)
    late = await open_session(store, session_id).load()
    end(session_id)
    assert await late.take("otp") is None
    assert await open_session(store, session_id).take("otp", "gone") == "gone"


async def test_what_an_older_process_writes_under_the_name_wins(
    store: SessionStore, admin: Any, held: Hold
) -> None:
    """It does not know of TTLs: it sees no such field, and what it assigns is the value."""
    session_id = await timed(store, n=1)
    visible = [name for name in held(session_id) if not name.startswith(b"@")]
    assert visible == [b"n"]
    admin.hset(key_of(store, session_id), "otp", "older")
    assert await everyone(store, session_id) == [{"otp": "older", "n": 1}] * 4
    assert await open_session(store, session_id).take("otp") == "older"
    assert held(session_id) == {b"n": b"1"}
    session_id = await timed(store, n=1)
    admin.hset(key_of(store, session_id), "otp", "older")
    session = await open_session(store, session_id).load()
    session["n"] = 2
    await session.save()
    await store.drain()
    assert held(session_id) == {b"n": b"2", b"otp": b"older"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda admin, key: admin.hdel(key, "@-otp"),
        lambda admin, key: admin.hset(key, "@-otp", "soon"),
        lambda admin, key: admin.hset(key, "@-otp", "9" * 30),
        lambda admin, key: admin.hset(key, "@-otp", ""),
    ],
)
async def test_without_a_readable_end_it_has_ended(
    store: SessionStore, admin: Any, damage: Callable[[Any, str], object]
) -> None:
    """It fails closed."""
    session_id = await timed(store, n=1)
    damage(admin, key_of(store, session_id))
    assert await everyone(store, session_id) == [{"n": 1}] * 4
    assert await open_session(store, session_id).take("otp") is None


async def test_a_commit_that_failed_is_tried_again_with_the_ttl(
    store: SessionStore, held: Hold
) -> None:
    """What a lost commit would have written is staged as before."""
    session = await open_session(store, session_id := await create(store, n=1)).load()
    session.set("otp", "123", ttl=HOUR)
    steps = Steps(store)
    steps.fail_at(1, ConnectionError("lost"), done=False)
    with pytest.raises(ConnectionError):
        await session.save()
    steps.stop()
    await session.save()
    assert held(session_id).keys() == {b"n", b"@=otp", b"@-otp"}
    async with store.edit(handle_of(store, session_id)) as edited:
        edited.set("more", 1, ttl=HOUR)
    with pytest.raises(RuntimeError):
        await _fail(store, session_id)
    assert await open_session(store, session_id).fetch("otp", "more") == {"otp": "123", "more": 1}


async def _fail(store: SessionStore, session_id: str) -> None:
    async with store.edit(handle_of(store, session_id)) as edited:
        edited.set("more", 2, ttl=HOUR)
        raise RuntimeError


async def test_limits_and_refusals(session_redis_url: str, prefix: str, admin: Any) -> None:
    """Indexed fields, bad names, values and durations; fields with a TTL count as fields."""
    options: Any = {"prefix": prefix, "limits": Limits(fields=2), "index": [Tag("tag")]}
    async with SessionStore.from_url(session_redis_url, **options) as store:
        session = await open_session(store).load()
        for name in ("", "@x", "\ud800", 7):
            with pytest.raises(SessionValueError):
                session.set(name, 1, ttl=HOUR)  # type: ignore[arg-type]
        with pytest.raises(SessionValueError, match="indexed"):
            session.set("tag", "a", ttl=HOUR)
        with pytest.raises(SessionValueError, match="tuple"):
            session.set("a", (1,), ttl=HOUR)
        for ttl in (0, -1, float("nan"), "soon"):
            with pytest.raises((ValueError, TypeError), match="ttl"):
                session.set("a", 1, ttl=ttl)  # type: ignore[arg-type]
        assert not session.modified
        session.set("a", 1, ttl=HOUR)
        session.set("b", 2, ttl=HOUR)
        with pytest.raises(SessionValueError, match="at most 2 fields"):
            session.set("c", 3, ttl=HOUR)
        await session.save()
        session_id = new_id(session)
        verbs: list[Callable[[Session], Awaitable[Any]]] = [
            lambda session: session.increment("c"),
            lambda session: session.append("c", 1, keep=1),
        ]
        for verb in verbs:
            with pytest.raises(SessionValueError, match="at most 2 fields"):
                await verb(open_session(store, session_id))
        # Another process, whose index lacks this field, may give it a TTL: it is not found then.
        key = key_of(store, session_id)
        admin.hset(key, mapping={"@=tag": "a", "@-tag": "9" * 13, "@timed": "1"})
        assert not await write_shadows(store, handle_of(store, session_id))


async def test_a_session_of_a_user_may_hold_nothing_else(store: SessionStore) -> None:
    """The end of its only field does not end the session."""
    session_id = await log_in(store, "ann")
    session = await open_session(store, session_id).load()
    session.set("otp", "1", ttl=HOUR)
    await session.save()
    assert await open_session(store, session_id).take("otp") == "1"
    assert (await open_session(store, session_id).load()).user_id == "ann"


async def test_sessions_without_a_ttl_know_nothing_of_it(store: SessionStore, admin: Any) -> None:
    """No mark, and no other command."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session.set("n", 2)
    steps = Steps(store)
    await session.save()
    assert len(steps.names) == 1
    assert not admin.hexists(key_of(store, session_id), "@timed")
