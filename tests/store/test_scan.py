"""All sessions without Redis Search: counted, scanned, ended by a function."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    SessionEvent,
    SessionInfo,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
)

from ..support.gate import gates_to
from ..support.internals import around_scripts, handle_of, new_id, open_session
from ..support.sessions import create, is_live, log_in, opened

pytestmark = pytest.mark.on_cluster


async def scanned(store: SessionStore, **options: Any) -> list[SessionInfo]:
    return [info async for info in store.scan(**options)]


def handles(store: SessionStore, ids: Iterable[str]) -> set[str]:
    return {handle_of(store, session_id) for session_id in ids}


def plant(admin: Any, prefix: str, number: int) -> set[str]:
    """So many anonymous sessions, as another process has made them; returns their handles."""
    planted = {f"{n:032x}" for n in range(number)}
    with admin.pipeline(transaction=False) as pipe:
        for handle in planted:
            pipe.hset(f"{prefix}:{handle}", mapping={"@v": 1, "@created": 1, "@idle": 1_800_000})
            pipe.pexpire(f"{prefix}:{handle}", 1_800_000)
        pipe.execute()
    return planted


async def test_a_scan_shows_all_sessions_and_nothing_else(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """Anonymous ones and those of users; no list, no tombstone, no key of a longer prefix."""
    ids = [await create(store, n=n) for n in range(8)] + [await log_in(store, "ann", tenant="a")]
    ended = await log_in(store, "bob")
    assert await store.revoke(handle_of(store, ended))
    admin.set(f"{prefix}:{'0' * 32}", "no session")
    admin.zadd(f"{prefix}:{'1' * 32}", {"no session": 1})
    admin.hset(f"{prefix}:{'x' * 32}", "no", "handle")
    admin.hset(f"{prefix}:longer:{'2' * 32}", "@v", "1")
    admin.hset(f"{prefix}:{'3' * 32}", "no", "session")
    found = await scanned(store)
    assert {info.handle for info in found} == handles(store, ids)
    assert len(found) == len(ids)
    (ann,) = [info for info in found if info.user_id is not None]
    assert (ann.user_id, ann.fields) == ("ann", {"tenant": "a"})
    # A count reads nothing, so what is named like a session counts.
    assert await store.count() == len(ids) + 1


async def test_no_session_is_missed_among_many(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """Each of two thousand once, although others come and go meanwhile."""
    planted = plant(admin, prefix, 2000)
    found: Counter[str] = Counter()
    async for info in store.scan(keys_per_second=None):
        found[info.handle] += 1
        if sum(found.values()) % 100 == 0:
            await store.revoke(handle_of(store, await create(store, n=1)))
    assert planted <= found.keys()
    assert {found[handle] for handle in planted} == {1}
    assert await store.count(keys_per_second=None) == 2000


async def test_a_scan_of_one_user(store: SessionStore) -> None:
    """Those of their list, without a SCAN."""
    ids = [await log_in(store, 7, device=n) for n in range(3)]
    await log_in(store, 8)
    assert {info.handle for info in await scanned(store, user=7)} == handles(store, ids)
    assert await scanned(store, user="nobody") == []
    with pytest.raises(SessionValueError, match="user id"):
        store.scan(user="")


async def test_idle_sessions(store: SessionStore, prefix: str, admin: Any) -> None:
    """`idle_for` is how long ago a session was used last, by Redis' clock."""
    idle, busy = await log_in(store, "ann"), await log_in(store, "ann")
    key = f"{prefix}:{handle_of(store, idle)}"
    admin.hset(key, "@created", int(admin.hget(key, "@created")) - 3_600_000)
    admin.pexpire(key, 20 * 60_000)  # of thirty minutes
    for options in ({}, {"user": "ann"}):
        found = await scanned(store, idle_for=timedelta(minutes=9), **options)
        assert {info.handle for info in found} == handles(store, [idle])
        assert await scanned(store, idle_for=11 * 60, **options) == []
        assert len(await scanned(store, **options)) == 2
    assert await store.revoke_where(lambda _: True, idle_for=timedelta(minutes=9)) == 1
    assert not await is_live(store, idle)
    assert await is_live(store, busy)


async def test_a_scan_is_no_use(store: SessionStore, prefix: str, admin: Any) -> None:
    """The TTL stays as it is."""
    key = f"{prefix}:{handle_of(store, await create(store, n=1))}"
    admin.pexpire(key, 60_000)
    assert len(await scanned(store)) == 1
    assert 0 < admin.pttl(key) <= 60_000


async def test_a_pass_has_a_pace(store: SessionStore, prefix: str, admin: Any) -> None:
    """So many keys in a second at most: Redis is left to the requests."""
    plant(admin, prefix, 500)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await store.count(keys_per_second=5000) == 500
    assert loop.time() - began > 0.05


async def test_a_scan_that_is_left_early(store: SessionStore, prefix: str, admin: Any) -> None:
    """`break` leaves no connection behind."""
    plant(admin, prefix, 500)
    before = len(admin.client_list())
    found = store.scan()
    async for _ in found:
        break
    await found.aclose()
    while len(admin.client_list()) > before + 1:  # one for reading sessions
        await asyncio.sleep(0)


async def test_revoke_where_ends_what_it_is_true_for(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """And nothing else; a dry run ends nothing."""
    ours = [await log_in(store, n, tenant="a") for n in range(3)] + [
        await create(store, tenant="a")
    ]
    theirs = [await log_in(store, n, tenant="b") for n in range(3)]

    def matches(info: SessionInfo) -> bool:
        return info.fields.get("tenant") == "a"

    assert await store.revoke_where(matches, dry_run=True) == 4
    assert len(await scanned(store)) == 7
    assert await store.revoke_where(matches, reason="tenant closed") == 4
    assert {info.handle for info in await scanned(store)} == handles(store, theirs)
    assert await store.users.count(0) == 1  # no place is left behind
    ended = [event for event in events if event.name == "ended"]
    assert {event.handle for event in ended} == handles(store, ours)
    assert {(event.reason, event.detail) for event in ended} == {("revoked", "tenant closed")}
    absent = await open_session(store, ours[0]).load()
    assert absent.absence is not None
    assert absent.absence.reason == "tenant closed"
    assert await store.revoke_where(matches) == 0


async def test_revoke_where_finds_a_session_that_is_renewed_meanwhile(store: SessionStore) -> None:
    """It has another key by then, where the pass may have been already: so there is another one."""
    session = await open_session(store, await log_in(store, "ann")).load()
    renewed: list[str] = []

    async def around(name: str, send: Any) -> Any:
        if name == "end" and not renewed:
            renewed.append("")
            session.renew()
            await session.save()
            renewed[0] = new_id(session)
        return await send()

    undo = around_scripts(store, around)
    ended = await store.revoke_where(lambda info: info.user_id == "ann")
    undo()
    assert ended == 1
    assert not await is_live(store, renewed[0])


async def test_a_function_that_fails_ends_nothing_more(store: SessionStore) -> None:
    """Its error reaches the caller."""
    await create(store, n=1)

    def fails(_: SessionInfo) -> bool:
        raise LookupError("from the app")

    with pytest.raises(LookupError, match="from the app"):
        await store.revoke_where(fails)
    assert len(await scanned(store)) == 1


@pytest.mark.parametrize("answer", [None, 1, "yes", []])
async def test_a_function_must_say_yes_or_no(store: SessionStore, answer: Any) -> None:
    """What is only true in a way ends nothing: a forgotten call, say, would end all sessions."""
    await create(store, n=1)
    with pytest.raises(SessionValueError, match="returns True or False"):
        await store.revoke_where(lambda _: answer)
    assert len(await scanned(store)) == 1


async def test_ends_that_may_come_back_are_reported(session_redis_url: str, prefix: str) -> None:
    """All have ended, and then it is said."""
    concern = Durability(replicas=9, timeout=0.01)
    async with opened(session_redis_url, prefix, end_durability=concern) as store:
        ids = [await create(store, n=n) for n in range(3)]
        with pytest.raises(DurabilityNotReached):
            await store.revoke_where(lambda _: True)
        assert [await is_live(store, session_id) for session_id in ids] == [False] * 3


@pytest.mark.one_node
async def test_a_pass_that_breaks_is_an_error(session_redis_url: str, prefix: str) -> None:
    """Its cursor may mean nothing to the server of the next connection."""
    with gates_to(session_redis_url) as gate:
        store = gate.store(prefix=prefix, timeout=20)
        for n in range(5):
            await create(store, n=n)
        with pytest.raises(SessionUnavailable, match="not completed") as caught:
            async for _ in store.scan():
                gate.shut()
        assert prefix not in str(caught.value)
        gate.open()
        assert await store.count() == 5
        await store.aclose()
