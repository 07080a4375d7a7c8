"""Event loops that end while commands are on their way, and counters read from other threads."""

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from asgi_redis_session import SessionStore

from ..support.gate import Gate, gate_to
from ..support.internals import refresh
from ..support.sessions import create


@pytest.fixture
def gate(session_redis_url: str) -> Iterator[Gate]:
    with gate_to(session_redis_url) as gate:
        yield gate


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10, 1000])
@pytest.mark.parametrize("connected", [False, True])
def test_a_refresh_on_its_way_logs_no_error(
    gate: Gate, prefix: str, caplog: pytest.LogCaptureFixture, turns: int, connected: bool
) -> None:
    """The loop ends so many turns after the refresh was sent, whose reply is held back."""
    store = gate.store(prefix=prefix, timeout=20)

    async def serve() -> None:
        if connected:
            await create(store, n=1)
        gate.hold_replies()
        refresh(store, "0" * 32)
        for _ in range(turns):
            await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(serve())
        gc.collect()
    gate.open()
    assert [record.getMessage() for record in caplog.records] == []


def test_counters_may_be_read_from_another_thread(session_redis_url: str, prefix: str) -> None:
    """While event loops come and go, each with lanes of its own: no error, and nothing is lost."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix, timeout=20)
    is_over = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        while not is_over.is_set():
            try:
                store.stats.as_dict()
            except RuntimeError as error:
                errors.append(error)
                return

    async def serve() -> None:
        await create(store, n=1)
        await store.users.count("ann")
        await store.aclose()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(60):
            asyncio.run(serve())
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)
    assert errors == []
    assert store.stats.commits == 60
