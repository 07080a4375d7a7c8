"""A Cluster whose slots move while they are used."""

import asyncio
import secrets

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.internals import handle_of, key_of, open_session, refresh, run_text
from ..support.nodes import errors_of
from ..support.servers import Cluster, ask, client_of
from ..support.sessions import create, load, works

#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


@pytest.mark.parametrize("moved", [False, True])
async def test_a_slot_on_its_way(healthy: Cluster, store: SessionStore, moved: bool) -> None:
    """Every verb works on a session in a migrating slot, before and after its key went (ASK)."""
    session_id = await create(store, n=0)
    key = key_of(store, session_id)
    target = healthy.others(healthy.owner(key))[0]
    migration = healthy.migrate(key, target)
    if moved:
        assert migration.move_keys() >= 1
        ask(target, "SCRIPT FLUSH")  # so that ASK and NOSCRIPT come together
    before = errors_of(healthy, "ASK")
    await works(store, session_id)
    if moved:
        assert errors_of(healthy, "ASK") > before
    migration.finish()
    await works(store, await create(store, n=0))


async def test_a_slot_that_has_moved(healthy: Cluster, store: SessionStore) -> None:
    """MOVED is followed at once, by what is waited for and by refreshes, and then remembered."""
    first, second = await create(store, n=7), await create(store, n=8)
    for session_id in (first, second):
        key = key_of(store, session_id)
        healthy.migrate(key, healthy.others(healthy.owner(key))[0]).finish()
    assert await load(store, first) == 7
    owner = healthy.owner(key_of(store, second))
    with client_of(owner) as client:
        client.pexpire(key_of(store, second), MINUTE)
        refresh(store, handle_of(store, second))
        await store.drain()
        assert client.pttl(key_of(store, second)) > MINUTE
    before = errors_of(healthy, "MOVED")
    assert await load(store, first) == 7
    assert errors_of(healthy, "MOVED") == before


async def test_slots_move_under_load(healthy: Cluster, store: SessionStore) -> None:
    """Ten slots change their master while they are written to: each increment counts once."""
    ids = [await create(store, n=0) for _ in range(10)]
    done, over = dict.fromkeys(ids, 0), asyncio.Event()

    async def count(session_id: str) -> None:
        while not over.is_set():
            await open_session(store, session_id).increment("n")
            done[session_id] += 1

    def move() -> None:
        for session_id in ids:
            key = key_of(store, session_id)
            healthy.migrate(key, healthy.others(healthy.owner(key))[0]).finish()

    counting = [asyncio.create_task(count(session_id)) for session_id in ids for _ in range(2)]
    await asyncio.to_thread(move)
    over.set()
    await asyncio.gather(*counting)
    assert [await load(store, one) for one in ids] == list(done.values())
    assert min(done.values()) > 0


async def test_tryagain_is_waited_out(healthy: Cluster, store: SessionStore) -> None:
    """Two keys of one slot, one of them moved: the command waits until the other is as well."""
    tag = secrets.token_hex(4)
    keys = [f"{{{tag}}}:{name}" for name in "ab"]
    source = healthy.owner(keys[0])
    for key in keys:
        ask(source, "SET", key, "x", "EX", 60)
    target = healthy.others(source)[0]
    migration = healthy.migrate(keys[0], target)
    ask(source, "MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)

    text = "return {KEYS[1], redis.call('EXISTS', KEYS[1], KEYS[2])}"
    asked = asyncio.create_task(run_text(store, text, keys))
    while errors_of(healthy, "TRYAGAIN") == 0:
        assert not asked.done()
        await asyncio.sleep(0.02)
    await asyncio.to_thread(migration.finish)
    assert await asked == 2


async def test_clusterdown_is_waited_out(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """A slot that nobody serves for a moment costs time; for longer, SessionUnavailable."""
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=1) as hasty:
        session_id = await create(store, n=7)
        key = key_of(store, session_id)
        owner = healthy.owner(key)
        slot = ask(owner, "CLUSTER KEYSLOT", key)
        ask(owner, "CLUSTER DELSLOTS", slot)
        try:
            with pytest.raises(SessionUnavailable, match=r"not served|no node serves"):
                await load(hasty, session_id)
            loading = asyncio.create_task(load(store, session_id))
            await asyncio.sleep(0.05)
        finally:
            ask(owner, "CLUSTER ADDSLOTS", slot)
        assert await loading == 7
