"""What goes with each write of a verb: the write concern, the counter, the TTL, the login time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    Lifetime,
    Session,
    SessionEvent,
    SessionGone,
    SessionStore,
    SessionValueError,
)
from asgi_redis_session.devserver import DevServer

from ..support.internals import lanes_of, load_scripts, open_session
from ..support.keyspace import index_key
from ..support.servers import client_of
from ..support.sessions import create, log_in
from ..support.steps import Steps

#: Nobody replicates, so that each write falls short of it.
CONCERN = Durability(replicas=1, timeout=0.01)
#: How long (ms) a hash may live until its place is confirmed: at least 10 s, with this timeout.
UNCONFIRMED_MS = 10_000
HOUR_MS = 3_600_000


@pytest.fixture
def admin(alone: DevServer) -> Iterator[Any]:
    with client_of(alone) as client:
        client.flushall()
        load_scripts(client)  # else the first use of each is sent twice, with its WAIT
        yield client


@pytest.fixture
async def store(alone: DevServer) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(alone.url, lifetime=Lifetime(idle=3600)) as store:
        yield store


async def _make(store: SessionStore, user: str) -> str:
    return await (log_in(store, user, n=1) if user else create(store, n=1))


async def _write(session: Session) -> None:
    session["n"] = 2


async def _remove(session: Session) -> None:
    del session["n"]


async def _shorten(session: Session) -> None:
    session.set_lifetime(idle=60)


async def _renew(session: Session) -> None:
    session.renew()


async def _log_in(session: Session) -> None:
    await session.login("ann")


#: Verbs, whose session it is before ("": nobody's, None: there is none), how many writes wait.
VERBS: list[tuple[Callable[[Session], Awaitable[None]], str | None, int]] = [
    (_write, None, 1),
    (_write, "", 1),
    (_remove, "ann", 1),
    (_shorten, "", 1),
    (_renew, "", 1),
    (_renew, "ann", 2),
    (_log_in, None, 2),
    (_log_in, "", 2),
    (_log_in, "ann", 2),
    (_log_in, "bob", 3),
]


@pytest.mark.parametrize("row", VERBS, ids=[f"{verb.__name__} {user}" for verb, user, _ in VERBS])
async def test_each_write_of_a_verb_has_its_concern(
    store: SessionStore, alone: DevServer, admin: Any, row: Any
) -> None:
    """It waits for each of them, says that it fell short, and is counted as one commit."""
    verb, user, waits = row
    session_id = None if user is None else await _make(store, user)
    async with SessionStore.from_url(
        alone.url, durability=CONCERN, end_durability=CONCERN
    ) as strict:
        session = await open_session(strict, session_id).load()
        await verb(session)
        with pytest.raises(DurabilityNotReached):
            await create(strict, n=0)  # not the first commit that is counted
        admin.config_resetstat()
        commits = strict.stats.commits
        with pytest.raises(DurabilityNotReached):
            await session.save()
        assert admin.info("commandstats")["cmdstat_wait"]["calls"] == waits
        assert strict.stats.commits == commits + 1
        session["more"] = 1
        with pytest.raises(DurabilityNotReached):
            await session.save()
        assert strict.stats.commits == commits + 2
        info = await store.get(str(session.handle))
        assert info is not None
        assert info.fields["more"] == 1


async def test_an_increment_has_its_concern(
    store: SessionStore, alone: DevServer, admin: Any
) -> None:
    """As any other write: the sum stands, and falls short."""
    async with SessionStore.from_url(alone.url, durability=CONCERN) as strict:
        session = await open_session(strict, await _make(store, "")).load()
        with pytest.raises(DurabilityNotReached):
            await session.increment("n")
        assert session["n"] == 2


async def test_what_a_login_has_replaced_is_remembered_for_a_minute(
    alone: DevServer, admin: Any
) -> None:
    """On another user's session; an end by a logout for as long as the store says."""
    async with SessionStore.from_url(alone.url, remember_ended=3600) as store:
        for verb, remembered_ms in ((_log_in, 60_000), (Session.logout, HOUR_MS)):
            session = await open_session(store, await _make(store, "bob")).load()
            tombstone = f"session:ended:{{session:{session.handle}}}"
            await verb(session)
            await session.save()
            assert remembered_ms / 2 < admin.pttl(tombstone) <= remembered_ms


async def test_the_ends_of_many_sessions_delay_no_request(store: SessionStore) -> None:
    """They have a connection of their own, which a logout does not need."""
    await (await open_session(store, await _make(store, "")).load()).logout()
    assert {lane.purpose for lane in lanes_of(store)} == {"requests"}
    await _make(store, "ann")
    lists = await _commands(store, "lists")
    await store.users.revoke_all("ann")
    assert await _commands(store, "lists") - lists >= 3  # the places, the end, and a place's return


async def _commands(store: SessionStore, purpose: str) -> int:
    await store.drain()
    return sum(lane.commands for lane in lanes_of(store) if lane.purpose == purpose)


async def test_an_end_of_what_can_not_be_read_names_it(alone: DevServer, admin: Any) -> None:
    """It is left as it is, and reported with its handle."""
    events: list[SessionEvent] = []
    async with SessionStore.from_url(alone.url, on_event=events.append) as store:
        session = await open_session(store, await _make(store, "")).load()
        admin.hset(f"session:{session.handle}", "@v", "2")
        assert not await store.revoke(str(session.handle))
        assert (events[-1].name, events[-1].handle) == ("corrupt", session.handle)


@pytest.mark.parametrize("user", ["", "ann"])
async def test_a_renewal_keeps_ttl_and_login_time(
    store: SessionStore, admin: Any, user: str
) -> None:
    """A user's new hash is short-lived until its place is confirmed; nobody's needs none."""
    session = await open_session(store, await _make(store, user)).load()
    index = index_key("session", "ann")
    since = admin.zscore(index, str(session.handle))
    ttls: dict[str, int] = {}
    steps = Steps(store)

    async def look(name: str, _: int, send: Any) -> Any:
        if name == "confirm":
            ttls.update({key.decode(): admin.pttl(key) for key in admin.keys("session:*")})
        return await send()

    steps.on_step = look
    session.renew()
    await session.save()
    steps.stop()
    key = f"session:{session.handle}"
    assert HOUR_MS - 60_000 < admin.pttl(key) <= HOUR_MS
    if user:
        assert 0 < ttls[key] <= UNCONFIRMED_MS
        assert admin.zscore(index, str(session.handle)) == since


async def test_a_durable_login_has_time_to_be_confirmed(alone: DevServer, admin: Any) -> None:
    """Its hash lives for five times what a step may take: the timeout and that of its concern."""
    patient = Durability(replicas=1, timeout=60)
    async with SessionStore.from_url(alone.url, timeout=10, durability=patient) as store:
        session = await open_session(store).load()
        await session.login("ann")
        saving = asyncio.create_task(session.save())
        while not (found := [key for key in admin.scan_iter() if admin.type(key) == b"hash"]):
            await asyncio.sleep(0.01)
        assert 5 * 60_000 < admin.pttl(found[0]) <= 5 * 70_000
        saving.cancel()
        admin.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(asyncio.CancelledError):
            await saving


async def test_a_commit_that_finds_another_layout_says_so(alone: DevServer, admin: Any) -> None:
    """Not that the session has ended; nothing is written."""
    events: list[SessionEvent] = []
    async with SessionStore.from_url(alone.url, on_event=events.append) as store:
        session = await open_session(store, await create(store, n=1)).load()
        key = f"session:{session.handle}"
        admin.hset(key, "@v", "2")
        before = admin.dump(key)
        events.clear()
        session["n"] = 2
        with pytest.raises(SessionGone):
            await session.save()
        assert [event.name for event in events] == ["corrupt"]
        assert admin.dump(key) == before


async def test_an_idle_time_that_was_written_counts_at_once(store: SessionStore) -> None:
    """The same object knows when it expires, and a longer one is no longer possible."""
    session = await open_session(store, await create(store, n=1)).load()
    session.set_lifetime(idle=60)
    await session.save()
    session["n"] = 2
    await session.save()
    info = await store.get(str(session.handle))
    assert info is not None
    assert info.expires_at - info.last_seen <= timedelta(seconds=60)
    with pytest.raises(SessionValueError, match="longer than its 60 s"):
        session.set_lifetime(idle=120)


async def test_a_new_session_of_nobody_lives_as_long_as_it_may(
    store: SessionStore, admin: Any
) -> None:
    """It has no place to confirm, so that its life is not short at first."""
    session = await open_session(store).load()
    session["n"] = 1
    await session.save()
    assert HOUR_MS - 60_000 < admin.pttl(f"session:{session.handle}") <= HOUR_MS
