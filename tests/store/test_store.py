"""What a store counts, reports and drops."""

import random
import secrets
from base64 import urlsafe_b64decode
from collections import Counter
from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import (
    cookie_change,
    handle_of,
    key_of,
    limit_queue,
    load_scripts,
    new_id,
    open_session,
    refresh,
    scripts,
)
from ..support.sessions import create, works

pytestmark = pytest.mark.on_cluster

#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


async def test_a_failing_on_event_harms_nobody(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The request goes on; the failure is logged with the event's name."""

    def broken(event: SessionEvent) -> None:
        raise ValueError("a bug in the app's hook")

    async with SessionStore.from_url(session_redis_url, prefix=prefix, on_event=broken) as store:
        session_id = await create(store, n=1)
        await open_session(store, session_id).logout()
    assert "on_event failed for the event 'created'" in caplog.text


@pytest.mark.one_node
async def test_a_taken_id_is_drawn_again(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the random source to repeat an id, the session that has it would stay untouched."""
    taken = await create(store, n=1)
    other = await create(store, n=2)
    draws = iter([taken, "B" * 43, taken, "C" * 43])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(draws))
    assert await create(store, n=3) == "B" * 43
    session = await open_session(store, other).load()
    session.renew()
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.session_id == "C" * 43
    assert (await open_session(store, taken).load())["n"] == 1
    assert (await open_session(store, "C" * 43).load())["n"] == 2


async def test_refreshes_are_dropped_before_they_pile_up(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue of what nobody waits for is bounded; what is dropped is counted."""
    session_id = await create(store, n=1)
    limit_queue(monkeypatch, 3)
    for _ in range(10):
        refresh(store, handle_of(store, session_id))
    await store.drain()
    stats = store.stats
    assert (stats.refreshes, stats.refreshes_dropped) == (3, 7)


async def test_shutdown_of_the_app_sends_what_nobody_waits_for(
    session_redis_url: str, prefix: str, store: SessionStore, admin: Any
) -> None:
    """`lifespan.shutdown` is passed on, and answered when the refreshes are in Redis."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    own = SessionStore.from_url(session_redis_url, prefix=prefix)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert "session" not in scope
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        refresh(own, handle_of(own, session_id))
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "lifespan.shutdown.complete":
            assert admin.pttl(key) > MINUTE

    await SessionMiddleware(app, store=own)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_stats_count(session_redis_url: str, prefix: str) -> None:
    """Plain counters, also of connections that have been closed since."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
        session_id = await create(store, n=1)
        session = await open_session(store, session_id).load()
        session["n"] = 2
        await session.logout()
        refresh(store, handle_of(store, session_id))
        await store.aclose()
        stats = store.stats.as_dict()
    assert stats["loads"] == 1
    assert stats["commits"] == 1
    assert stats["refreshes"] == 1
    assert 4 <= stats["commands"] <= 8
    assert stats["errors"] == 0


@pytest.mark.one_node
async def test_a_server_that_knows_the_scripts_is_sent_no_text(
    sessions: SessionKit, admin: Any
) -> None:
    """Every verb is scripts and nothing else, each sent by the SHA-1 that Redis has for it."""
    admin.script_flush()
    load_scripts(admin)
    await sessions.store.drain()
    with sessions.count() as commands:
        await works(sessions.store, await create(sessions.store, n=0))
        await sessions.store.drain()
    assert set(commands.names) == {"EVALSHA", "HGETALL"}
    assert len(commands) > 10
    with sessions.count() as commands:
        admin.script_flush()
        await works(sessions.store, await create(sessions.store, n=0))
        await sessions.store.drain()
    counted = Counter(commands.names)
    assert counted.keys() == {"EVALSHA", "EVAL", "HGETALL"}
    assert counted["EVAL"] <= len(scripts())


async def test_ids_do_not_depend_on_a_seed(store: SessionStore) -> None:
    """Whoever knows the state of Python's `random` knows no id: 256 bits, each time others."""
    ids = set()
    for _ in range(20):
        random.seed(1)
        ids.add(await create(store, n=1))
        session = await open_session(store).load()
        await session.login("ann")
        await session.save()
        ids.add(new_id(session))
        random.seed(1)
        session.renew()
        await session.save()
        ids.add(new_id(session))
    assert len(ids) == 60
    assert all(len(urlsafe_b64decode(f"{each}=")) == 32 for each in ids)
