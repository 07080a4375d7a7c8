"""Orders of steps that once went wrong: the index never loses a live session."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionGone, SessionStore, SessionUnavailable

from ..support.internals import Send, cookie_change, handle_of, handles_of, new_id, open_session
from ..support.keyspace import age_place, expiry, index_key, look, plant
from ..support.sessions import create, is_live, live_among, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"


async def test_a_retried_login_leaves_no_unlisted_session(
    store: SessionStore, admin: Any, prefix: str, events: list[SessionEvent]
) -> None:
    """
    `save()` fails after the hash was written, and is tried again: no live session unlisted, and
    the events say that the login has failed.
    """
    steps, failed = Steps(store), 0
    for session_id in (None, await create(store, n=1), await log_in(store, "ann")):
        for lost in ("login", "create", "confirm"):
            session = await open_session(store, session_id).load()
            await session.login("ann")

            async def on_step(name: str, _: int, send: Send, lost: str = lost) -> Any:
                reply = await send()
                if name == lost:
                    steps.on_step = None
                    raise SessionUnavailable(name)
                return reply

            steps.on_step = on_step
            try:
                await session.save()
            except SessionUnavailable:
                failed += 1
                events.clear()
                with pytest.raises(SessionGone):
                    await session.save()
                ended, gone = events
                assert (ended.name, ended.user_id, ended.reason) == ("ended", "ann", "login_failed")
                assert (gone.name, gone.user_id, gone.handle) == ("gone", "ann", ended.handle)
            await store.drain()
            assert look(admin, prefix).unlisted(prefix) == []
    # Without a session there is nothing to move; after the first failure the others are gone.
    assert failed == 8


async def test_counting_never_ends_a_session_that_is_being_renewed(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A renewal of a login older than a minute, with a count between its steps: it lives."""
    session_id = await log_in(store, "ann")
    (info,) = await store.users.list("ann")
    age_place(admin, prefix, "ann", info.handle, 3_600_000)
    session = await open_session(store, session_id).load()
    session.renew()
    reached, go_on = Steps(store).pause_after("move")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    assert await store.users.count("ann") == 1
    go_on.set()
    await saving
    assert await is_live(store, new_id(session))


async def test_the_index_outlives_a_login_that_takes_its_time(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Between `login` and the commit time passes: the index still lives as long as the session."""
    session = await open_session(store).load()
    await session.login("ann")
    await asyncio.sleep(0.05)
    await session.save()
    deadline = int(admin.hget(f"{prefix}:{session.handle}", "@deadline"))
    assert expiry(admin, index_key(prefix, "ann")) >= deadline - 2


async def test_incrementing_after_another_user_logged_in_leaves_his_data_alone(
    store: SessionStore,
) -> None:
    """Bob logs in on Ann's session and increments: neither reads nor changes what was Ann's."""
    session_id = await log_in(store, "ann", n=41)
    session = await open_session(store, session_id).load()
    await session.login("bob")
    total = await session.increment("n")
    assert (await open_session(store, session_id).load())["n"] == 41
    assert total == 1
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == {"n": 1}


async def test_a_lifetime_that_is_shortened_after_login_is_kept(store: SessionStore) -> None:
    """`login()` and then `set_lifetime(...)` in one request: the session ends as early as asked."""
    session = await open_session(store).load()
    await session.login("ann")
    session.set_lifetime(idle=60, absolute=120)
    await session.save()
    (info,) = await store.users.list("ann")
    # It began with the login, and its idle time with the commit, a moment later: not 30 minutes.
    assert timedelta(seconds=59) < info.expires_at - info.created_at < timedelta(seconds=120)
    change = cookie_change(session)
    assert change is not None
    assert change.max_age_ms == 120_000


async def test_revoke_others_sees_a_login_that_is_confirmed_meanwhile(store: SessionStore) -> None:
    """An earlier, slower login is confirmed while revoke_others ends the others: it ends too."""
    slow = await open_session(store).load()
    await slow.login("ann")
    await asyncio.sleep(0.005)
    mine = await open_session(store, await log_in(store, "ann")).load()
    reached, go_on = Steps(store).pause_before("release")
    revoking = asyncio.create_task(store.users.revoke_others(mine))
    await reached.wait()
    await slow.save()
    go_on.set()
    await revoking
    assert await is_live(store, new_id(slow)) is False
    assert mine.handle is not None
    assert [info.handle for info in await store.users.list("ann")] == [mine.handle]


async def test_revoke_all_reaches_logins_of_a_clock_that_was_ahead(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """After a failover to a server whose clock is behind, logins of "the future" end as well."""
    session_id = await log_in(store, "ann")
    handle = handle_of(store, session_id)
    age_place(admin, prefix, "ann", handle, -10_000)
    await store.users.revoke_all("ann")
    assert await is_live(store, session_id) is False


async def test_evicting_a_session_that_is_being_renewed_keeps_the_limit(
    session_redis_url: str, prefix: str
) -> None:
    """A renewal between the choice of a victim and its end: still no more than the limit."""
    async with opened(session_redis_url, prefix, max_sessions_per_user=2) as store:
        ids = []
        for _ in range(2):
            ids.append(await log_in(store, "ann"))
            await asyncio.sleep(0.003)
        oldest = await open_session(store, ids[0]).load()
        oldest.renew()
        newest = await open_session(store).load()
        reached, go_on = Steps(store).pause_before("end")
        login = asyncio.create_task(newest.login("ann"))
        await reached.wait()
        await asyncio.gather(oldest.save(), return_exceptions=True)
        go_on.set()
        await login
        await newest.save()
        ids.append(new_id(newest))
        change = cookie_change(oldest)
        if change is not None and change.session_id is not None:
            ids.append(change.session_id)
        assert len(await live_among(store, ids)) <= 2
        assert await store.users.count("ann") <= 2


async def test_a_session_with_one_unreadable_field_stays_listed(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Listing skips what it can't decode, but revoke_all must still find and end it."""
    session_id = await log_in(store, "ann", good=1)
    handle = handle_of(store, session_id)
    admin.hset(f"{prefix}:{handle}", "bad", "[1,")
    await store.users.list("ann")
    assert await open_session(store, session_id).fetch("good") == {"good": 1}
    await store.users.revoke_all("ann")
    assert await open_session(store, session_id).fetch("good") == {}


@pytest.mark.parametrize(
    "member",
    [
        "1",
        "f" * 31,
        "f" * 33,
        "f" * 32
        + "\r\n$7\r\n1800000\r\n$2\r\n-1\r\n$3\r\nall"
        + "\r\n*3\r\n$3\r\nSET\r\n$6\r\nforged\r\n$1\r\nx",
    ],
    ids=["short", "a digit less", "a digit more", "a command"],
)
async def test_what_is_no_handle_in_an_index_is_a_dead_place(
    store: SessionStore, admin: Any, prefix: str, member: str
) -> None:
    """Whatever somebody writes into a user's index names a key at the most, and is pruned."""
    session_id = await log_in(store, "ann")
    admin.zadd(index_key(prefix, "ann"), {member: 1})
    assert [info.handle for info in await store.users.list("ann")] == list(
        handles_of(store, session_id)
    )
    assert await store.users.count("ann") == 1
    assert admin.zcard(index_key(prefix, "ann")) == 1
    assert not admin.exists("forged")
    assert store.stats.errors == 0


async def test_logging_in_twice_in_one_request_needs_one_place(
    session_redis_url: str, prefix: str
) -> None:
    """With a limit of one and "reject", the first staged login makes way for the second."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=1, on_limit="reject"
    ) as store:
        session = await open_session(store).load()
        await session.login("ann")
        await session.login("ann")
        await session.save()
        assert await is_live(store, new_id(session))
        assert await store.users.count("ann") == 1


async def test_a_login_without_an_agent_forgets_the_one_before(store: SessionStore) -> None:
    """Address and agent are those of the last login, also if it tells none."""
    first = open_session(
        store, None, origin=(("192.0.2.1", 1), [(b"user-agent", FIREFOX.encode())])
    )
    await (await first.load()).login("ann")
    await first.save()
    await log_in(store, "ann", new_id(first))
    (info,) = await store.users.list("ann")
    assert (info.address, info.user_agent) == (None, None)


@pytest.mark.parametrize("had", ["nothing", "a cart", "the same user", "another user"])
async def test_clearing_after_login_logs_nobody_in(
    store: SessionStore, admin: Any, prefix: str, had: str
) -> None:
    """`login()`, then `clear()` with nothing written after it: no session, no place is left."""
    session_id = {
        "nothing": None,
        "a cart": await create(store, cart=[1]),
        "the same user": await log_in(store, "ann"),
        "another user": await log_in(store, "bob"),
    }[had]
    session = await open_session(store, session_id).load()
    await session.login("ann")
    session["half"] = "logged in"
    session.clear()
    await session.save()
    await store.drain()
    change = cookie_change(session)
    assert change is None or change.session_id is None
    assert session.user_id is None
    if session_id is not None:
        assert not await is_live(store, session_id)
    for user in ("ann", "bob"):
        await store.users.revoke_all(user)
    assert set(look(admin, prefix).users.values()) <= {""}  # the others' carts


async def test_logging_in_after_clear_logs_in(store: SessionStore) -> None:
    """`clear()`, then `login()`: the user's session, and empty."""
    session = await open_session(store, await create(store, cart=[1])).load()
    session.clear()
    await session.login("ann")
    await session.save()
    (info,) = await store.users.list("ann")
    assert (info.handle, info.fields) == (session.handle, {})


async def test_dead_places_go_whenever_the_index_is_written(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A login, a renewal, a revocation: nine sessions that expired are listed no more."""

    async def renew(session_id: str) -> None:
        session = await open_session(store, session_id).load()
        session.renew()
        await session.save()

    async def log_in_again(_: str) -> None:
        await log_in(store, "ann")

    async def revoke(session_id: str) -> None:
        await store.users.revoke("ann", handle_of(store, session_id))

    for write, left in ((log_in_again, 2), (renew, 1), (revoke, 0)):
        mine = await log_in(store, "ann")
        for session_id in plant(admin, store, "ann", 8):
            admin.delete(f"{prefix}:{handle_of(store, session_id)}")
        await write(mine)
        await store.drain()
        await store.drain()
        assert admin.zcard(index_key(prefix, "ann")) == left
        await store.users.revoke_all("ann")


async def test_a_new_place_is_the_newest(session_redis_url: str, admin: Any, prefix: str) -> None:
    """After a failover to a server whose clock is behind, the oldest session still goes first."""
    async with opened(session_redis_url, prefix, max_sessions_per_user=3) as limited:
        ids = [await log_in(limited, "ann") for _ in range(3)]
        for session_id in ids:
            admin.zincrby(index_key(prefix, "ann"), 10_000, handle_of(limited, session_id))
        ids.append(await log_in(limited, "ann"))
        assert await live_among(limited, ids) == ids[1:]
        ids.append(await log_in(limited, "ann"))
        assert await live_among(limited, ids) == ids[2:]
        newest = [handle_of(limited, session_id) for session_id in reversed(ids[2:])]
        assert [info.handle for info in await limited.users.list("ann")] == newest
