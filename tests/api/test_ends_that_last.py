"""`end_durability`: each way of ending a session says if the end may be lost."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import Durability, DurabilityNotReached, Session, SessionStore, Tag

from ..support.internals import handle_of, index_key_of, new_id, open_session, stop_pruning
from .common import Make, browser, clear, create, log_in, logout, logout_in_edit

pytestmark = pytest.mark.on_cluster

#: No server of the tests has so many replicas.
UNREACHED = Durability(replicas=9, timeout=0.01)


async def opened(store: SessionStore, session_id: str) -> None:
    async with store.open(f"__Host-session={session_id}") as one:
        await one.session.logout()


async def revoke(store: SessionStore, session_id: str) -> None:
    await store.revoke(handle_of(store, session_id))


async def users_revoke(store: SessionStore, session_id: str) -> None:
    await store.users.revoke("ann", handle_of(store, session_id))


async def revoke_all(store: SessionStore, session_id: str) -> None:
    await store.users.revoke_all("ann")


async def another_user(store: SessionStore, session_id: str) -> None:
    await log_in(store, "bob", session_id)


@pytest.mark.parametrize(
    "end", [logout, clear, logout_in_edit, opened, revoke, users_revoke, revoke_all, another_user]
)
async def test_an_end_that_may_be_lost_is_an_error(
    make: Make, admin: Any, end: Callable[[SessionStore, str], Awaitable[None]]
) -> None:
    """The session has ended all the same, and stays listed, because it may come back."""
    store = make(end_durability=UNREACHED)
    stop_pruning(store)
    session_id = await log_in(store, "ann")
    handle = handle_of(store, session_id)
    with pytest.raises(DurabilityNotReached, match="0 of 9 replicas"):
        await end(store, session_id)
    assert await store.get(handle) is None
    assert admin.zscore(index_key_of(store, "ann"), handle) is not None


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_search_revokes_all_before_it_says_so(make: Make) -> None:
    """Every session that matches has ended; none of them is known to be on a replica."""
    store = make(end_durability=UNREACHED, index=[Tag("tenant")])
    await store.search.create_index()
    try:
        handles = [handle_of(store, await create(store, tenant="acme")) for _ in range(3)]
        other = handle_of(store, await create(store, tenant="other"))
        with pytest.raises(DurabilityNotReached):
            await store.search.revoke(Tag("tenant") == "acme")
        assert [await store.get(handle) for handle in handles] == [None] * 3
        assert await store.get(other) is not None
        assert await store.search.revoke(Tag("tenant") == "acme") == 0
    finally:
        await store.search.drop_index()


async def test_a_login_over_another_users_session_is_complete(make: Make) -> None:
    """The new session is as it would be without the error, and the browser gets its cookie."""
    store = make(end_durability=UNREACHED)
    session_id = await log_in(store, "ann")
    session = await open_session(store, session_id).load()
    await session.login("bob")
    with pytest.raises(DurabilityNotReached):
        await session.save()
    assert session.user_id == "bob"
    assert not session.modified
    assert session.handle == handle_of(store, new_id(session))
    assert [info.handle for info in await store.users.list("bob")] == [session.handle]
    await session.save()


async def test_the_browser_is_answered_503_with_the_new_cookie(make: Make) -> None:
    """What was acknowledged is in Redis; what may be lost is not acknowledged."""
    store = make(end_durability=UNREACHED)
    session_id = await log_in(store, "ann")

    async def switch(session: Session) -> None:
        await session.login("bob")

    async with browser(store, switch, session_id=session_id) as client:
        response = await client.get("/switch")
    assert response.status_code == 503
    new = response.cookies["session"]
    assert new != session_id
    info = await store.get(handle_of(store, new))
    assert info is not None
    assert info.user_id == "bob"


async def test_writes_have_a_concern_of_their_own(make: Make) -> None:
    """Only ends wait for replicas here; and where only writes do, ends don't."""
    for options in ({"end_durability": UNREACHED}, {}):
        store = make(**options)
        session_id = await log_in(store, "ann")
        again = await log_in(store, "ann", session_id)
        session = await open_session(store, again).load()
        session["n"] = 1
        await session.increment("n")
        session.renew()
        await session.save()
    ends = make(durability=UNREACHED)
    await ends.users.revoke_all("ann")
    assert await ends.users.count("ann") == 0


async def test_a_login_that_makes_room_says_so_too(make: Make) -> None:
    """The oldest session has ended, but may come back: the login is not carried out."""
    store = make(end_durability=UNREACHED, max_sessions_per_user=1)
    first = handle_of(store, await log_in(store, "ann"))
    session = await open_session(store).load()
    with pytest.raises(DurabilityNotReached):
        await session.login("ann")
    assert session.user_id is None
    assert await store.get(first) is None
