"""The list of a user's sessions."""

import asyncio
from typing import Any

import pytest

from asgi_redis_session import Lifetime, SessionStore, SessionValueError

from ..support.internals import (
    Send,
    around_scripts,
    handle_of,
    is_cluster,
    open_session,
    requests_lane,
)
from ..support.keyspace import expiry, index_key, look, plant
from ..support.sessions import live_among, log_in, opened
from .app import app_of, client_of

pytestmark = pytest.mark.on_cluster

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"


DAY_MS = 24 * 3600 * 1000


async def test_pages_of_1200_sessions(store: SessionStore, admin: Any) -> None:
    """The latest login first, each session once, whatever the page."""
    handles = [handle_of(store, session_id) for session_id in plant(admin, store, "ann", 1_200)]
    assert await store.users.count("ann") == 1_200
    expected = handles[::-1]
    everything = await store.users.list("ann", limit=1_000)
    everything += await store.users.list("ann", offset=1_000, limit=1_000)
    assert [info.handle for info in everything] == expected
    paged = []
    for offset in range(0, 1_300, 100):
        paged += await store.users.list("ann", offset=offset)
    assert [info.handle for info in paged] == expected
    assert [info.handle for info in await store.users.list("ann", offset=7, limit=2)] == (
        expected[7:9]
    )
    assert await store.users.revoke_all("ann") == 1_200
    assert await store.users.list("ann") == []


async def test_the_session_that_asks_is_current(store: SessionStore) -> None:
    """By the session or by its handle; it alone is spared by revoke_others."""
    ids = [await log_in(store, "ann") for _ in range(3)]
    stranger = await log_in(store, "bob")
    session = await open_session(store, ids[1]).load()
    for current in (session, session.handle):
        infos = await store.users.list("ann", current=current)
        assert [info.handle for info in infos if info.current] == [session.handle]
    assert not [info for info in await store.users.list("ann") if info.current]
    assert await store.users.revoke_others(session) == 2
    assert await live_among(store, [*ids, stranger]) == [ids[1], stranger]
    with pytest.raises(SessionValueError):
        await store.users.revoke_others(await open_session(store).load())


async def test_dead_members_are_forgotten_when_read(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Hashes that went by themselves: list and count are right, and the index shrinks."""
    key = index_key(prefix, "ann")
    for reads in ("list", "count"):
        handles = [handle_of(store, one) for one in plant(admin, store, "ann", 20)]
        admin.delete(*[f"{prefix}:{handle}" for handle in handles[:15]])
        if reads == "list":
            page = await store.users.list("ann", limit=3)
            assert [info.handle for info in page] == handles[:16:-1]
            assert len(await store.users.list("ann")) == 5
        else:
            assert await store.users.count("ann") == 5
        assert admin.zcard(key) == 5
        admin.delete(*[f"{prefix}:{handle}" for handle in handles])
        assert await store.users.list("ann") == []
        assert admin.exists(key) == 0


async def test_a_login_beside_others_prunes(store: SessionStore, admin: Any, prefix: str) -> None:
    """A login looks at some other places of its user; if there are none, it sends nothing."""
    names: list[str] = []

    async def note(name: str, send: Send) -> Any:
        names.append(name)
        return await send()

    around_scripts(store, note)
    first = await log_in(store, "ann")
    await store.drain()
    assert "list" not in names
    session = await open_session(store, first).load()
    await session.login("ann")  # again, in place of the first
    await session.save()
    await store.drain()
    assert "list" not in names
    admin.delete(f"{prefix}:{session.handle}")
    await log_in(store, "ann")
    await store.drain()
    assert "list" in names
    assert admin.zcard(index_key(prefix, "ann")) == 1


async def test_a_handle_of_another_user_is_not_revoked(store: SessionStore) -> None:
    """False, and that session lives; also for what is no handle at all."""
    mine, yours = await log_in(store, "ann"), await log_in(store, "bob")
    handle = handle_of(store, yours)
    for wrong in (handle, "", "*", "0" * 32, mine, f"user:{handle}", "\ud800"):
        assert await store.users.revoke("ann", wrong) is False
    assert await live_among(store, [mine, yours]) == [mine, yours]
    assert await store.users.revoke("bob", handle) is True
    assert await store.users.revoke("bob", handle) is False
    assert await live_among(store, [mine, yours]) == [mine]
    assert await store.users.list("bob") == []


async def test_a_listed_handle_is_no_cookie(store: SessionStore) -> None:
    """Neither the handle nor the name of a key opens a session."""
    await log_in(store, "ann", n=1)
    (info,) = await store.users.list("ann")
    for value in (info.handle, f"{info.handle}00000000000", f"{store.prefix}:{info.handle}"):
        async with client_of(app_of(store), value) as client:
            assert (await client.get("/")).json() == [None, {}]


async def test_devices_have_labels(store: SessionStore) -> None:
    """ "Firefox on Windows", and nothing for an agent that says nothing."""
    for agent in (FIREFOX, ""):
        origin = (("192.0.2.7", 4711), [(b"user-agent", agent.encode())])
        session = await open_session(store, origin=origin).load()
        await session.login("ann")
        await session.save()
        await asyncio.sleep(0.003)
    unknown, known = await store.users.list("ann")
    assert (known.label, known.user_agent, known.address) == (
        "Firefox on Windows",
        FIREFOX,
        "192.0.2.7",
    )
    assert unknown.label in (None, "Other")


@pytest.mark.parametrize("absolute", [None, 3_600, 86_400 * 400])
async def test_the_index_lives_as_long_as_its_sessions(
    absolute: int | None, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Whatever the order of long and short logins, renewals included."""
    key = index_key(prefix, "ann")
    lifetime = Lifetime(idle=600, absolute=absolute)
    async with opened(session_redis_url, prefix, lifetime=lifetime) as store:
        ids = [await log_in(store, "ann")]
        ids.append(await log_in(store, "ann", lifetime={"idle": 60, "absolute": 60}))
        session = await open_session(store, ids[0]).load()
        session.renew()
        await session.save()
        await store.users.revoke_others(session)
        (info,) = await store.users.list("ann")
        deadline = int(admin.hget(f"{prefix}:{info.handle}", "@deadline") or 0)
        # Exact to the duration of a commit: see ..._a_login_that_takes_its_time.
        assert expiry(admin, key) >= deadline - 30_000
        assert expiry(admin, key) >= info.expires_at.timestamp() * 1000
        if absolute is None:
            assert admin.pttl(key) > 365 * DAY_MS


NASTY = [
    *("1", "01", " 1", "1 ", "-1", "{a}", "a", "{}", "*", "?", "[a]", ":", "a:b", "a\nb", "\r\n"),
    *("\0", "\U0001f512", "\u00e9", "e\u0301", "ANN", "ann", "x" * 511, "x" * 512, "user"),
    *("None", "True", "../x", "'", '"', "\\", "%00", "0" * 32),
]


async def test_no_two_users_share_a_key(store: SessionStore, admin: Any, prefix: str) -> None:
    """Whatever a user id looks like, its index is prefix:user:32 hex, and its own."""
    ids = {user: await log_in(store, user) for user in NASTY}
    places = look(admin, prefix).places
    assert len(places) == len(NASTY)
    for key in places:
        assert key.startswith(f"{prefix}:user:")
        digest = key.removeprefix(f"{prefix}:user:")
        assert len(digest) == 32
        assert set(digest) <= set("0123456789abcdef")
    for number, user in enumerate(NASTY):
        (info,) = await store.users.list(user)
        assert (info.handle, info.user_id) == (handle_of(store, ids[user]), user)
        assert await store.users.revoke_all(user) == 1
        assert len(look(admin, prefix).users) == len(NASTY) - number - 1


async def test_an_int_and_its_text_are_one_user(store: SessionStore) -> None:
    """1 and "1"; and an int of a few thousand digits is only that."""
    await log_in(store, 1)
    await log_in(store, "1")
    assert await store.users.count(1) == await store.users.count("1") == 2
    assert await store.users.revoke_all(1) == 2


@pytest.mark.parametrize("nonsense", [0, -1, 1.5, True, 1001, "5", None])
async def test_an_unusable_page_is_refused(store: SessionStore, nonsense: Any) -> None:
    """A page is 1 to 1,000 long; the sentence says so."""
    with pytest.raises(SessionValueError, match=r"limit=.*from 1 to 1000"):
        await store.users.list("ann", limit=nonsense)


async def test_lists_do_not_travel_with_requests(store: SessionStore, admin: Any) -> None:
    """
    A list, a count and revoke_all use a connection of their own. Only what nobody waits for in a
    Cluster travels with requests: why each session has ended.
    """
    for _ in range(5):
        await log_in(store, "ann")
    lane = requests_lane(store)
    before = lane.commands
    assert len(await store.users.list("ann")) == 5
    assert await store.users.count("ann") == 5
    assert lane.commands == before
    assert await store.users.revoke_all("ann") == 5
    assert lane.commands <= before + (5 if is_cluster(store) else 0)
