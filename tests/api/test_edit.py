"""`store.edit`: a job changes somebody's session, by its handle."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import (
    Lifetime,
    Session,
    SessionEvent,
    SessionGone,
    SessionStore,
    SessionTooLate,
    SessionUnavailable,
    SessionValueError,
)
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of, key_of, load_scripts, new_id, open_session
from ..support.keyspace import session_keys
from ..support.steps import Steps
from .common import MINUTE, NOWHERE, Make, create, log_in

pytestmark = pytest.mark.on_cluster

NO_NEW_ID = r"^A session in `store\.edit` keeps its id: no browser could be given a new one\."
UNKNOWN = "0" * 32


async def fields_of(store: SessionStore, handle: str) -> dict[str, Any] | None:
    info = await store.get(handle)
    return None if info is None else info.fields


@pytest.mark.parametrize("handle", [UNKNOWN, "", "nonsense", "A" * 32, "0" * 33, None, 7])
async def test_without_a_session_the_block_does_not_run(
    store: SessionStore, events: list[SessionEvent], handle: Any
) -> None:
    """Unknown or malformed: `SessionGone` on entry. No browser has sent a wrong cookie."""
    with pytest.raises(SessionGone):
        async with store.edit(handle):
            raise AssertionError("the block must not run")
    assert events == []


async def test_an_ended_session_is_gone(store: SessionStore) -> None:
    """So is one that has a new id by now."""
    session_id = await log_in(store, "ann")
    before = handle_of(store, session_id)
    session = await open_session(store, session_id).load()
    session.renew()
    await session.save()
    after = session.handle
    assert after is not None
    await store.revoke(after)
    for handle in (before, after):
        with pytest.raises(SessionGone):
            async with store.edit(handle):
                raise AssertionError("the block must not run")


async def test_changes_are_committed(store: SessionStore) -> None:
    """At the end of the block, for the sessions of a user."""
    for _ in range(2):
        await log_in(store, "ann")
    for info in await store.users.list("ann"):
        async with store.edit(info.handle) as session:
            assert isinstance(session, Session)
            assert session.user_id == "ann"
            assert session.handle == info.handle
            session["plan"] = "gold"
            assert await fields_of(store, info.handle) == {}
    assert [info.fields for info in await store.users.list("ann")] == [{"plan": "gold"}] * 2


async def test_a_session_under_an_older_secret_can_be_edited(make: Make) -> None:
    """A handle says under which name the session is; the secret plays no part."""
    old = make(secret="a secret of long ago")
    session_id = await create(old, n=1)
    new = make(secret=["the newest secret", "a secret of long ago"])
    async with new.edit(handle_of(old, session_id)) as session:
        session["n"] = 2
    assert dict(await open_session(new, session_id).load()) == {"n": 2}


async def test_an_exception_drops_what_is_staged(store: SessionStore) -> None:
    """It is raised on. What had an effect at once is kept, as in a request."""
    handle = handle_of(store, await create(store, n=1, list=[]))
    with pytest.raises(KeyError):
        async with store.edit(handle) as session:
            session["n"] = 2
            session["list"].append(1)
            await session.increment("visits")
            raise KeyError("oops")
    assert await fields_of(store, handle) == {"n": 1, "list": [], "visits": 1}


async def test_reading_writes_nothing(sessions: SessionKit, admin: Any) -> None:
    """One round trip to load; a second one only if something has changed."""
    load_scripts(admin)
    handle = sessions.handle_of(cookies := sessions.cookies({"n": 1}))
    assert handle is not None
    with sessions.count() as commands:
        async with sessions.store.edit(handle) as session:
            assert session["n"] == 1
        async with sessions.store.edit(handle) as session:
            session["n"] = 2
    await sessions.store.aclose()
    assert commands.scripts == ["load", "load", "save"]
    assert sessions.read(cookies) == {"n": 2}


async def test_the_ttl_only_falls(make: Make, admin: Any) -> None:
    """Whatever the job does with the session, it does not keep it alive."""
    ours, theirs = make(), make(lifetime=Lifetime(idle=7200, absolute=None))
    handle = handle_of(ours, await log_in(ours, "ann"))
    key = f"{ours.prefix}:{handle}"
    admin.pexpire(key, 10 * MINUTE)
    left = admin.pttl(key)

    def falls() -> None:
        nonlocal left
        now = admin.pttl(key)
        assert 0 < now <= left
        left = now

    for store in (ours, theirs):
        async with store.edit(handle) as session:
            falls()
            session["n"] = 1
            await session.save()
            falls()
            await session.increment("visits")
            falls()
            assert await session.fetch("n") == {"n": 1}
            assert await session.still_valid()
            await session.reload()
            falls()
            session["n"] = 2
            await session.increment("visits")
            falls()
            del session["n"]
        falls()
    async with ours.edit(handle) as session:
        session.set_lifetime(idle=300)
    assert 0 < admin.pttl(key) <= 5 * MINUTE
    assert admin.hget(key, "@idle") == b"300000"


async def test_touch_extends_the_ttl_even_here(store: SessionStore, admin: Any) -> None:
    """It does nothing else, so whoever calls it means it."""
    session_id = await create(store, n=1)
    admin.pexpire(key_of(store, session_id), MINUTE)
    async with store.edit(handle_of(store, session_id)) as session:
        assert await session.touch()
        session["n"] = 2
    assert admin.pttl(key_of(store, session_id)) > MINUTE


# --- New ids ---


async def test_login_and_renew_are_refused(store: SessionStore, admin: Any, prefix: str) -> None:
    """Before any command: no place is reserved. The rest of the block goes on."""
    handle = handle_of(store, await create(store, n=1))
    async with store.edit(handle) as session:
        with pytest.raises(SessionTooLate, match=NO_NEW_ID):
            await session.login("ann")
        with pytest.raises(SessionTooLate, match=NO_NEW_ID):
            session.renew()
        session["n"] = 2
    assert await fields_of(store, handle) == {"n": 2}
    assert not list(admin.scan_iter(f"{prefix}:user:*"))


async def test_a_refused_renewal_ends_the_block(store: SessionStore) -> None:
    """The error does not say that a response has started: there is none."""
    handle = handle_of(store, await log_in(store, "ann"))
    with pytest.raises(SessionTooLate) as caught:
        async with store.edit(handle) as session:
            session["n"] = 2
            session.renew()
    assert "response" not in str(caught.value)
    assert "store.open" in str(caught.value)
    assert await fields_of(store, handle) == {}


@pytest.mark.parametrize(
    "write",
    [
        lambda session: session.update(n=1),
        lambda session: session.setdefault("n", 1),
        lambda session: session.clear(),
        lambda session: session.set_lifetime(idle=60),
        lambda session: session.renew(),
        lambda session: session.increment("n"),
        lambda session: session.login("ann"),
    ],
)
async def test_nothing_can_be_written_after_logout(
    store: SessionStore, events: list[SessionEvent], write: Callable[[Session], Any]
) -> None:
    """It would be a new session, which no browser could be given."""
    handle = handle_of(store, await log_in(store, "ann"))
    async with store.edit(handle) as session:
        await session.logout()
        assert session.is_new
        assert await store.get(handle) is None
        with pytest.raises(SessionTooLate, match=NO_NEW_ID):
            result = write(session)
            if inspect.isawaitable(result):
                await result
    assert [event.name for event in events] == ["logged_in", "ended"]
    assert await store.users.count("ann") == 0


async def test_emptying_a_session_ends_it(store: SessionStore) -> None:
    """clear() means the same as in a request."""
    handle = handle_of(store, await log_in(store, "ann"))
    async with store.edit(handle) as session:
        session["n"] = 1
        session.clear()
    assert await store.get(handle) is None
    assert await store.users.count("ann") == 0


# --- Others at the same time ---


@pytest.mark.parametrize("end", ["revoke", "renew", "login", "expire"])
async def test_a_session_that_ended_meanwhile_is_not_recreated(
    store: SessionStore, admin: Any, end: str
) -> None:
    """`SessionGone` at the end of the block, and no key."""
    session_id = await log_in(store, "ann")
    await store.drain()
    key = key_of(store, session_id)
    with pytest.raises(SessionGone):
        async with store.edit(handle_of(store, session_id)) as session:
            session["n"] = 1
            if end == "revoke":
                assert await store.revoke(handle_of(store, session_id))
            elif end == "expire":
                admin.pexpire(key, 1)
                while admin.exists(key):
                    await asyncio.sleep(0.001)
            else:
                request = await open_session(store, session_id).load()
                if end == "login":
                    await request.login("ann")
                else:
                    request.renew()
                await request.save()
                moved = new_id(request)
                assert dict(await open_session(store, moved).load()) == {}
    assert not admin.exists(key)


async def test_a_session_that_ends_afterwards_ends_with_its_changes(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Nothing of what the block has written stays."""
    handle = handle_of(store, await log_in(store, "ann"))
    async with store.edit(handle) as session:
        session["n"] = 1
    assert await store.users.revoke_all("ann") == 1
    assert not session_keys(admin, prefix)


@pytest.mark.parametrize("step", [1, 2])
async def test_verbs_edit_crash(store: SessionStore, admin: Any, step: int) -> None:
    """After the load: nothing has happened. After the save: all of it is there. TTL as it was."""
    session_id = await create(store, n=1, other="x")
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    steps = Steps(store)
    steps.fail_at(step, asyncio.CancelledError(), done=True)
    with pytest.raises(asyncio.CancelledError):
        async with store.edit(handle_of(store, session_id)) as session:
            session["n"] = 2
            del session["other"]
    assert steps.names == ["load", "save"][:step]
    expected = {"n": 1, "other": "x"} if step == 1 else {"n": 2}
    assert await fields_of(store, handle_of(store, session_id)) == expected
    assert 0 < admin.pttl(key) <= MINUTE


async def test_an_edit_and_a_request_keep_each_others_fields(make: Make) -> None:
    """Both have loaded before either commits, whichever is first."""
    ours, theirs = make(), make()
    for edit_first in (True, False):
        session_id = await create(ours, both=[1], mine=0, yours=0)
        request = await open_session(ours, session_id).load()
        request["mine"] = 1
        async with theirs.edit(handle_of(ours, session_id)) as session:
            session["yours"] = 2
            session["both"].append(2)
            if not edit_first:
                await request.save()
        if edit_first:
            await request.save()
        assert dict(await open_session(ours, session_id).load()) == {
            "both": [1, 2],
            "mine": 1,
            "yours": 2,
        }


async def test_increments_of_edits_and_requests_all_count(make: Make) -> None:
    """50 of each at once."""
    ours, theirs = make(), make()
    session_id = await create(ours, n=0)
    handle = handle_of(ours, session_id)

    async def edit() -> int:
        async with theirs.edit(handle) as session:
            return await session.increment("n")

    async def request() -> int:
        return await open_session(ours, session_id).increment("n")

    sums = await asyncio.gather(*[verb() for _ in range(50) for verb in (edit, request)])
    assert sorted(sums) == list(range(1, 101))
    assert await fields_of(ours, handle) == {"n": 100}


async def test_two_sessions_in_one_block(store: SessionStore) -> None:
    """Each is committed on its own; what one has lost does not stop the other."""
    one, other = [handle_of(store, await create(store, n=n)) for n in (1, 2)]
    with pytest.raises(SessionGone):
        async with store.edit(one) as first, store.edit(other) as second:
            first["n"], second["n"] = 3, 4
            await store.revoke(one)
    assert await store.get(one) is None
    assert await fields_of(store, other) == {"n": 4}


# --- Errors ---


async def test_a_value_that_cannot_be_stored_leaves_the_session_as_it_was(
    store: SessionStore,
) -> None:
    """All changes, or none."""
    handle = handle_of(store, await create(store, n=1))
    with pytest.raises(SessionValueError, match=r"session\['list'\]"):
        async with store.edit(handle) as session:
            session["n"] = 2
            session["list"] = things = [1]
            things.append(object())  # type: ignore[arg-type]
    assert await fields_of(store, handle) == {"n": 1}


async def test_redis_is_away(prefix: str) -> None:
    """On entry."""
    async with SessionStore.from_url(NOWHERE, prefix=prefix) as store:
        with pytest.raises(SessionUnavailable):
            async with store.edit(UNKNOWN):
                raise AssertionError("the block must not run")


async def test_a_session_that_cannot_be_read_is_gone(
    store: SessionStore, admin: Any, events: list[SessionEvent]
) -> None:
    """It is reported, and left as it is for somebody to look at."""
    session_id = await create(store, n=1)
    admin.hset(key_of(store, session_id), "@v", "2")
    events.clear()
    with pytest.raises(SessionGone):
        async with store.edit(handle_of(store, session_id)):
            raise AssertionError("the block must not run")
    assert [event.name for event in events] == ["corrupt"]
    assert admin.hget(key_of(store, session_id), "@v") == b"2"
