"""
The cells of docs/verbs.md on one node: what a crash, a concurrent write and a revocation leave.

A crash after a step is made real by a gate that delivers the command and keeps the answer: the
server has done its work, and the process that asked never hears of it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis import RedisCluster

from asgi_redis_session import Session, SessionGone, SessionStore, SessionUnavailable

from ..support.gate import Gate, Gates, gates_to
from ..support.internals import (
    cookie_change,
    exists,
    handle_of,
    load_scripts,
    open_session,
    refresh,
)
from ..support.keyspace import session_keys
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster

#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


@dataclass
class World:
    """A session `{n: 1, other: "x"}`, a store behind a gate, a store without, and Redis itself."""

    gate: Gate | Gates
    doomed: SessionStore
    store: SessionStore
    admin: Any
    session_id: str

    @property
    def handle(self) -> str:
        return handle_of(self.store, self.session_id)

    @property
    def key(self) -> str:
        return f"{self.store.prefix}:{self.handle}"

    async def loaded(self) -> Session:
        """The session as the doomed process holds it."""
        return await open_session(self.doomed, self.session_id).load()

    async def crash(self, verb: Awaitable[Any], done: Callable[[], bool]) -> None:
        """Run the verb until Redis has done it, and lose the answer."""
        self.gate.hold_replies()
        running = asyncio.ensure_future(verb)
        while not done():
            assert not running.done()
            await asyncio.sleep(0.005)
        self.gate.shut()
        with pytest.raises(SessionUnavailable):
            await running

    def keys(self) -> list[str]:
        return sorted(key.decode() for key in session_keys(self.admin, self.store.prefix))

    def reads(self) -> int:
        """How often a whole hash was read, on all servers."""
        nodes = {"target_nodes": "primaries"} if isinstance(self.admin, RedisCluster) else {}
        told = self.admin.info("commandstats", **nodes)
        servers = list(told.values()) if nodes else [told]
        return sum(server.get("cmdstat_hgetall", {}).get("calls", 0) for server in servers)

    def fields(self, key: str) -> dict[bytes, bytes]:
        return {
            name: raw for name, raw in self.admin.hgetall(key).items() if not name.startswith(b"@")
        }

    def assert_untouched(self) -> None:
        assert self.keys() == [self.key]
        assert self.fields(self.key) == {b"n": b"1", b"other": b"x"}
        assert self.admin.pttl(self.key) > 0


@pytest.fixture
async def world(
    session_redis_url: str, prefix: str, store: SessionStore, admin: Any
) -> AsyncIterator[World]:
    load_scripts(admin)
    with gates_to(session_redis_url) as gate:
        async with gate.store(prefix=prefix, timeout=60) as doomed:
            session_id = await create(store, n=1, other="x")
            # Connected, to each node of a Cluster, before answers are lost.
            await open_session(doomed, session_id).load()
            await asyncio.gather(*[exists(doomed, secrets.token_hex(16)) for _ in range(50)])
            yield World(gate, doomed, store, admin, session_id)


async def test_verbs_load_crash(world: World) -> None:
    """Nothing has happened: the TTL is extended when the reply is there."""
    world.admin.pexpire(world.key, MINUTE)
    verb, before = open_session(world.doomed, world.session_id).load(), world.reads()
    await world.crash(verb, lambda: world.reads() > before)
    world.assert_untouched()
    assert world.admin.pttl(world.key) <= MINUTE


async def test_verbs_refresh_crash(world: World) -> None:
    """TTL slid, and nobody is told anything."""
    world.admin.pexpire(world.key, MINUTE)
    world.gate.hold_replies()
    refresh(world.doomed, world.handle)
    while world.admin.pttl(world.key) <= MINUTE:
        await asyncio.sleep(0.005)
    world.gate.shut()
    await world.doomed.drain()
    world.assert_untouched()


async def test_verbs_refresh_of_an_ended_session(world: World) -> None:
    """A refresh that arrives after the end brings nothing back."""
    await world.store.revoke(world.handle)
    refresh(world.store, world.handle)
    await world.store.drain()
    assert world.keys() == []


@pytest.mark.parametrize("verb", ["load", "fetch"])
async def test_verbs_load_and_writes(world: World, verb: str) -> None:
    """While commits of two fields follow each other, every read sees one commit's, and not half."""
    torn: list[tuple[int, str]] = []
    seen: set[int] = set()
    is_enough = asyncio.Event()

    async def write() -> None:
        session = await open_session(world.store, world.session_id).load()
        number = 1
        while not is_enough.is_set():
            number += 1
            session["n"], session["other"] = number, str(number)
            await session.save()

    async def read() -> None:
        while not is_enough.is_set():
            session = open_session(world.doomed, world.session_id)
            read = await (session.load() if verb == "load" else session.fetch("n", "other"))
            n, other = read["n"], read["other"]
            if other != ("x" if n == 1 else str(n)):
                torn.append((n, other))
            seen.add(n)
            if len(seen) >= 100 or torn:
                is_enough.set()

    await asyncio.gather(write(), *[read() for _ in range(10)])
    assert torn == []


async def test_verbs_load_after_revocation(world: World) -> None:
    """Not found, anonymous, nothing created."""
    await world.store.revoke(world.handle)
    session = await world.loaded()
    assert len(session) == 0
    assert session.is_new
    assert world.keys() == []


async def test_verbs_touch_crash(world: World) -> None:
    """TTL extended, nothing else."""
    world.admin.pexpire(world.key, MINUTE)
    verb = open_session(world.doomed, world.session_id).touch()
    await world.crash(verb, lambda: world.admin.pttl(world.key) > MINUTE)
    world.assert_untouched()


async def test_verbs_refresh_and_touch_among_writes(world: World) -> None:
    """Commits, refreshes and touches at once: every field is as last written, with a TTL."""
    world.admin.pexpire(world.key, MINUTE)

    async def write(name: str) -> None:
        session = await open_session(world.store, world.session_id, extends=False).load()
        for number in range(50):
            session[name] = number
            await session.save()

    async def extend() -> None:
        session = open_session(world.doomed, world.session_id)
        for _ in range(50):
            refresh(world.doomed, world.handle)
            assert await session.touch()

    await asyncio.gather(write("n"), write("other"), extend(), extend())
    await world.doomed.drain()
    assert world.fields(world.key) == {b"n": b"49", b"other": b"49"}
    assert world.admin.pttl(world.key) > MINUTE


async def test_verbs_save_crash(world: World) -> None:
    """All of the commit is there, with a TTL."""
    session = await world.loaded()
    session["n"] = 2
    session["fresh"] = [1]
    del session["other"]
    await world.crash(session.save(), lambda: world.admin.hget(world.key, "n") == b"2")
    assert world.fields(world.key) == {b"n": b"2", b"fresh": b"[1]"}
    assert world.admin.pttl(world.key) > 0
    assert world.keys() == [world.key]


async def test_verbs_save_again_after_a_lost_answer(world: World) -> None:
    """Whether the first try has arrived is not known, so the second one writes all of it."""
    session = await world.loaded()
    session["n"] = 2
    del session["other"]
    await world.crash(session.save(), lambda: world.admin.hget(world.key, "n") == b"2")
    world.gate.open()
    session["n"] = 1
    session["other"] = "x"
    await session.save()
    assert world.fields(world.key) == {b"n": b"1", b"other": b"x"}
    del session["other"]
    await session.save()
    assert world.fields(world.key) == {b"n": b"1"}


async def test_verbs_save_against_a_write(world: World) -> None:
    """Other fields: both survive. The same field: the later script wins. A removal stays one."""
    first, second = await world.loaded(), await open_session(world.store, world.session_id).load()
    first["mine"], first["n"] = 1, "first"
    second["yours"], second["n"] = 2, "second"
    del second["other"]
    await second.save()
    await first.save()
    assert world.fields(world.key) == {b"mine": b"1", b"yours": b"2", b"n": b"first"}


async def test_verbs_save_after_revocation(world: World) -> None:
    """Gone: nothing is recreated."""
    session = await world.loaded()
    session["n"] = 2
    await world.store.revoke(world.handle)
    with pytest.raises(SessionGone):
        await session.save()
    assert world.keys() == []


async def test_verbs_save_before_revocation(world: World) -> None:
    """The session ends with its new fields."""
    session = await world.loaded()
    session["n"] = 2
    await session.save()
    assert await world.store.revoke(world.handle)
    assert world.keys() == []


async def test_verbs_create_crash(world: World) -> None:
    """A whole session with a TTL, whose id nobody holds."""
    session = await open_session(world.doomed).load()
    session["fresh"] = "yes"
    await world.crash(session.save(), lambda: len(world.keys()) == 2)
    (orphan,) = set(world.keys()) - {world.key}
    assert world.fields(orphan) == {b"fresh": b"yes"}
    assert world.admin.pttl(orphan) > 0
    assert cookie_change(session) is None


async def test_verbs_create_belongs_to_nobody(world: World) -> None:
    """No place is taken, and revoke_all finds nothing to end."""
    assert await world.store.users.revoke_all("ann") == 0
    world.assert_untouched()


async def test_verbs_increment_crash(world: World) -> None:
    """Counted once."""
    verb = open_session(world.doomed, world.session_id).increment("n")
    await world.crash(verb, lambda: world.admin.hget(world.key, "n") != b"1")
    assert world.fields(world.key) == {b"n": b"2", b"other": b"x"}
    assert world.admin.pttl(world.key) > 0


async def test_verbs_increment_against_an_assignment(world: World) -> None:
    """The later script wins."""
    session = await world.loaded()
    session["n"] = 10
    assert await open_session(world.store, world.session_id).increment("n") == 2
    await session.save()
    assert await open_session(world.store, world.session_id).increment("n") == 11


async def test_verbs_increment_after_revocation(world: World) -> None:
    """Loaded before: SessionGone. Not loaded: a new session, with a staged value."""
    loaded = await world.loaded()
    await world.store.revoke(world.handle)
    with pytest.raises(SessionGone):
        await loaded.increment("n")
    unloaded = open_session(world.store, world.session_id)
    assert await unloaded.increment("n", 5) == 5
    assert world.keys() == []
    await unloaded.save()
    assert world.keys() != [world.key]
    assert len(world.keys()) == 1


async def test_verbs_increment_before_revocation(world: World) -> None:
    """The session ends with its sum."""
    assert await open_session(world.store, world.session_id).increment("n") == 2
    assert await world.store.revoke(world.handle)
    assert world.keys() == []


async def test_verbs_fetch_crash_and_revocation(world: World) -> None:
    """As load."""
    world.admin.pexpire(world.key, MINUTE)
    verb = open_session(world.doomed, world.session_id).fetch("n")
    await world.crash(verb, lambda: world.admin.pttl(world.key) > MINUTE)
    world.assert_untouched()
    await world.store.revoke(world.handle)
    assert await open_session(world.store, world.session_id).fetch("n") == {}
    assert world.keys() == []


@pytest.mark.one_node
async def test_verbs_renew_crash(world: World) -> None:
    """One live session under an id that nobody holds; the old id is dead: a logout."""
    session = await world.loaded()
    session["n"] = 2
    session.renew()
    await world.crash(session.save(), lambda: not world.admin.exists(world.key))
    (orphan,) = world.keys()
    assert world.fields(orphan) == {b"n": b"2", b"other": b"x"}
    assert world.admin.pttl(orphan) > 0
    assert cookie_change(session) is None


async def test_verbs_renew_and_a_write(world: World) -> None:
    """Written before the renewal: moves along. After it: gone."""
    session, early = await world.loaded(), await open_session(world.store, world.session_id).load()
    late = await open_session(world.store, world.session_id).load()
    early["early"] = True
    await early.save()
    session.renew()
    await session.save()
    late["late"] = True
    with pytest.raises(SessionGone):
        await late.save()
    (key,) = world.keys()
    assert world.fields(key) == {b"n": b"1", b"other": b"x", b"early": b"true"}


async def test_verbs_renew_after_revocation(world: World) -> None:
    """Gone, and no second session."""
    session = await world.loaded()
    session.renew()
    await world.store.revoke(world.handle)
    with pytest.raises(SessionGone):
        await session.save()
    assert world.keys() == []


async def test_verbs_logout_crash(world: World) -> None:
    """Gone."""
    session = await world.loaded()
    await world.crash(session.logout(), lambda: world.keys() == [])
    assert not await open_session(world.store, world.session_id).still_valid()


async def test_verbs_logout_twice_and_against_revocation(world: World) -> None:
    """Whoever comes second finds nothing, and says nothing."""
    session, unloaded = await world.loaded(), open_session(world.store, world.session_id)
    assert await world.store.revoke(world.handle)
    await session.logout()
    await session.logout()
    await unloaded.logout()
    assert not await world.store.revoke(world.handle)
    assert [cookie_change(session), cookie_change(unloaded)] == [None, None]
    assert world.keys() == []


async def test_verbs_revoke_has_one_winner(world: World) -> None:
    """True only for the caller that ended it."""
    results = await asyncio.gather(*[world.store.revoke(world.handle) for _ in range(20)])
    assert sorted(results) == [False] * 19 + [True]
