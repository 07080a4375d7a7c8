"""The way to encryption: "read", "migrate", True, and back, one process at a time."""

import asyncio
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from asgi_redis_session import SessionEvent, SessionGone, SessionSealed, SessionStore, Tag
from asgi_redis_session.testing import SessionKit

from ..support.internals import key_of, new_id, open_session
from ..support.sessions import create, log_in
from .conftest import Held, Make, count_plain, is_sealed, unreadable

pytestmark = pytest.mark.on_cluster

FIELDS = {"card": "visa", "cart": ["tea"], "visits": 1}


async def _load(store: SessionStore, session_id: str) -> dict[str, Any]:
    session = await open_session(store, session_id).load()
    await store.drain()
    return dict(session)


async def test_each_step_reads_what_its_neighbours_write(store_with: Make) -> None:
    """Before, "read", "migrate", True: a deployment has two neighbours at a time."""
    steps = [store_with(step, **_plain(step)) for step in (False, "read", "migrate", True)]
    for one, other in pairwise(steps):
        for writer, reader in ((one, other), (other, one)):
            session_id = await create(writer, **FIELDS)
            assert await _load(reader, session_id) == FIELDS
            session = await open_session(reader, session_id).load()
            await session.transform("cart", lambda cart: [*cart, "jug"])
            session["card"] = "amex"
            session.renew()
            await session.save()
            expected = {"card": "amex", "cart": ["tea", "jug"], "visits": 1}
            assert await _load(writer, new_id(session)) == expected


def _plain(step: Any) -> dict[str, Any]:
    return {"plain": ["visits"]} if step else {}


async def test_read_reads_both_and_writes_plain(
    store: SessionStore, store_with: Make, held: Held
) -> None:
    """So that processes which can't decrypt yet find nothing that is sealed."""
    reading, migrating = store_with("read"), store_with("migrate")
    plain, mixed = await create(store, **FIELDS), await create(migrating, **FIELDS)
    for session_id in (plain, mixed):
        session = await open_session(reading, session_id).load()
        assert dict(session) == FIELDS
        session["card"] = "amex"
        await session.save()
        assert held(session_id)["card"] == b"amex"
    assert not any(is_sealed(raw) for raw in held(plain).values())
    assert is_sealed(held(mixed)["cart"])
    # A renewal or a login writes all of it plain again: there is no key for another id.
    session = await open_session(reading, mixed).load()
    session.renew()
    await session.save()
    moved = new_id(session)
    assert not any(is_sealed(raw) for raw in held(moved).values())
    assert await _load(store, moved) == {**FIELDS, "card": "amex"}


async def test_migrate_seals_a_session_at_its_next_use(
    store: SessionStore, store_with: Make, held: Held, admin: Any
) -> None:
    """At a load that extends the TTL, all of it in one step; its life stays as it is."""
    migrating, full = store_with("migrate", plain=["visits"]), store_with(plain=["visits"])
    session_id = await create(store, **FIELDS)
    looking = open_session(migrating, session_id, extends=False)
    assert dict(await looking.load()) == FIELDS
    await migrating.drain()
    assert held(session_id) == {"card": b"visa", "cart": b'["tea"]', "visits": b"1"}
    assert migrating.stats.settled == 0
    assert await _load(migrating, session_id) == FIELDS
    assert {name for name, raw in held(session_id).items() if is_sealed(raw)} == {"card", "cart"}
    assert admin.pttl(key_of(migrating, session_id)) > 0
    assert migrating.stats.settled == 1
    assert await _load(migrating, session_id) == FIELDS
    assert migrating.stats.settled == 1
    assert await _load(full, session_id) == FIELDS


async def test_a_write_beats_the_sealing(
    store: SessionStore, store_with: Make, held: Held, admin: Any
) -> None:
    """What another process writes at the same moment stays, and the next use seals it."""
    migrating = store_with("migrate")
    for _ in range(20):
        session_id = await create(store, n=0)
        session = await open_session(store, session_id).load()
        session["n"] = 1
        await asyncio.gather(open_session(migrating, session_id).load(), session.save())
        for _ in range(2):
            assert await _load(migrating, session_id) == {"n": 1}
        assert is_sealed(held(session_id)["n"])


async def test_what_is_being_changed_while_it_is_sealed(
    store: SessionStore, store_with: Make
) -> None:
    """A request of "read" that has loaded plain values goes on with sealed ones."""
    reading, migrating = store_with("read"), store_with("migrate")
    session_id = await create(store, a=[1], b="x", c="y")
    session = await open_session(reading, session_id).load()
    await _load(migrating, session_id)
    assert await session.transform("a", lambda a: [*a, 2]) == [1, 2]
    assert await session.take("b") == "x"
    session["d"] = 1
    session.renew()
    await session.save()
    moved = new_id(session)
    assert await _load(migrating, moved) == {"a": [1, 2], "c": "y", "d": 1}


async def test_the_last_step_refuses_what_is_plain(
    store: SessionStore, store_with: Make, events: list[SessionEvent]
) -> None:
    """Else who can write to Redis could plant values."""
    full = store_with(plain=["visits"])
    session_id = await create(store, **FIELDS)
    session = await open_session(full, session_id).load()
    assert session.is_new
    assert session.absence is not None
    assert session.absence.kind == unreadable(full)
    (event,) = [event for event in events if event.name == "corrupt"]
    assert event.detail == "a field is not encrypted, and its name is not in plain="


async def test_the_way_back_from_encryption(
    store_with: Make, store: SessionStore, held: Held
) -> None:
    """From True over "migrate" to "read": sessions are written plain as they are changed."""
    session_id = await log_in(store_with(), "ann", card="visa")
    reading = store_with("read")
    session = await open_session(reading, session_id).load()
    await session.login("ann")
    await session.save()
    moved = new_id(session)
    assert held(moved) == {"card": b"visa"}
    assert await _load(store, moved) == {"card": "visa"}


@pytest.mark.parametrize("step", ["migrate", True])
async def test_a_field_that_becomes_plain_is_opened_at_the_next_use(
    store_with: Make, held: Held, step: Any
) -> None:
    """Named in plain=, or declared for the index: with its shadow, in one step."""
    session_id = await create(store_with(step), tenant="acme", visits=1, card="visa")
    later = store_with(step, plain=["visits"], index=[Tag("tenant")])
    assert await _load(later, session_id) == {"tenant": "acme", "visits": 1, "card": "visa"}
    raws = held(session_id)
    assert (raws["tenant"], raws["visits"], is_sealed(raws["card"])) == (b"acme", b"1", True)
    assert await open_session(later, session_id).increment("visits") == 2


async def test_the_shadow_of_a_field_that_becomes_plain(store_with: Make, admin: Any) -> None:
    """It is that of a commit."""
    session_id = await create(store_with(), tenant="acme")
    later = store_with(index=[Tag("tenant")])
    await _load(later, session_id)
    other = await create(later, tenant="acme")
    first, second = [admin.hgetall(key_of(later, one)) for one in (session_id, other)]
    assert first.keys() == second.keys()
    assert {first[name] == second[name] for name in first if name[:1] != b"@"} == {True}
    times = {b"@created", b"@deadline"}
    assert {first[name] == second[name] for name in first.keys() - times} == {True}


async def test_edit_in_each_step(store: SessionStore, store_with: Make) -> None:
    """Without the id, plain values can be changed as long as plain values are written."""
    session_id = await create(store, n=1)
    handle = (await open_session(store, session_id).load()).handle or ""
    async with store_with("read").edit(handle) as session:
        session["n"] = 2
    for step in ("migrate", True):
        with pytest.raises(SessionSealed):
            async with store_with(step).edit(handle):
                pass
    await _load(store_with("migrate"), session_id)
    with pytest.raises(SessionSealed):
        async with store_with("read").edit(handle):
            pass


def test_the_kit_reads_with_the_cookie(session_redis_url: str) -> None:
    """`sessions.cookies` and `sessions.read` work for a store that encrypts."""
    with start_blocking_portal() as portal:
        kit = SessionKit(session_redis_url, portal, encryption=True)
        try:
            cookies = kit.cookies({"card": "visa"}, user="ann")
            assert kit.read(cookies) == {"card": "visa"}
        finally:
            kit.close()


async def _add(
    stores: list[SessionStore], session_id: str, confirmed: list[int], number: int
) -> None:
    """Add a number by one of the stores, and note that it was confirmed."""
    session = await open_session(stores[number % 2], session_id).load()
    if session.is_new:
        return
    with suppress(SessionGone):
        await session.transform("cart", lambda cart: [*cart, number])
        confirmed.append(number)


@pytest.mark.parametrize("steps", [("read", "migrate"), ("migrate", True)])
async def test_two_steps_write_to_one_session_at_once(store_with: Make, steps: Any) -> None:
    """While one of them gives it a new id: each write that was confirmed is there."""
    stores = [store_with(step) for step in steps]
    for moving in stores * 10:
        session_id = await create(moving, cart=[], n=0)
        if moving is stores[0]:  # what "read" has written, the next load of "migrate" encrypts
            await _load(stores[1], session_id)
        session = await open_session(moving, session_id).load()
        session.renew()
        confirmed: list[int] = []
        add = partial(_add, stores, session_id, confirmed)
        await asyncio.gather(*map(add, range(6)), session.save(), *map(add, range(6, 12)))
        renewed = new_id(session)
        for store in stores:
            found = await _load(store, renewed)
            assert sorted(found["cart"]) == sorted(confirmed)


async def test_values_that_end_in_each_step(
    store: SessionStore, store_with: Make, admin: Any, session_redis_url: str, prefix: str
) -> None:
    """They are encrypted at the next use, too; they end when they should, under any id."""
    reading, migrating, full = [store_with(step) for step in ("read", "migrate", True)]
    session = await open_session(store).load()
    session.set("otp", "123", ttl=3600)
    session["n"] = 1
    await session.save()
    session_id = new_id(session)
    end = admin.hget(key_of(store, session_id), "@-otp")
    assert await _load(reading, session_id) == {"otp": "123", "n": 1}
    counted = await asyncio.to_thread(count_plain, session_redis_url, prefix)
    assert counted == (1, "1 sessions hold values that are not encrypted.")
    assert await _load(migrating, session_id) == {"otp": "123", "n": 1}
    raws = admin.hgetall(key_of(store, session_id))
    assert is_sealed(raws[b"@=otp"])
    assert raws[b"@-otp"] == end
    counted = await asyncio.to_thread(count_plain, session_redis_url, prefix)
    assert counted == (0, "0 sessions hold values that are not encrypted.")
    for moving in (full, migrating, reading):
        session = await open_session(moving, session_id).load()
        assert dict(session) == {"otp": "123", "n": 1}
        session.renew()
        await session.save()
        session_id = new_id(session)
        raws = admin.hgetall(key_of(store, session_id))
        assert raws[b"@-otp"] == end
        assert is_sealed(raws[b"@=otp"]) is (moving is not reading)
    admin.hset(key_of(store, session_id), "@-otp", 1)
    assert await _load(full, await _sealed_again(migrating, session_id)) == {"n": 1}


async def _sealed_again(migrating: SessionStore, session_id: str) -> str:
    await _load(migrating, session_id)
    return session_id
