"""The event `expired`, where Redis reports keys that expire: `store.reporting_expired()`."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.gate import gates_to
from ..support.internals import Send, around_scripts, handle_of, open_session, servers_of
from ..support.sessions import create, log_in, opened

pytestmark = pytest.mark.on_cluster

SETTING = "notify-keyspace-events"
CHANNEL = "__keyevent@0__:expired"


@pytest.fixture
def servers(sessions: SessionKit) -> Iterator[list[Any]]:
    """
    All servers that hold keys. They report what expires, and look for it as often as they can: with
    the keys of all other tests, it takes them a minute else.
    """
    servers = list(servers_of(sessions))
    wanted: dict[str, str | int] = {SETTING: "Ex", "hz": 500, "active-expire-effort": 10}
    before = [[(name, str(server.config_get(name)[name])) for name in wanted] for server in servers]
    for server in servers:
        for name, value in wanted.items():
            server.config_set(name, value)
    yield servers
    for server, settings in zip(servers, before, strict=True):
        for name, value in settings:
            server.config_set(name, value)


@pytest.fixture
async def reporting(
    store: SessionStore, servers: list[Any], events: list[SessionEvent]
) -> AsyncIterator[None]:
    """The store reports what expires, to *events*."""
    async with store.reporting_expired():
        await until(lambda: listeners(servers) >= 1)
        yield


def listeners(servers: list[Any]) -> int:
    """How many connections listen at every server."""
    return min(int(server.pubsub_numsub(CHANNEL)[0][1]) for server in servers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.02)


def expired(events: list[SessionEvent]) -> Counter[str | None]:
    return Counter(event.handle for event in events if event.name == "expired")


async def test_what_expires_is_reported(
    store: SessionStore,
    prefix: str,
    admin: Any,
    events: list[SessionEvent],
    reporting: None,
) -> None:
    """Each session of each master once, and no other key; `absence` says it, too."""
    ids = [await log_in(store, "ann") for _ in range(6)] + [
        await create(store, n=n) for n in range(6)
    ]
    lives = await create(store, n=0)
    revoked = await create(store, n=0)
    await store.revoke(handle_of(store, revoked))
    for key in list(admin.scan_iter(f"{prefix}:*", count=1000)):
        if key.decode() != f"{prefix}:{handle_of(store, lives)}":
            admin.pexpire(key, 1)
    handles = {handle_of(store, session_id) for session_id in ids}
    await until(lambda: expired(events).keys() >= handles)
    assert expired(events) == Counter(handles)
    (event, *_) = [event for event in events if event.name == "expired"]
    assert (event.user_id, event.reason, event.detail) == (None, None, None)
    absence = (await open_session(store, ids[0]).load()).absence
    assert absence is not None
    assert (absence.kind, absence.at is None) == ("expired", False)


async def test_of_several_processes_one_reports(
    session_redis_url: str, prefix: str, admin: Any, servers: list[Any]
) -> None:
    """All hear of it, and the first to note it emits the event."""
    events: list[SessionEvent] = []
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(
                opened(session_redis_url, prefix, on_event=events.append)
            )
            for _ in range(3)
        ]
        for store in stores:
            await stack.enter_async_context(store.reporting_expired())
        await until(lambda: listeners(servers) >= 3)
        ids = [await create(store, n=n) for n in range(20)]
        handles = {handle_of(store, session_id) for session_id in ids}
        for handle in handles:
            admin.pexpire(f"{prefix}:{handle}", 1)
        await until(lambda: expired(events).keys() == handles)
        for store in stores:
            await store.drain()
        assert set(expired(events).values()) == {1}


async def test_a_session_that_is_ended_has_not_expired(
    store: SessionStore, prefix: str, admin: Any, events: list[SessionEvent], reporting: None
) -> None:
    """Logout, revocation and a new id are events of their own."""
    session = await open_session(store, await log_in(store, "ann")).load()
    session.renew()
    await session.save()
    await store.users.revoke_all("ann")
    last = handle_of(store, await create(store, n=1))
    admin.pexpire(f"{prefix}:{last}", 1)
    await until(lambda: bool(expired(events)))
    assert expired(events) == Counter([last])


async def test_after_the_block_nothing_is_reported(store: SessionStore, servers: list[Any]) -> None:
    """The connections are closed."""
    async with store.reporting_expired():
        await until(lambda: listeners(servers) == 1)
    await until(lambda: listeners(servers) == 0)


@pytest.mark.one_node
async def test_a_connection_that_breaks_is_replaced(
    session_redis_url: str, prefix: str, admin: Any, servers: list[Any]
) -> None:
    """What expires later is reported."""
    events: list[SessionEvent] = []
    with gates_to(session_redis_url) as gate:
        store = gate.store(prefix=prefix, timeout=20, on_event=events.append)
        async with store.reporting_expired():
            await until(lambda: listeners(servers) == 1)
            gate.shut()
            await until(lambda: listeners(servers) == 0)
            gate.open()
            await until(lambda: listeners(servers) == 1)
            handle = handle_of(store, await create(store, n=1))
            admin.pexpire(f"{prefix}:{handle}", 1)
            await until(lambda: expired(events) == Counter([handle]))
        await store.aclose()


async def test_a_server_that_reports_nothing_is_a_line_in_the_log(
    session_redis_url: str,
    prefix: str,
    servers: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It names the setting; sessions work."""
    for server in servers:
        server.config_set(SETTING, "")
    async with opened(session_redis_url, prefix, timeout=1) as store:
        with caplog.at_level(logging.WARNING):
            async with store.reporting_expired():
                await until(lambda: "are not reported" in caplog.text)
                assert SETTING in caplog.text
                await create(store, n=1)


@pytest.mark.one_node
async def test_out_of_memory_nothing_is_reported(
    store: SessionStore, prefix: str, admin: Any, events: list[SessionEvent], servers: list[Any]
) -> None:
    """No process can note it, so none may report it; what expires later is reported."""
    done: list[str] = []
    may_prove = asyncio.Event()

    async def around(name: str, send: Send) -> Any:
        if name == "expiring":  # the proof that messages arrive, which needs memory, too
            await may_prove.wait()
        reply = await send()
        done.append(name)
        return reply

    around_scripts(store, around)
    session_id, later = await create(store, n=1), await create(store, n=2)
    may_prove.set()
    async with store.reporting_expired():
        await until(lambda: "expiring" in done)
        may_prove.clear()
        admin.config_set("maxmemory", 1)
        try:
            admin.pexpire(f"{prefix}:{handle_of(store, session_id)}", 1)
            await until(lambda: "expired" in done)
            await store.drain()
        finally:
            admin.config_set("maxmemory", 0)
        assert not expired(events)
        absence = (await open_session(store, session_id).load()).absence
        assert absence is not None
        assert absence.kind == "unknown"
        admin.pexpire(f"{prefix}:{handle_of(store, later)}", 1)
        await until(lambda: expired(events) == Counter([handle_of(store, later)]))
