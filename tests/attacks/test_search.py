"""Shadows and metadata that another program has written: questions are answered all the same."""

from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionStore, Tag

from ..support.internals import key_of
from ..support.sessions import create
from .conftest import Cases

pytestmark = pytest.mark.needs_search

DAMAGE = [
    ("@#tenant", b"\xff\xfe"),
    ("@#tenant", b"%ff"),
    ("@#tenant", b'"x'),
    ("@#tenant", b"\xff"),
    ("@created", b"inf"),
    ("@created", b"-inf"),
    ("@created", b"1e300"),
]


async def test_damaged_shadows_stop_no_question(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """The other session is found, counted and ended; what can't be read is reported."""
    events: list[SessionEvent] = []
    async with SessionStore.from_url(
        session_redis_url,
        prefix=prefix,
        timeout=20,
        index=[Tag("tenant")],
        on_event=events.append,
    ) as store:
        await store.search.create_index()
        for name, value in DAMAGE:
            bad = await create(store, tenant="acme")
            await create(store, tenant="acme")
            admin.hset(key_of(store, bad), name, value)
            found = [info async for info in store.search.find(Tag("tenant") == "acme")]
            assert len(found) >= 1
            assert (await store.search.count_by("tenant"))["acme"] >= 1
            assert (await store.search.count_by("tenant", exact=False))["acme"] >= 1
            assert "corrupt" in {event.name for event in events}, (name, value)
            events.clear()
            assert await store.search.revoke(Tag("tenant") == "acme") >= 1
            admin.delete(key_of(store, bad))
            cases()
        await store.search.drop_index()
