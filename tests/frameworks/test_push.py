"""Ends of sessions that Redis pushes to sockets and streams: `SessionStore(push=True)`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from asgi_redis_session import Session, SessionStore
from asgi_redis_session.starlette import ending_when_revoked

from ..support.gate import gates_to
from ..support.internals import handle_of, heard, is_cluster, look_at_all, open_session
from ..support.servers import plain_client
from ..support.serving import PATIENCE
from ..support.sessions import create, log_in, opened
from .test_closing_when_revoked import World, close_of, works, world_of

pytestmark = pytest.mark.on_cluster

#: Seconds between two questions: so many that what is noticed was pushed.
NEVER = 1e6


@pytest.fixture
async def store(session_redis_url: str, prefix: str) -> AsyncIterator[SessionStore]:
    async with opened(session_redis_url, prefix, push=True) as store:
        yield store


@pytest.fixture
def world(session_redis_url: str, prefix: str) -> Iterator[World]:
    """Another process, which never asks."""
    other = SessionStore.from_url(session_redis_url, prefix=prefix, push=True, timeout=20)
    with world_of(other, every=NEVER) as world:
        yield world


async def test_a_revocation_closes_sockets_of_other_processes(
    world: World, store: SessionStore
) -> None:
    """All sockets of the session, and no other."""
    other = World(world.url, world.endpoints, world.new_cookies())
    async with world.socket("echo") as (one, handle), world.socket("echo") as (two, _):
        async with other.socket("echo") as (three, _):
            assert await works(one)
            assert await store.revoke(handle)
            assert await close_of(one) == (1008, "revoked")
            assert await close_of(two) == (1008, "revoked")
            assert await works(three)


@pytest.mark.parametrize(
    ("verb", "reason"), [("renew", "replaced"), ("log_in", "replaced"), ("log_out", "logged_out")]
)
async def test_every_end_is_pushed(world: World, verb: str, reason: str) -> None:
    """By the request that ends the session, or gives it a new id."""
    async with world.socket("echo") as (connection, _):
        async with httpx.AsyncClient(cookies=world.cookies, timeout=PATIENCE) as browser:
            await browser.get(f"{world.url}/{verb}")
        assert await close_of(connection) == (1008, reason)


async def test_all_sessions_of_a_user(store: SessionStore) -> None:
    """`revoke_all`, and the limit of sessions."""
    streams = [waiting(store, await log_in(store, "ann")) for _ in range(3)]
    await are_heard(store, 3)
    assert await store.users.revoke_all("ann", reason="password changed") == 3
    for session in await asyncio.gather(*streams):
        assert session.absence is not None
        assert session.absence.reason == "password changed"


# --- Streams ---


def waiting(store: SessionStore, session_id: str, every: float = NEVER) -> "asyncio.Task[Session]":
    """A stream of this session, which yields nothing until it ends; returns the session then."""

    async def nothing() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def read() -> Session:
        session = await open_session(store, session_id).load()
        async for _ in ending_when_revoked(nothing(), session, every=every):
            raise AssertionError
        return session

    return asyncio.create_task(read())


async def are_heard(store: SessionStore, number: int) -> None:
    """Return when the ends of so many sessions would be pushed."""
    async with asyncio.timeout(100):
        while len(heard(store)) != number:
            await asyncio.sleep(0.01 if number < 100 else 0.2)


async def test_a_stream_ends(store: SessionStore) -> None:
    """While it waits for its next item; it is closed, and the session says why."""
    session_id = await create(store, n=1)
    closed: list[str] = []

    async def prices() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    session = await open_session(store, session_id).load()
    seen: list[int] = []
    async for price in ending_when_revoked(prices(), session, every=NEVER):
        seen.append(price)
        if price == 2:
            assert await store.revoke(handle_of(store, session_id))
    assert seen == [1, 2]
    assert closed == ["closed"]
    assert session.absence is not None
    assert session.absence.kind == "revoked"


async def test_a_stream_that_ends_by_itself(store: SessionStore) -> None:
    """Nothing is listened to any more, and its error is its own."""

    async def three() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async def fails() -> AsyncIterator[int]:
        yield 0
        raise LookupError("from the app")

    session = await open_session(store, await create(store, n=1)).load()
    assert [n async for n in ending_when_revoked(three(), session)] == [0, 1, 2]
    assert session.absence is None
    with pytest.raises(LookupError, match="from the app"):
        async for _ in ending_when_revoked(fails(), session):
            pass
    await are_heard(store, 0)


async def test_a_reader_that_leaves_closes_the_stream(store: SessionStore) -> None:
    """As a client that disconnects."""
    closed: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append("closed")

    session = await open_session(store, await create(store, n=1)).load()
    stream = ending_when_revoked(endless(), session)
    assert await anext(stream) == 1
    await stream.aclose()
    assert closed == ["closed"]
    await are_heard(store, 0)


async def test_a_stream_without_push(session_redis_url: str, prefix: str) -> None:
    """Redis is asked."""
    async with opened(session_redis_url, prefix) as store:
        session_id = await create(store, n=1)
        stream = waiting(store, session_id, every=0.02)
        await asyncio.sleep(0)
        assert await store.revoke(handle_of(store, session_id))
        assert (await stream).absence is not None


async def test_the_end_of_a_lifetime(store: SessionStore) -> None:
    """Nothing is published then: Redis is asked at that instant."""
    session_id = await log_in(store, "ann", lifetime={"idle": 1.5})
    stream = waiting(store, session_id)
    await are_heard(store, 1)
    assert (await asyncio.wait_for(stream, 100)).absence is not None


# --- When messages are lost ---


@pytest.mark.one_node
async def test_an_end_while_the_connection_is_broken(session_redis_url: str, prefix: str) -> None:
    """It is noticed as soon as the channel is heard again."""
    with gates_to(session_redis_url) as gate:
        async with opened(session_redis_url, prefix, push=True) as other:
            store = gate.store(prefix=prefix, timeout=20, push=True)
            session_id, kept = await create(store, n=1), await create(store, n=1)
            stream, open_one = waiting(store, session_id), waiting(store, kept)
            await are_heard(store, 2)
            gate.shut()
            await are_heard(store, 0)
            assert await other.revoke(handle_of(store, session_id))
            gate.open()
            assert (await asyncio.wait_for(stream, 100)).absence is not None
            await are_heard(store, 1)
            assert not open_one.done()
            open_one.cancel()
            await asyncio.wait([open_one])
            await store.aclose()


async def test_an_end_that_nobody_publishes(store: SessionStore, prefix: str, admin: Any) -> None:
    """A process of before has ended it, say: a minute later it is noticed."""
    session_id = await create(store, n=1)
    stream = waiting(store, session_id)
    await are_heard(store, 1)
    await look_at_all(store)
    admin.delete(f"{prefix}:{handle_of(store, session_id)}")
    await look_at_all(store)
    assert (await asyncio.wait_for(stream, 100)).absence is not None


async def test_a_message_that_is_wrong_ends_nothing(
    store: SessionStore, session_redis_url: str
) -> None:
    """It is a hint: Redis is asked before anything ends."""
    session_id = await create(store, n=1)
    stream = waiting(store, session_id)
    await are_heard(store, 1)
    handle = handle_of(store, session_id)
    channel = f"{store.prefix}:push:{{{store.prefix}:{handle}}}"
    with plain_client(session_redis_url) as client:
        script = "return redis.call(ARGV[1], KEYS[1], 'revoked')"
        assert client.eval(script, 1, channel, publishes(store, client)) == 1
    await look_at_all(store)
    await are_heard(store, 1)
    assert not stream.done()
    assert await store.revoke(handle)
    await stream


def publishes(store: SessionStore, client: Any) -> str:
    """The command that reaches the listeners."""
    if not is_cluster(store):
        return "PUBLISH"
    info = client.info("server", target_nodes="random")
    version = next(iter(info.values())) if "redis_version" not in info else info
    return "PUBLISH" if str(version["redis_version"]) < "7" else "SPUBLISH"


# --- What it costs, and what it shows ---


@pytest.mark.one_node
async def test_ten_thousand_sockets_cost_a_hundred_commands_a_minute(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """And none in between. Asking twice a second, they would cost 1,200,000."""
    ids = [f"{n:043d}" for n in range(10_000)]
    with admin.pipeline(transaction=False) as pipe:
        for session_id in ids:
            key = f"{prefix}:{handle_of(store, session_id)}"
            pipe.hset(key, mapping={"@v": 1, "@created": 1, "@idle": 1_800_000})
            pipe.pexpire(key, 1_800_000)
        pipe.execute()
    streams = [waiting(store, session_id) for session_id in ids]
    await are_heard(store, 10_000)
    await look_at_all(store)

    def calls() -> dict[str, int]:
        stats = admin.info("commandstats")
        names = [name for name in stats if name in ("cmdstat_evalsha", "cmdstat_hgetall")]
        return {name: stats[name]["calls"] for name in names}

    before = calls()
    await look_at_all(store)
    cost = sum(calls().values()) - sum(before.values())
    assert 100 <= cost <= 105  # with a message that proves that messages arrive
    assert await store.revoke(handle_of(store, ids[7]))
    assert (await streams[7]).absence is not None
    assert sum(stream.done() for stream in streams) == 1
    for stream in streams:
        stream.cancel()
    await asyncio.wait(streams)


@pytest.mark.one_node
async def test_what_is_published(store: SessionStore, prefix: str, admin: Any) -> None:
    """The handle, which is safe to show, and why; no id, no user, no value."""
    with admin.pubsub(ignore_subscribe_messages=False) as listening:
        listening.psubscribe(f"{prefix}:*")
        listening.get_message(timeout=PATIENCE)
        session_id = await log_in(store, "ann", secret="value")
        await store.users.revoke_all("ann", reason="a reason")
        message = listening.get_message(timeout=PATIENCE)
        assert listening.get_message() is None
    handle = handle_of(store, session_id)
    assert message["channel"].decode() == f"{prefix}:push:{{{prefix}:{handle}}}"
    assert message["data"] == b"revoked"


@pytest.mark.one_node
async def test_without_push_nothing_is_published(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """And no connection is opened for it."""
    with admin.pubsub() as listening:
        listening.psubscribe(f"{prefix}:*")
        listening.get_message(timeout=PATIENCE)
        async with opened(session_redis_url, prefix) as store:
            session_id = await create(store, n=1)
            stream = waiting(store, session_id, every=0.02)
            await store.revoke(handle_of(store, session_id))
            await stream
        assert listening.get_message() is None


# --- When Redis does not allow it ---


@pytest.mark.one_node
@pytest.mark.parametrize("right", ["subscribe", "publish"])
async def test_without_the_right_redis_is_asked(
    session_redis_url: str,
    prefix: str,
    admin: Any,
    caplog: pytest.LogCaptureFixture,
    right: str,
) -> None:
    """One line in the log; ends work, and are noticed as often as asked."""
    name = f"app-{prefix}"
    admin.execute_command(*f"ACL SETUSER {name} on >pw ~* &* +@all -{right}".split())
    url = session_redis_url.replace("redis://", f"redis://{name}:pw@")
    try:
        async with opened(
            url, prefix, push=True, **({"timeout": 2} if right == "publish" else {})
        ) as store:
            session_id = await create(store, n=1)
            stream = waiting(store, session_id, every=0.02)
            with caplog.at_level(logging.WARNING):
                async with asyncio.timeout(100):
                    while "can't be pushed" not in caplog.text:
                        await asyncio.sleep(0.01)
            assert heard(store) == set()
            assert await store.revoke(handle_of(store, session_id))
            assert (await asyncio.wait_for(stream, 100)).absence is not None
            assert caplog.text.count("can't be pushed") == 1
            assert store.stats.errors == 0
    finally:
        admin.execute_command("ACL", "DELUSER", name)


async def test_a_closed_store_wakes_its_streams(store: SessionStore) -> None:
    """They ask, and the store opens again, as it does for any other command."""
    session_id = await create(store, n=1)
    stream = waiting(store, session_id)
    await are_heard(store, 1)
    await store.aclose()
    await are_heard(store, 1)
    assert await store.revoke(handle_of(store, session_id))
    await stream
