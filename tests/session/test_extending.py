"""The PEXPIREAT that follows a load, for which no request waits: it must never do harm."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import Lifetime, SessionGone, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.gate import gate_to
from ..support.internals import be_open_for_long, handle_of, key_of, lanes_of, open_session
from ..support.serving import PATIENCE
from ..support.sessions import create

pytestmark = pytest.mark.anywhere

MINUTE = 60_000


async def test_an_extension_after_a_shortening_is_mended(store_with: Any, admin: Any) -> None:
    """An extension by the old idle time arrives after set_lifetime: the TTL mends itself."""
    async with store_with(timeout=0.3) as store:
        session_id = await create(store, n=1)
        key = key_of(store, session_id)
        session = await open_session(store, session_id).load()
        session.set_lifetime(idle=timedelta(minutes=5))
        await session.save()
        assert admin.pttl(key) <= 5 * MINUTE
        admin.pexpire(key, 30 * MINUTE)  # as another request would
        while admin.pttl(key) > 5 * MINUTE:
            await asyncio.sleep(0.01)


async def test_a_store_that_was_closed_looks_no_more(store_with: Any) -> None:
    """The second look after a shortening opens no connection again."""
    store = store_with(timeout=0.1)
    session = await open_session(store, await create(store, n=1)).load()
    session.set_lifetime(idle=timedelta(minutes=5))
    await session.save()
    await store.aclose()
    loop, is_over = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(0.3, is_over.set)  # the look was planned before, for an earlier instant
    await is_over.wait()
    assert lanes_of(store) == []


async def test_a_load_mends_a_ttl_that_is_too_long(store: SessionStore, admin: Any) -> None:
    """Whatever has made it so long; a look from outside does, too."""
    session_id = await create(store, n=1)
    key, handle = key_of(store, session_id), handle_of(store, session_id)
    for use in (lambda: open_session(store, session_id).load(), lambda: store.get(handle)):
        admin.pexpire(key, 600 * MINUTE)
        await use()
        await store.drain()
        assert admin.pttl(key) <= 30 * MINUTE


@pytest.mark.one_node
async def test_a_late_extension_is_not_sent(
    session_redis_url: str, prefix: str, store: SessionStore, admin: Any
) -> None:
    """The reply came late: by then, another request may have shortened the idle time."""
    session_id = await create(store, n=1)
    await store.drain()
    key = key_of(store, session_id)
    with gate_to(session_redis_url) as gate:
        async with gate.store(prefix=prefix, lifetime=Lifetime(idle=1800), timeout=2) as slow:
            await open_session(slow, session_id).load()
            await slow.drain()
            admin.pexpire(key, MINUTE)
            gate.hold_replies()
            loading = asyncio.ensure_future(open_session(slow, session_id).load())
            await asyncio.sleep(1.1)  # more than half of the timeout
            gate.open()
            await loading
            await slow.drain()
            assert admin.pttl(key) <= MINUTE
            await open_session(slow, session_id).load()
            await slow.drain()
            assert admin.pttl(key) > MINUTE


async def test_an_extension_brings_nothing_back(store: SessionStore, admin: Any) -> None:
    """The session ends between the load and the extension of its TTL."""
    session_id = await create(store, n=1)
    await store.drain()
    await open_session(store, session_id).load()
    admin.delete(key_of(store, session_id))
    await store.drain()
    assert not admin.exists(key_of(store, session_id))


@pytest.mark.one_node
async def test_a_refused_extension_is_only_counted(
    store: SessionStore, admin: Any, caplog: pytest.LogCaptureFixture, events: list[Any]
) -> None:
    """NOREPLICAS: the request has its session, and the log stays empty."""
    session_id = await create(store, n=1)
    await store.drain()
    errors = store.stats.errors
    events.clear()
    admin.config_set("min-replicas-to-write", 1)
    try:
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert (await open_session(store, session_id).load())["n"] == 1
                await store.drain()
    finally:
        admin.config_set("min-replicas-to-write", 0)
    assert store.stats.errors == errors + 3
    assert caplog.records == []
    assert events == []


async def test_a_deadline_in_the_past_is_no_instant_to_extend_to(
    store_with: Any, admin: Any
) -> None:
    """A PEXPIREAT to it would delete; but the session is over anyway, and deleted by a script."""
    async with store_with(lifetime=Lifetime(absolute=3600)) as store:
        session_id = await create(store, n=1)
        key = key_of(store, session_id)
        admin.hset(key, "@deadline", 1)
        session = await open_session(store, session_id).load()
        await store.drain()
        assert dict(session) == {}
        assert not admin.exists(key)


# --- The commit that relies on it ---


async def test_a_commit_after_a_shortening_is_a_save(
    store: SessionStore, kit: SessionKit, admin: Any
) -> None:
    """What was loaded is outdated: nothing is written by it, and the TTL is the shorter one."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    session = await open_session(store, session_id).load()
    other = await open_session(store, session_id).load()
    other.set_lifetime(idle=timedelta(minutes=5))
    await other.save()
    with kit.count() as commands:
        session["n"] = 2
        await session.save()
    assert commands.scripts == ["commit", "save"]
    assert admin.hget(key, "n") == b"2"
    assert admin.pttl(key) <= 5 * MINUTE


async def test_a_commit_after_the_end_is_a_save(
    store: SessionStore, kit: SessionKit, admin: Any
) -> None:
    """Nothing is recreated; also if there is something else under the key."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    for other in (None, "text"):
        admin.delete(key)
        admin.hset(key, mapping={"@v": "1", "@created": "1", "n": "1"})
        session = await open_session(store, session_id).load()
        await store.drain()
        admin.delete(key)
        if other is not None:
            admin.set(key, other, px=60_000)
        with kit.count() as commands, pytest.raises(SessionGone):
            session["n"] = 2
            await session.save()
        assert commands.scripts[:2] == ["commit", "save"]
        assert admin.get(key) == (None if other is None else b"text")


@pytest.mark.parametrize("without", ["@deadline", "@idle"])
async def test_a_commit_knows_what_a_session_has_not(
    store: SessionStore, kit: SessionKit, admin: Any, without: str
) -> None:
    """No deadline, or no idle time of its own: that is no change, and needs no second script."""
    session_id = await create(store, n=1)
    admin.hdel(key_of(store, session_id), without)
    session = await open_session(store, session_id).load()
    with kit.count() as commands:
        session["n"] = 2
        await session.save()
    assert commands.scripts == ["commit"]
    assert await open_session(store, session_id).fetch("n") == {"n": 2}


async def test_a_commit_that_removes_is_a_save(store: SessionStore, kit: SessionKit) -> None:
    """So is one whose load has not extended the TTL: the script then does."""
    session_id = await create(store, n=1, other="x")
    session = await open_session(store, session_id).load()
    with kit.count() as commands:
        session["n"] = 2
        await session.save()
        del session["other"]
        await session.save()
    assert commands.scripts == ["commit", "save"]
    assert dict(await open_session(store, session_id).load()) == {"n": 2}


async def test_each_commit_over_a_socket_extends(store: SessionStore, admin: Any) -> None:
    """The load was long ago: what it has extended may be over soon."""
    session_id = await create(store, n=1, other="x")
    session = open_session(store, session_id)
    be_open_for_long(session)
    await session.load()
    await store.drain()
    key = key_of(store, session_id)
    for number in range(3):
        admin.pexpire(key, MINUTE)
        session["n"] = number
        session.pop("other", None)
        await session.save()
        assert admin.pttl(key) > 29 * MINUTE


@pytest.mark.parametrize("verb", ["still_valid", "load", "save"])
async def test_nothing_that_looks_brings_a_session_back(
    store: SessionStore, admin: Any, verb: str
) -> None:
    """In its last millisecond, PTTL is 0: that is no missing TTL, which would be mended."""
    async with asyncio.timeout(PATIENCE):
        for _ in range(20):
            session_id = await create(store, n=1)
            session = await open_session(store, session_id, extends=False).load()
            admin.pexpire(key_of(store, session_id), 2)
            is_there = True
            while is_there:
                if verb == "load":
                    is_there = not (
                        await open_session(store, session_id, extends=False).load()
                    ).is_new
                elif verb == "still_valid":
                    is_there = await session.still_valid()
                else:
                    session["n"] += 1
                    try:
                        await session.save()
                    except SessionGone:
                        is_there = False
            assert not admin.exists(key_of(store, session_id))
