"""
Row 6: request and reply of every verb cut at every byte.

Each cut happens while another request shares the batch. Afterwards Redis holds all of the verb or
nothing of it, the other request has its own answer, and no connection is left over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

import pytest

from asgi_redis_session import Session, SessionStore, SessionUnavailable

from ..support.internals import open_session, store_of
from ..support.keyspace import session_keys
from ..support.sessions import create
from .conftest import World

Fields = dict[str, Any]

OLD: Fields = {"n": 1, "twin": 1, "other": "x"}
NEW: Fields = {"n": 2, "twin": 2}
OTHER: Fields = {"who": "the other request"}
#: In the short form: every so many bytes.
STRIDE = 29


async def _save(session: Session) -> None:
    session.update(NEW)
    del session["other"]
    await session.save()


async def _renew(session: Session) -> None:
    session.renew()
    await _save(session)


async def _login(session: Session) -> None:
    await session.login("ada")
    await _save(session)


async def _create(session: Session) -> None:
    await create(store_of(session), **NEW)


class Verb(NamedTuple):
    """What is cut, and what Redis may hold afterwards: one of these lists of sessions."""

    act: Callable[[Session], Awaitable[Any]]
    done: list[Fields]
    loads_first: bool = True


VERBS = {
    "load": Verb(Session.load, [OLD], loads_first=False),
    "fetch": Verb(lambda session: session.fetch("n", "twin"), [OLD], loads_first=False),
    "increment": Verb(lambda session: session.increment("n"), [OLD | {"n": 2}], loads_first=False),
    "save": Verb(_save, [NEW]),
    "create": Verb(_create, [OLD, NEW]),
    "renew": Verb(_renew, [NEW]),
    "login": Verb(_login, [NEW]),
    "logout": Verb(Session.logout, []),
}


class Cutter:
    """Runs one verb again and again, each time with the connection cut somewhere else."""

    def __init__(self, world: World, verb: Verb) -> None:
        self.world = world
        self.verb = verb
        self.cuts = self.acknowledged = self.undone = 0

    async def lengths(self) -> tuple[int, int]:
        """How many bytes the verb sends and receives, with the other request that shares them."""
        await self._run(None)
        before = self.world.gate.carried
        await self._run(None)
        after = self.world.gate.carried
        return after[0] - before[0], after[1] - before[1]

    async def cut(
        self, which: Literal["commands", "replies"], offset: int, ending: Literal["reset", "close"]
    ) -> None:
        """One run, with one cut."""
        acknowledged, is_done = await self._run(lambda: self.world.gate.cut(which, offset, ending))
        self.cuts += 1
        self.acknowledged += acknowledged
        self.undone += not is_done

    async def _run(self, arm: Callable[[], None] | None) -> tuple[bool, bool]:
        """Whether the verb was acknowledged, and whether Redis has done it."""
        world = self.world
        world.admin.flushdb()
        session_id, other_id = await world.create(**OLD), await world.create(**OTHER)
        session = open_session(world.store, session_id)
        # So that the connection stands, and knows the scripts.
        await (
            session.load() if self.verb.loads_first else open_session(world.store, other_id).load()
        )
        if arm is not None:
            arm()
        verbs = (self.verb.act(session), open_session(world.store, other_id).load())
        answers: list[Any] = await asyncio.gather(*verbs, return_exceptions=True)
        world.gate.open()
        return self._judge(*answers)

    def _judge(self, result: Any, other: Any) -> tuple[bool, bool]:
        assert dict(other) == OTHER  # a load is tried again: one cut does not even show
        if isinstance(result, BaseException) and not isinstance(result, SessionUnavailable):
            raise result
        found = sorted(self._sessions(), key=str)
        is_done = found == sorted([*self.verb.done, OTHER], key=str)
        acknowledged = not isinstance(result, SessionUnavailable)
        assert is_done or (not acknowledged and found == sorted([OLD, OTHER], key=str)), found
        return acknowledged, is_done

    def _sessions(self) -> list[Fields]:
        """The user's fields of every session that Redis holds; each has a TTL."""
        admin, found = self.world.admin, []
        for key in session_keys(admin, self.world.prefix):
            assert admin.pttl(key) > 0
            if b":user:" not in key:
                found.append(
                    {
                        name.decode(): int(raw) if raw.isdigit() else raw.decode()
                        for name, raw in admin.hgetall(key).items()
                        if not name.startswith(b"@")
                    }
                )
        return found


async def _cut_everywhere(world: World, verb: str, stride: int) -> Cutter:
    cutter = Cutter(world, VERBS[verb])
    commands, replies = await cutter.lengths()
    for offset in range(0, commands + 1, stride):
        await cutter.cut("commands", offset, "close" if offset % 2 else "reset")
    for offset in range(0, replies + 1, stride):
        await cutter.cut("replies", offset, "close" if offset % 2 else "reset")
    await world.store.drain()
    # After a login there may be a second one, for what looks at the user's other places.
    opened = world.store.stats.connections
    assert opened in (1, 2)
    async with asyncio.timeout(60):  # until the gate and the server have heard of the last end
        while (world.gate.connections, world.connections()) != (opened, opened + 1):
            await asyncio.sleep(0.01)  # and the direct store's
    return cutter


@pytest.mark.parametrize("verb", VERBS)
async def test_a_cut_leaves_all_or_nothing(world: World, verb: str) -> None:
    """Cut anywhere, a verb has happened whole or not at all, and nobody gets another's reply."""
    cutter = await _cut_everywhere(world, verb, STRIDE)
    assert (cutter.acknowledged == cutter.cuts) == (verb in ("load", "fetch"))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_cut_at_every_byte_leaves_all_or_nothing(
    world: World, verb: str, figure: Callable[[str], None]
) -> None:
    """The same at every single byte."""
    cutter = await _cut_everywhere(world, verb, 1)
    figure(
        f"{verb}: cut at {cutter.cuts} offsets: {cutter.acknowledged} acknowledged and whole, "
        f"{cutter.cuts - cutter.acknowledged} refused ({cutter.undone} left no trace), "
        "0 partial, 0 wrong replies, 0 connections left over"
    )


@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_a_connection_cut_while_it_is_set_up(
    world: World, ending: Literal["reset", "close"]
) -> None:
    """Cut in the handshake, a load is tried once more; the answer is right."""
    session_id = await world.create(**OLD)
    async with SessionStore.from_url(world.gate.url, prefix=world.prefix, timeout=20) as store:
        before = world.gate.carried
        await open_session(store, session_id).load()
        after = world.gate.carried
    for which, length in zip(("commands", "replies"), range(2), strict=True):
        for offset in range(0, after[length] - before[length] + 1, 3 * STRIDE):
            async with SessionStore.from_url(
                world.gate.url, prefix=world.prefix, timeout=20
            ) as store:
                world.gate.cut(which, offset, ending)  # type: ignore[arg-type]
                assert dict(await open_session(store, session_id).load()) == OLD
                world.gate.open()
