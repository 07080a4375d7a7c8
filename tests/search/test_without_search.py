"""Servers without Search, and stores without an index."""

import os

import pytest

from asgi_redis_session import (
    Lifetime,
    SearchUnavailable,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
)
from asgi_redis_session.devserver import DevServer

from ..support.internals import id_of, open_session
from ..support.search import INDEX, TENANT, put


async def test_nothing_declared_is_nothing_to_search_by(store: SessionStore) -> None:
    """`index=()`: each verb says what to declare, and no shadow is written."""
    for ask in (store.search.count, store.search.create_index, store.search.status):
        with pytest.raises(SearchUnavailable, match=r"SessionStore\(index=\(\)\)"):
            await ask()
    with pytest.raises(SearchUnavailable):
        await anext(aiter(store.search.find()))


@pytest.mark.one_node
async def test_a_server_without_search_is_told_apart(prefix: str) -> None:
    """All else works, with the declaration and its checks; questions say what to install."""
    binary = os.environ.get("SESSION_TEST_SERVER")
    with DevServer(binary=binary, search=False) as server:
        async with SessionStore.from_url(server.url, prefix=prefix, index=INDEX) as store:
            session = await put(store, "ada", tenant="acme", skus=["a"], total=1)
            assert await session.increment("total") == 2
            with pytest.raises(SessionValueError):
                session["total"] = "x"
            assert await store.users.count("ada") == 1
            for ask in (
                store.search.count,
                store.search.create_index,
                store.search.status,
                lambda: store.search.revoke(TENANT == "acme"),
            ):
                with pytest.raises(SearchUnavailable, match=r"has no Redis Search.*Redis 8"):
                    await ask()
            assert await store.users.revoke_all("ada") == 1


async def test_a_server_that_is_away_is_no_matter_of_search() -> None:
    """Then it is SessionUnavailable, as for every other verb."""
    async with SessionStore.from_url("redis://127.0.0.1:1/0", index=INDEX, timeout=0.5) as store:
        with pytest.raises(SessionUnavailable):
            await store.search.count()


async def test_an_index_does_not_change_what_an_app_sees(
    session_redis_url: str, prefix: str
) -> None:
    """Shadows are metadata: no field, no item of a list of sessions, and within the limits."""
    lifetime = Lifetime(idle=60)
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, index=INDEX, lifetime=lifetime
    ) as store:
        session = await put(store, "ada", tenant="acme", skus=["a"], total=1, note="red")
        loaded = await open_session(store, id_of(session)).load()
        assert dict(loaded) == dict(session)
        assert loaded.modified is False
        (info,) = await store.users.list("ada")
        assert info.fields == dict(session)
        await store.revoke(session.handle or "")
