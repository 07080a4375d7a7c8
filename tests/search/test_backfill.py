"""Sessions from before the index."""

from typing import Any

import pytest

from asgi_redis_session import Backfill, SessionEvent, SessionStore, Tag

from ..support.internals import Send, around_scripts, id_of, open_session, write_shadows
from ..support.search import INDEX, NOTE, SKUS, TENANT, TOTAL, found, handles, indexed, plant, put

pytestmark = pytest.mark.on_cluster


@pytest.mark.needs_search
async def test_older_sessions_are_found_after_a_backfill(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """With the TTL that they had; what could not be indexed today is found by its other fields."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as before:
        old = await put(before, "ada, b", tenant="acme", skus=["a", "b"], total=5, note="Red")
        odd = await put(before, tenant={"a": 1}, skus=["a", []], total="many", note=7)
        for session in (old, odd):
            admin.pexpire(f"{prefix}:{session.handle}", 50_000)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        await store.search.create_index()
        assert await found(store, TENANT == "acme") == []
        steps: list[Backfill] = []
        await store.search.create_index(backfill=True, progress=steps.append)
        where = (TENANT == "acme") & (SKUS == "b") & (TOTAL == 5) & (NOTE == "red")
        assert await found(store, where & (Tag("@user") == "ada, b")) == handles(old)
        assert await found(store, ~(TENANT == "acme")) == handles(odd)
        assert steps[-1].cursor == 0
        assert steps[-1].written == 1  # of the odd one there is nothing to write
        assert steps[-1].scanned >= 4  # twice: the second time finds nothing left
        assert admin.pttl(f"{prefix}:{old.handle}") <= 50_000
        await store.search.create_index(backfill=True, progress=steps.append)
        assert steps[-1].written == 0
        await store.search.drop_index()


@pytest.mark.needs_search
async def test_a_backfill_goes_on_where_it_was_interrupted(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """What was done is not done again, and nothing is left out."""
    raw = {"tenant": "acme"}
    plant(admin, prefix, 1000, **raw)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        steps: list[Backfill] = []

        def interrupt(step: Backfill) -> None:
            steps.append(step)
            if step.written >= 200:
                raise KeyError("interrupted")

        with pytest.raises(KeyError):
            await store.search.create_index(backfill=True, progress=interrupt)
        first = steps[-1]
        assert 200 <= first.written < 1000
        await store.search.create_index(backfill=True, resume=first.cursor, progress=steps.append)
        assert first.written + steps[-1].written == 1000
        assert await store.search.count(TENANT == "acme") == 1000
        await store.search.revoke(TENANT == "acme")
        await store.search.drop_index()


@pytest.mark.needs_search
async def test_a_backfill_never_undoes_a_commit(shop: SessionStore, admin: Any) -> None:
    """A shadow that was made of what has changed meanwhile is not written; nothing comes back."""
    session = await put(shop, tenant="a")
    key = f"{shop.prefix}:{session.handle}"
    admin.hdel(key, "@#tenant")
    reads = 0

    async def write_between(_: str, send: Send) -> Any:
        nonlocal reads
        reply = await send()
        reads += 1
        if reads == 1:  # read, and not written yet
            session["tenant"] = "b"
            await session.save()
        return reply

    stop = around_scripts(shop, write_between)
    await write_shadows(shop, session.handle or "")
    stop()
    assert reads > 1
    assert admin.hget(key, "@#tenant") == b"b"

    admin.hdel(key, "@#tenant")

    async def end_between(_: str, send: Send) -> Any:
        reply = await send()
        admin.delete(key)
        return reply

    stop = around_scripts(shop, end_between)
    assert not await write_shadows(shop, session.handle or "")
    stop()
    assert admin.exists(key) == 0


@pytest.mark.needs_search
async def test_shadows_of_the_past_are_put_right(session_redis_url: str, prefix: str) -> None:
    """What a process without the declaration has changed is found as it is, after a backfill."""
    async with indexed(session_redis_url, prefix) as store:
        session = await put(store, tenant="a", skus=["x"])
        async with SessionStore.from_url(session_redis_url, prefix=prefix) as other:
            again = await open_session(other, id_of(session)).load()
            again["tenant"] = "b"
            del again["skus"]
            await again.save()
        await store.search.create_index(backfill=True)
        assert await found(store, TENANT == "b") == handles(session)
        assert await found(store, (TENANT == "a") | (SKUS == "x")) == []


@pytest.mark.needs_search
async def test_a_field_beyond_the_limits_is_passed_over(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """It is reported and never decoded; the session is found by its other fields, and loads."""
    events: list[SessionEvent] = []
    huge = b"[" + b",".join([b'"a"'] * 200_000) + b"]"
    (handle,) = plant(admin, prefix, 1, tenant="acme", skus=huge)
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, index=INDEX, on_event=events.append
    ) as store:
        await store.search.create_index(backfill=True)
        assert await found(store, TENANT == "acme") == [handle]
        assert await found(store, SKUS == "a") == []
        reported = {(event.name, event.handle, event.detail) for event in events}
        assert reported == {("corrupt", handle, "the field 'skus' is too large to index")}
        info = await store.get(handle)
        assert info is not None
        assert len(info.fields["skus"]) == 200_000
        await store.search.drop_index()
