"""The Cluster column of docs/verbs.md, where it differs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    Session,
    SessionGone,
    SessionStore,
    SessionUnavailable,
)

from ..support.internals import cookie_change, discard, key_of, load_scripts, new_id, open_session
from ..support.keyspace import index_key, look
from ..support.nodes import on
from ..support.servers import Cluster, ask, frozen
from ..support.sessions import create, is_live, log_in
from ..support.steps import Steps

Verb = Callable[[Session], Awaitable[None]]


async def _renew(session: Session) -> None:
    session.renew()


async def _log_in(session: Session) -> None:
    await session.login("ann")


@pytest.mark.parametrize("verb", [_renew, _log_in])
async def test_verbs_crash_inside_a_move(
    store: SessionStore, admin: Any, prefix: str, verb: Verb
) -> None:
    """Between taken and put back: the session is gone, a logout, and nothing is left of it."""
    session_id = await create(store, cart="tea")
    session = await open_session(store, session_id).load()
    await verb(session)
    steps = Steps(store)

    async def crash(name: str, _: int, ask: Any) -> Any:
        if name in ("save", "login"):
            raise asyncio.CancelledError
        return await ask()

    steps.on_step = crash
    with pytest.raises(asyncio.CancelledError):
        await session.save()
    steps.on_step = None
    discard(session)
    await store.drain()
    assert "take_hash" in steps.names
    assert not await is_live(store, session_id)
    assert look(admin, prefix).users == {}
    assert look(admin, prefix).immortal == []


@pytest.mark.parametrize("user", ["", "ann"])
async def test_verbs_two_moves_have_one_winner(
    store: SessionStore, admin: Any, prefix: str, user: str
) -> None:
    """Twenty renewals of one session at once: one live session, nineteen that are gone."""
    session_id = await (log_in(store, user) if user else create(store, n=0))
    sessions = [await open_session(store, session_id).load() for _ in range(20)]
    for session in sessions:
        session.renew()
    results = await asyncio.gather(
        *[session.save() for session in sessions], return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + (
        ["SessionGone"] * 19
    )
    seen = look(admin, prefix)
    assert len(seen.users) == 1
    assert seen.unlisted(prefix) == []
    assert [len(places) for places in seen.places.values()] == ([1] if user else [])


async def test_verbs_a_write_before_and_inside_a_move(store: SessionStore) -> None:
    """Before: moves along. Between taken and put back: gone, and recreates nothing."""
    session_id = await create(store, n=1)
    session, early, late = [await open_session(store, session_id).load() for _ in range(3)]
    early["early"], late["late"] = True, True
    await early.save()
    session.renew()
    steps = Steps(store)
    reached, go_on = steps.pause_after("take_hash")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    steps.on_step = None
    with pytest.raises(SessionGone):
        await late.save()
    go_on.set()
    await saving
    moved = await open_session(store, new_id(session)).load()
    assert dict(moved) == {"n": 1, "early": True}


@pytest.mark.parametrize("verb", [_renew, _log_in])
async def test_verbs_revoke_all_inside_a_move(
    store: SessionStore, admin: Any, prefix: str, verb: Verb
) -> None:
    """Between taken and put back: the confirmation finds the place gone; nothing comes to life."""
    session = await open_session(store, await log_in(store, "ann")).load()
    await verb(session)
    reached, go_on = Steps(store).pause_after("take_hash")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    await store.users.revoke_all("ann")
    go_on.set()
    with pytest.raises(SessionGone):
        await saving
    assert cookie_change(session) is None
    assert look(admin, prefix).users == {}
    assert look(admin, prefix).places == {}


@pytest.mark.parametrize("verb", [_renew, _log_in])
async def test_verbs_a_hash_that_vanishes_before_it_is_kept(
    store: SessionStore, admin: Any, prefix: str, verb: Verb
) -> None:
    """Its place is confirmed, but its few seconds are over: the session is gone, not kept."""
    session = await open_session(store, await log_in(store, "ann")).load()
    await verb(session)
    reached, go_on = Steps(store).pause_before("keep")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    (handle,) = look(admin, prefix).users
    admin.delete(f"{prefix}:{handle}")
    go_on.set()
    with pytest.raises(SessionGone):
        await saving
    assert cookie_change(session) is None
    assert look(admin, prefix).users == {}


@pytest.mark.parametrize("verb", [_renew, _log_in])
@pytest.mark.parametrize("user", ["", "ann"])
async def test_verbs_a_move_to_a_full_node(
    healthy: Cluster, store: SessionStore, prefix: str, user: str, verb: Verb
) -> None:
    """
    The new key's node is out of memory: 503. An anonymous session is back where it was; a user's
    has ended, since it might have been revoked meanwhile.
    """
    home = healthy.owner(index_key(prefix, "ann"))
    full = healthy.others(home)
    ids = [await on(healthy, store, home, user=user) for _ in range(20)]
    for node in full:
        ask(node, "CONFIG SET", "maxmemory", 1)
    try:
        for session_id in ids:
            session = await open_session(store, session_id).load()
            await verb(session)
            try:
                await session.save()
            except SessionUnavailable:
                break
        else:
            pytest.fail("not one new key belongs to a full node")
    finally:
        for node in full:
            ask(node, "CONFIG SET", "maxmemory", 0)
    assert await is_live(store, session_id) is (not user)


async def test_verbs_a_move_keeps_everything(store: SessionStore, admin: Any) -> None:
    """A large session, its deadline and its TTL come through; the new values win."""
    session = await open_session(store).load()
    session.update({f"field {number}": number for number in range(240)})
    session["binary"] = "\x00\xff\u2019" * 1000
    await session.save()
    before = admin.hgetall(key_of(store, new_id(session)))
    session.renew()
    session["field 1"] = "new"
    del session["field 2"]
    await session.save()
    key = key_of(store, new_id(session))
    after = admin.hgetall(key)
    assert before.pop(b"field 2") == b"2"
    assert after.pop(b"@seen")
    assert after == before | {b"field 1": b"new"}
    assert 0 < admin.pttl(key) <= store.lifetime.idle_ms


@pytest.mark.parametrize("row", [(_renew, "", 2), (_renew, "ann", 4), (_log_in, "", 4)])
async def test_verbs_each_step_of_a_move_has_its_concern(
    store: SessionStore, healthy: Cluster, admin: Any, row: tuple[Verb, str, int]
) -> None:
    """Taken, put back, and for a user confirmed and kept: each waits, and falls short of it."""
    verb, user, waits = row
    load_scripts(admin)  # else the first use of each is sent twice, with its WAIT
    session_id = await (log_in(store, user) if user else create(store, cart="tea"))
    concern = Durability(replicas=2, timeout=0.01)  # of one replica each
    async with SessionStore.from_url(
        healthy.url, prefix=store.prefix, timeout=20, durability=concern
    ) as strict:
        session = await open_session(strict, session_id).load()
        await verb(session)
        before = _waits(healthy)
        with pytest.raises(DurabilityNotReached):
            await session.save()
        assert _waits(healthy) - before == waits
        assert await is_live(store, new_id(session))


@pytest.mark.parametrize("short", ["take_hash", "save", "confirm", "keep"])
async def test_verbs_one_step_that_falls_short_is_told(
    store: SessionStore, healthy: Cluster, short: str
) -> None:
    """Whichever it is: replicas that hang while one step waits for them have the others."""
    replicas = [healthy.replica_of(master) for master in healthy.others()]
    session = await open_session(store, await log_in(store, "ann")).load()
    session.renew()
    steps = Steps(store)

    async def on_step(name: str, _: int, send: Any) -> Any:
        with ExitStack() as hanging:
            for replica in replicas if name == short else ():
                hanging.enter_context(frozen(replica))
            return await send()

    steps.on_step = on_step
    with pytest.raises(DurabilityNotReached):
        await session.save(durability=Durability(replicas=1, timeout=0.5))
    assert short in steps.names
    steps.stop()
    assert await is_live(store, new_id(session))


def _waits(cluster: Cluster) -> int:
    told = [ask(node, "INFO", "commandstats").get("cmdstat_wait") for node in cluster.nodes]
    return sum(one["calls"] for one in told if one is not None)
