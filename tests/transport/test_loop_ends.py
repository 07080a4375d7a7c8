"""An event loop that ends, or rests, with commands under way says nothing about outages."""

import asyncio

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import open_session, refresh
from ..support.sessions import create


def test_a_loop_that_ends_logs_no_outage(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A load and a refresh are under way when it is closed: nobody is left whom that concerns."""

    async def leave(store: SessionStore) -> None:
        session_id = await create(store, n=1)
        loading = asyncio.create_task(open_session(store, session_id).load())
        await asyncio.sleep(0)
        refresh(store, "0" * 32)
        assert not loading.done()

    asyncio.run(leave(SessionStore.from_url(session_redis_url, prefix=prefix, timeout=20)))
    assert [record.getMessage() for record in caplog.records] == []


def test_a_loop_that_rests_logs_no_outage(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture, admin: object
) -> None:
    """As between two requests of a Lambda: the connection may end meanwhile."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix, timeout=20)

    async def request(session_id: str | None = None) -> str:
        session_id = session_id or await create(store, n=1)
        assert (await open_session(store, session_id).load())["n"] == 1
        return session_id

    with asyncio.Runner() as runner:
        session_id = runner.run(request())
        admin.client_kill_filter(_type="normal", skipme=True)  # type: ignore[attr-defined]
        runner.run(request(session_id))
        runner.run(store.aclose())
    assert [record.getMessage() for record in caplog.records] == []
