"""The store on a Redis Cluster whose nodes move slots, hang, die and take over."""

import asyncio
import hashlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from asgi_redis_session import Session, SessionGone, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from .servers import SOON_MS, Cluster, ask, client_of, frozen, plain_client, wait_for
from .support.internals import (
    cookie_change,
    discard,
    handle_of,
    handles_of,
    key_of,
    lanes_of,
    new_id,
    open_session,
    refresh,
    run_text,
)
from .support.steps import Steps
from .test_concurrency import create
from .test_users import is_live, log_in, look

#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, 1) as cluster:
        yield cluster


@pytest.fixture
def healthy(cluster: Cluster) -> Cluster:
    """All nodes agree: an earlier test may have made them change their roles."""
    cluster.await_healthy()
    return cluster


@pytest.fixture
async def store(healthy: Cluster, prefix: str) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=20) as store:
        yield store


@pytest.fixture
def admin(healthy: Cluster) -> Iterator[Any]:
    with plain_client(healthy.url) as client:
        yield client


async def on(
    cluster: Cluster, store: SessionStore, node: DevServer, *, other: bool = False, user: str = ""
) -> str:
    """A session that this node serves, or any *other* one."""
    while True:
        session_id = await (log_in(store, user) if user else create(store, n=0))
        if (cluster.owner(key_of(store, session_id)) is node) is not other:
            return session_id


async def load(store: SessionStore, session_id: str) -> Any:
    return (await open_session(store, session_id).load()).get("n")


def errors_of(cluster: Cluster, name: str) -> int:
    """How often the nodes have answered with this error."""
    counts = [ask(node, "INFO", "errorstats").get(f"errorstat_{name}") for node in cluster.nodes]
    return sum(int(count["count"]) for count in counts if count)


async def works(store: SessionStore, session_id: str) -> None:
    """Every verb on this session, and then its end."""
    session = await open_session(store, session_id).load()
    session["n"] = 1
    await session.save()
    assert await session.increment("n") == 2
    assert await open_session(store, session_id).fetch("n") == {"n": 2}
    assert await session.still_valid()
    refresh(store, handle_of(store, session_id))
    await store.drain()
    session.renew()
    await session.save()
    renewed = new_id(session)
    assert not await is_live(store, session_id)
    session = await open_session(store, renewed).load()
    await session.login("ann")
    await session.save()
    assert session["n"] == 2
    assert await store.users.count("ann") == 1
    assert await store.users.revoke_all("ann") == 1
    assert not await is_live(store, new_id(session))


async def test_every_session_goes_straight_to_its_node(
    healthy: Cluster, store: SessionStore, admin: Any
) -> None:
    """Three masters, a lane for each, and nobody is ever sent on by MOVED."""
    ids = [await create(store, n=number) for number in range(30)]
    before = errors_of(healthy, "MOVED")
    assert [await load(store, one) for one in ids] == list(range(30))
    assert {healthy.owner(key_of(store, one)).port for one in ids} == {
        node.port for node in healthy.others()
    }
    assert len(lanes_of(store)) == 3
    assert errors_of(healthy, "MOVED") == before
    for session_id in ids[:3]:
        await works(store, session_id)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_either_protocol_will_do(healthy: Cluster, prefix: str, protocol: int) -> None:
    """The topology, every verb and the check, in RESP2 and RESP3."""
    url = f"{healthy.url}?protocol={protocol}"
    async with SessionStore.from_url(url, prefix=prefix) as store:
        await works(store, await create(store, n=0))
        report = await store.check()
        assert report.is_ok
        assert {finding.name for finding in report.findings} >= {"version", "cluster", "clock"}


async def test_writes_alone_find_a_new_master(prefix: str) -> None:
    """Nothing is ever loaded: a write that fails makes the next one look again."""
    with Cluster(3, 1, dead_after_ms=SOON_MS) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=3) as store:
            dead = cluster.owner("any")
            session = await open_session(store, await on(cluster, store, dead)).load()
            assert ask(dead, "WAIT", 1, 9000) == 1
            os.kill(dead.pid, signal.SIGKILL)
            async with asyncio.timeout(100):
                for number in range(1, 1000):
                    session["n"] = number
                    try:
                        await session.save()
                    except SessionUnavailable:
                        await asyncio.sleep(0.05)
                    else:
                        break
            info = await store.get(session.handle or "")
            assert info is not None
            assert info.fields == {"n": number}


async def test_commands_of_all_callers_gather_for_each_node(store: SessionStore) -> None:
    """300 loads at once: a few batches for each of three nodes, not 300."""
    ids = [await create(store, n=0) for _ in range(30)]
    before = store.stats
    await asyncio.gather(*[load(store, one) for one in ids * 10])
    assert store.stats.commands - before.commands == 300
    assert store.stats.batches - before.batches <= 30


async def test_a_client_that_is_handed_in_stays_unused(healthy: Cluster, prefix: str) -> None:
    """RedisCluster says where to start; it never connects, and is not closed."""
    client = RedisCluster(host="localhost", port=healthy.nodes[0].port)
    async with SessionStore(client, prefix=prefix) as store:
        await works(store, await create(store, n=0))
    assert client.get_nodes() == []


async def test_one_living_starting_node_is_enough(healthy: Cluster, prefix: str) -> None:
    """The others of the URL may be down or hang."""
    hung = healthy.nodes[-1]
    ports = [1, hung.port, healthy.nodes[0].port]
    url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"
    with frozen(hung):
        async with SessionStore.from_url(url, prefix=prefix) as store:
            await works(store, await create(store, n=0))


async def test_no_node_answers(prefix: str) -> None:
    """One sentence that says so; the store is made all the same."""
    async with SessionStore.from_url("redis+cluster://127.0.0.1:1", prefix=prefix) as store:
        with pytest.raises(SessionUnavailable, match=r"127\.0\.0\.1:1 did not list its slots"):
            await create(store, n=0)
        refresh(store, "0" * 32)
        await store.drain()
        assert store.stats.errors == 2


async def test_a_server_that_is_no_cluster(prefix: str) -> None:
    """One sentence that names the server's own words."""
    with DevServer(search=False) as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        async with SessionStore.from_url(url, prefix=prefix) as store:
            with pytest.raises(SessionUnavailable, match="cluster support disabled"):
                await create(store, n=0)


# --- Slots that move ---


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


# --- Nodes that fail ---


async def test_a_hung_node_delays_only_its_own_sessions(
    healthy: Cluster, store: SessionStore
) -> None:
    """While one master hangs, a thousand loads from the others are done; its own wait."""
    hung = healthy.owner("any")
    theirs = await on(healthy, store, hung)
    others = [await on(healthy, store, hung, other=True) for _ in range(5)]
    with frozen(hung):
        waiting = asyncio.create_task(load(store, theirs))
        for _ in range(10):
            assert await asyncio.gather(*[load(store, one) for one in others * 20]) == [0] * 100
        assert not waiting.done()
    # It may have been replaced meanwhile; either way the load is answered.
    assert await waiting == 0


async def test_a_hung_node_answers_its_callers_in_time(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """Its callers get SessionUnavailable, also those who queue while others wait."""
    hung = healthy.owner("any")
    theirs = await on(healthy, store, hung)
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=0.5) as hasty:
        with frozen(hung):
            results = await asyncio.gather(
                *[load(hasty, theirs) for _ in range(50)], return_exceptions=True
            )
        assert {type(result) for result in results} == {SessionUnavailable}


async def test_a_planned_failover_loses_nothing(healthy: Cluster, store: SessionStore) -> None:
    """CLUSTER FAILOVER under load: no error, each increment counts once."""
    session_id = await create(store, n=0)
    key = key_of(store, session_id)
    old = healthy.owner(key)
    replica = healthy.replica_of(old)
    counted, over = 0, asyncio.Event()

    async def count() -> None:
        nonlocal counted
        while not over.is_set():
            await open_session(store, session_id).increment("n")
            counted += 1

    counting = [asyncio.create_task(count()) for _ in range(5)]
    ask(replica, "CLUSTER FAILOVER")
    await asyncio.to_thread(wait_for, lambda: healthy.owner(key) is replica)
    over.set()
    await asyncio.gather(*counting)
    assert await load(store, session_id) == counted


async def test_a_killed_master_is_replaced(prefix: str) -> None:
    """Its sessions fail until a replica has taken over, then work again; the others' never fail."""
    with Cluster(3, 1, dead_after_ms=SOON_MS) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=3) as store:
            dead = cluster.owner("any")
            theirs = await on(cluster, store, dead)
            other = await on(cluster, store, dead, other=True)
            assert ask(dead, "WAIT", 1, 9000) == 1
            os.kill(dead.pid, signal.SIGKILL)
            with pytest.raises(SessionUnavailable, match=f"127.0.0.1:{dead.port}"):
                await load(store, theirs)

            async def until_it_works(session_id: str) -> Any:
                while True:
                    assert await load(store, other) == 0
                    try:
                        return await load(store, session_id)
                    except SessionUnavailable:
                        await asyncio.sleep(0.05)

            assert await asyncio.wait_for(until_it_works(theirs), 100) == 0
            await works(store, theirs)
            await store.drain()
            assert not [lane for lane in lanes_of(store) if f":{dead.port}," in lane.address]


async def test_revoke_all_ends_what_it_can_reach(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """With a node hung it says so, and has ended the user's other sessions; then the rest."""
    index = f"{prefix}:user:{_digest('ann')}"
    hung = healthy.others(healthy.owner(index))[0]
    theirs = await on(healthy, store, hung, user="ann")
    others = [await on(healthy, store, hung, other=True, user="ann") for _ in range(3)]
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=1) as hasty:
        assert await hasty.users.count("ann") >= 4  # it knows the nodes by now
        with frozen(hung):
            with pytest.raises(SessionUnavailable):
                await hasty.users.revoke_all("ann")
            assert [await is_live(store, one) for one in others] == [False] * 3
    await asyncio.to_thread(healthy.await_healthy)
    # The hung node may have found the command in its socket when it woke up, and done it.
    was_live = await is_live(store, theirs)
    assert await store.users.revoke_all("ann") >= was_live
    assert not await is_live(store, theirs)
    assert await store.users.count("ann") == 0


async def test_an_older_secret_on_a_hung_node_hinders_nobody(healthy: Cluster, prefix: str) -> None:
    """A session that is found under the newest secret does not wait for the older one's node."""
    new, old = "n" * 16, "o" * 16
    async with SessionStore.from_url(
        healthy.url, prefix=prefix, secret=[new, old], timeout=3
    ) as store:
        hung = healthy.owner("any")
        while True:
            session_id = await create(store, n=7)
            places = [healthy.owner(f"{prefix}:{one}") for one in handles_of(store, session_id)]
            if places[1] is hung and places[0] is not hung:
                break
        with frozen(hung):
            assert await load(store, session_id) == 7
            await store.drain()


# --- The Cluster column of docs/verbs.md, where it differs ---


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


@pytest.mark.parametrize("user", ["", "ann"])
async def test_verbs_a_move_to_a_full_node(
    healthy: Cluster, store: SessionStore, prefix: str, user: str
) -> None:
    """
    The new key's node is out of memory: 503. An anonymous session is back where it was; a user's
    has ended, since it might have been revoked meanwhile.
    """
    home = healthy.owner(f"{prefix}:user:{_digest('ann')}")
    full = healthy.others(home)
    session_id = await on(healthy, store, home, user=user)
    for node in full:
        ask(node, "CONFIG SET", "maxmemory", 1)
    try:
        while True:
            session = await open_session(store, session_id).load()
            session.renew()
            try:
                await session.save()
            except SessionUnavailable:
                break
            session_id = new_id(session)
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


def _digest(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:32]
