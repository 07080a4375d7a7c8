"""The index on the server: made, rebuilt, looked at."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from asgi_redis_session import Backfill, SearchUnavailable, SessionStore, Tag

from ..support.internals import (
    Send,
    around_commands,
    around_scripts,
    index_names,
    limit_query_time,
)
from ..support.search import INDEX, TENANT, found, handles, indexed, plant, put

pytestmark = pytest.mark.on_cluster


@contextmanager
def crash_before(store: SessionStore, command: str) -> Iterator[None]:
    """In this block the process is gone before it sends this command."""

    async def around(name: str, send: Send) -> Any:
        if name == command:
            raise asyncio.CancelledError
        return await send()

    stop = around_commands(store, around)
    with pytest.raises(asyncio.CancelledError):
        yield
    stop()


@pytest.mark.needs_search
async def test_create_index_can_be_called_again(shop: SessionStore) -> None:
    """It finds what it made and leaves it alone; two at once make one."""
    await put(shop, tenant="acme")
    status = await shop.search.create_index()
    assert await shop.search.create_index() == status == await shop.search.status()
    assert (status.documents, status.failures, status.progress) == (1, 0, 1)
    assert status.memory > 0
    await shop.search.drop_index()
    one, other = await asyncio.gather(shop.search.create_index(), shop.search.create_index())
    assert one.name == other.name
    assert await shop.search.count() == 1


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_verbs_create_index_steps(session_redis_url: str, prefix: str, admin: Any) -> None:
    """A rebuild with a backfill: what it sends, in the order in which each is first sent."""
    async with indexed(session_redis_url, prefix) as store:
        plant(admin, prefix, 1, tenant="acme")
        names: list[str] = []

        async def note(name: str, send: Send) -> Any:
            names.append(name)
            return await send()

        stops = [around_commands(store, note), around_scripts(store, note)]
        await store.search.create_index(rebuild=True, backfill=True)
        for stop in stops:
            stop()
        assert list(dict.fromkeys(names)) == [
            *("FT.INFO", "SCAN", "load", "shade"),
            *("FT.CREATE", "FT.ALIASUPDATE", "FT._LIST", "FT.DROPINDEX"),
        ]
        assert await store.search.revoke(TENANT == "acme") == 1


@pytest.mark.needs_search
async def test_verbs_create_index_crash_after_the_backfill(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Shadows that nobody sees, and no index; the next call finds nothing left to write."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as before:
        session = await put(before, tenant="acme")
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        with crash_before(store, "FT.CREATE"):
            await store.search.create_index(backfill=True)
        assert admin.hexists(f"{prefix}:{session.handle}", "@#tenant")
        info = await store.get(session.handle or "")
        assert info is not None
        assert "@#tenant" not in info.fields
        assert await index_names(store) == []
        steps: list[Backfill] = []
        await store.search.create_index(backfill=True, progress=steps.append)
        assert steps[-1].written == 0
        assert await found(store, TENANT == "acme") == handles(session)
        await store.search.drop_index()


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_verbs_create_index_crash_before_the_alias(
    session_redis_url: str, prefix: str
) -> None:
    """An index that answers nobody; the next call goes on with the same one."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        session = await put(store, tenant="acme")
        with crash_before(store, "FT.ALIASUPDATE"):
            await store.search.create_index()
        (name,) = await index_names(store)
        with pytest.raises(SearchUnavailable):
            await store.search.count()
        assert (await store.search.create_index()).name == name
        assert await index_names(store) == [name]
        assert await found(store, TENANT == "acme") == handles(session)
        await store.search.drop_index()


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_verbs_create_index_crash_after_the_alias(shop: SessionStore) -> None:
    """An index too many beside the new one, which answers; the next rebuild drops both."""
    session = await put(shop, tenant="acme")
    with crash_before(shop, "FT.DROPINDEX"):
        await shop.search.create_index(rebuild=True)
    assert len(await index_names(shop)) == 2
    assert await found(shop, TENANT == "acme") == handles(session)
    status = await shop.search.create_index(rebuild=True)
    assert await index_names(shop) == [status.name]
    assert await found(shop, TENANT == "acme") == handles(session)


@pytest.mark.needs_search
async def test_check_looks_at_the_index(shop: SessionStore, admin: Any) -> None:
    """It says how many are indexed, what could not be, and that there is no index."""

    async def finding() -> tuple[str, str]:
        (found,) = [one for one in (await shop.check()).findings if one.name == "index"]
        return found.level, found.message

    await put(shop, tenant="acme")
    assert await finding() == ("ok", "1 sessions are indexed.")
    planted = f"{shop.prefix}:{'0' * 32}"
    admin.hset(planted, mapping={"@v": 1, "@created": "then"})
    admin.pexpire(planted, 60_000)
    level, message = await finding()
    assert level == "problem"
    assert message.startswith("1 hashes could not be indexed")
    await shop.search.drop_index()
    assert (await finding())[0] == "problem"


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_a_changed_declaration_is_noticed(session_redis_url: str, prefix: str) -> None:
    """It is said, by create_index and by every question, until the index is rebuilt."""
    async with indexed(session_redis_url, prefix) as old:
        session = await put(old, tenant="acme", plan="pro")
        async with SessionStore.from_url(
            session_redis_url, prefix=prefix, index=[TENANT, Tag("plan")]
        ) as new:
            for ask in (new.search.create_index, new.search.count, new.search.status):
                with pytest.raises(SearchUnavailable, match="another declaration"):
                    await ask()
            assert await found(old, TENANT == "acme") == handles(session)
            await new.search.create_index(rebuild=True, backfill=True)
            assert await found(new, Tag("plan") == "pro") == handles(session)
            with pytest.raises(SearchUnavailable, match="another declaration"):
                await old.search.count(TENANT == "acme")
            assert len(await index_names(new)) == 1


@pytest.mark.needs_search
async def test_no_answer_is_short_while_an_index_is_rebuilt(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Questions go on being answered by the old index until the new one is complete."""
    async with indexed(session_redis_url, prefix) as store:
        plant(admin, prefix, 5000, **{"@#tenant": "acme"})
        before = await store.search.status()
        rebuilding = asyncio.create_task(store.search.create_index(rebuild=True))
        counts = set()
        while not rebuilding.done():
            counts.add(await store.search.count(TENANT == "acme"))
            await asyncio.sleep(0)
        after = await rebuilding
        assert counts == {5000}
        assert after.name != before.name
        assert after.documents == before.documents == 5000
        assert await store.search.revoke(TENANT == "acme") == 5000


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_an_index_that_is_being_built_says_so(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Before it is complete there is no answer, and the message tells how far it is."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=INDEX) as store:
        with pytest.raises(SearchUnavailable, match=r"have no index yet.*create_index"):
            await store.search.count()
        plant(admin, prefix, 10_000, **{"@#tenant": "acme"})
        messages: set[str] = set()
        for _ in range(20):  # Redis may be done before we have asked once
            creating = asyncio.create_task(store.search.create_index())
            while not creating.done():
                try:
                    assert await store.search.count() == 10_000
                except SearchUnavailable as error:
                    messages.add(str(error).partition(",")[0])
                with suppress(SearchUnavailable):
                    assert (await store.search.status()).progress == 1
            await creating
            if "The index is being built" in messages:
                break
            await store.search.drop_index()
        assert messages >= {"The index is being built"}
        assert await store.search.count() == 10_000
        await store.search.revoke(TENANT == "acme")
        await store.search.drop_index()


@pytest.mark.needs_search
async def test_without_its_index_only_search_is_away(shop: SessionStore) -> None:
    """An index that is dropped under way is missed by questions, and by nobody else."""
    session = await put(shop, "ada", tenant="acme")
    assert await shop.search.drop_index()
    assert not await shop.search.drop_index()
    with pytest.raises(SearchUnavailable, match=r"no index yet"):
        await shop.search.count()
    session["tenant"] = "b"
    await session.save()
    assert await shop.users.count("ada") == 1
    await shop.search.create_index()
    assert await found(shop, TENANT == "b") == handles(session)


@pytest.mark.needs_search
async def test_indexing_failures_are_reported(
    shop: SessionStore, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """We write nothing that can't be indexed; what somebody else planted is counted and told."""
    admin.hset(f"{shop.prefix}:{'a' * 32}", mapping={"@created": 1, "@+total": "many"})
    status = await shop.search.create_index()
    assert status.failures == (await shop.search.status()).failures == 1
    assert "1 hashes could not be indexed" in caplog.text
    admin.delete(f"{shop.prefix}:{'a' * 32}")


@pytest.mark.needs_search
async def test_a_query_that_was_stopped_is_an_error(shop: SessionStore, admin: Any) -> None:
    """Redis would return a part of the answer; nobody gets to see it, in RESP2 and RESP3."""
    plant(admin, shop.prefix, 10_000, **{"@#tenant": "acme"})
    limit_query_time(shop, 1)
    for ask in (shop.search.count, lambda: shop.search.count_by("tenant")):
        with pytest.raises(SearchUnavailable, match="its answer is incomplete"):
            await ask()
    limit_query_time(shop, 5000)
    assert await shop.search.revoke(TENANT == "acme") == 10_000
