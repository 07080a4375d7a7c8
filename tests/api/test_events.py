"""What `on_event` hears: which session, whose, why it ended, and when."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asgi_redis_session import (
    SessionEvent,
    SessionGone,
    SessionLimitReached,
    SessionStore,
    SessionUnavailable,
    Tag,
)

from ..support.internals import Send, handle_of, new_id, open_session
from ..support.steps import Steps
from .common import (
    NOWHERE,
    WELL_FORMED,
    Make,
    browser,
    clear,
    create,
    log_in,
    logout,
    logout_in_edit,
)

pytestmark = pytest.mark.on_cluster


def ends(events: list[SessionEvent]) -> list[tuple[str | None, str | None, str | None]]:
    """Of each session that ended: its handle, its user, and why."""
    return [
        (event.handle, event.user_id, event.reason) for event in events if event.name == "ended"
    ]


async def revoke(store: SessionStore, session_id: str) -> None:
    assert await store.revoke(handle_of(store, session_id))


async def users_revoke(store: SessionStore, session_id: str) -> None:
    assert await store.users.revoke("ann", handle_of(store, session_id))


async def revoke_all(store: SessionStore, session_id: str) -> None:
    assert await store.users.revoke_all("ann") == 1


async def revoke_others(store: SessionStore, session_id: str) -> None:
    session = await open_session(store, await log_in(store, "ann")).load()
    assert await store.users.revoke_others(session) == 1


async def another_user(store: SessionStore, session_id: str) -> None:
    await log_in(store, "bob", session_id)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (logout, "logout"),
        (clear, "logout"),
        (logout_in_edit, "logout"),
        (revoke, "revoked"),
        (users_revoke, "revoked"),
        (revoke_all, "revoked"),
        (revoke_others, "revoked"),
        (another_user, "replaced"),
    ],
)
async def test_an_end_says_whose_and_why(
    store: SessionStore,
    events: list[SessionEvent],
    end: Callable[[SessionStore, str], Awaitable[None]],
    reason: str,
) -> None:
    """One event for each session that ends, and none for one that had ended."""
    session_id = await log_in(store, "ann")
    await end(store, session_id)
    assert ends(events) == [(handle_of(store, session_id), "ann", reason)]
    await open_session(store, session_id).logout()
    assert not await store.revoke(handle_of(store, session_id))
    assert len(ends(events)) == 1


@pytest.mark.parametrize("end", [logout, clear, revoke, logout_in_edit])
async def test_the_end_of_an_anonymous_session_names_no_user(
    store: SessionStore,
    events: list[SessionEvent],
    end: Callable[[SessionStore, str], Awaitable[None]],
) -> None:
    """None, not an empty text."""
    session_id = await create(store, n=1)
    await end(store, session_id)
    ((handle, user_id, _),) = ends(events)
    assert (handle, user_id) == (handle_of(store, session_id), None)


async def test_the_limit_is_a_reason(make: Make, events: list[SessionEvent]) -> None:
    """The oldest session goes when the user logs in once more; a refused login ends nothing."""
    store = make(max_sessions_per_user=1, on_event=events.append)
    first = await log_in(store, "ann")
    await log_in(store, "ann")
    assert ends(events) == [(handle_of(store, first), "ann", "limit")]
    strict = make(max_sessions_per_user=1, on_limit="reject", on_event=events.append)
    with pytest.raises(SessionLimitReached):
        await log_in(strict, "ann")
    assert len(ends(events)) == 1


async def test_a_login_that_was_revoked_before_it_was_complete(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """Its hash is written, then deleted again: `login_failed`, and `gone` for the request."""
    session = await open_session(store).load()
    await session.login("ann")
    assert await store.users.revoke_all("ann") == 0
    with pytest.raises(SessionGone):
        await session.save()
    ((handle, user_id, reason),) = ends(events)
    assert (user_id, reason) == ("ann", "login_failed")
    assert [(event.name, event.handle, event.user_id) for event in events] == [
        ("ended", handle, "ann"),
        ("gone", handle, "ann"),
    ]


async def test_a_renewal_that_was_revoked_before_it_was_complete(
    make: Make, events: list[SessionEvent]
) -> None:
    """It is no login that has failed: the session was revoked."""
    store, theirs = make(on_event=events.append), make(on_event=events.append)
    session = await open_session(store, await log_in(store, "ann")).load()
    session.renew()
    looked, moved, revoked = asyncio.Event(), asyncio.Event(), asyncio.Event()
    renewing, revoking = Steps(store), Steps(theirs)

    async def renew(name: str, _: int, send: Send) -> Any:
        if name == "confirm":
            await revoked.wait()
        elif name == "save":
            await looked.wait()
        reply = await send()
        if name == "save":
            moved.set()
        return reply

    async def revoke(name: str, _: int, send: Send) -> Any:
        # The place under the new handle comes first, and there is no session yet.
        if name == "end" and revoking.names.count("end") > 1:
            await moved.wait()
        reply = await send()
        if name == "end":
            looked.set()
        return reply

    renewing.on_step, revoking.on_step = renew, revoke
    saving = asyncio.create_task(session.save())
    while "save" not in renewing.names:
        await asyncio.sleep(0.001)
    await theirs.users.revoke_all("ann")
    revoked.set()
    with pytest.raises(SessionGone):
        await saving
    assert [(user, reason) for _, user, reason in ends(events)] == [("ann", "revoked")]
    assert await store.users.count("ann") == 0


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_search_revokes(make: Make, events: list[SessionEvent]) -> None:
    """The sessions that a query finds, each with its user."""
    store = make(index=[Tag("tenant")], on_event=events.append)
    await store.search.create_index()
    try:
        handles = []
        for user in ("ann", "bob"):
            session = await open_session(store).load()
            await session.login(user)
            session["tenant"] = "acme"
            await session.save()
            handles.append(session.handle)
        assert await store.search.revoke(Tag("tenant") == "acme") == 2
    finally:
        await store.search.drop_index()
    assert sorted(ends(events), key=str) == sorted(
        [(handles[0], "ann", "revoked"), (handles[1], "bob", "revoked")], key=str
    )


async def test_a_life_in_events(store: SessionStore, events: list[SessionEvent]) -> None:
    """Created, logged in, renewed, ended, missed: each with its handle, and its user if any."""
    session_id = await create(store, n=1)
    anonymous = handle_of(store, session_id)
    session_id = await log_in(store, 42, session_id)
    logged_in = handle_of(store, session_id)
    session = await open_session(store, session_id).load()
    session.renew()
    await session.save()
    session_id = new_id(session)
    renewed = handle_of(store, session_id)
    late = await open_session(store, session_id).load()
    late["n"] = 2
    await session.logout()
    with pytest.raises(SessionGone):
        await late.save()
    await open_session(store, WELL_FORMED).load()
    assert [(event.name, event.handle, event.user_id, event.reason) for event in events] == [
        ("created", anonymous, None, None),
        ("logged_in", logged_in, "42", None),
        ("renewed", renewed, "42", None),
        ("ended", renewed, "42", "logout"),
        ("gone", renewed, "42", None),
        ("unknown_id", handle_of(store, WELL_FORMED), None, None),
    ]


@pytest.mark.parametrize("user", [None, "ann"])
async def test_a_renewal_that_finds_its_session_ended(
    store: SessionStore, events: list[SessionEvent], user: str | None
) -> None:
    """The event names the session and its user, as that of any other write does."""
    session_id = await (create(store, n=1) if user is None else log_in(store, user))
    session = await open_session(store, session_id).load()
    handle = str(session.handle)
    await store.revoke(handle)
    events.clear()
    session.renew()
    with pytest.raises(SessionGone):
        await session.save()
    assert [(each.name, each.handle, each.user_id) for each in events] == [("gone", handle, user)]


async def test_each_event_says_when(store: SessionStore, events: list[SessionEvent]) -> None:
    """By the clock of the process, in UTC; it plays no part in comparing events."""
    before = datetime.now(UTC)
    session_id = await create(store, n=1)
    after = datetime.now(UTC)
    (event,) = events
    assert event.at.tzinfo is UTC
    assert before <= event.at <= after
    handle = handle_of(store, session_id)
    assert event == SessionEvent("created", handle)
    assert event == SessionEvent("created", handle, at=before - timedelta(days=1))
    assert event != SessionEvent("created", handle, user_id="ann")


async def test_two_cookies_are_a_conflict_and_an_outage_has_a_detail(
    store: SessionStore, events: list[SessionEvent], prefix: str
) -> None:
    """Neither names a session; the detail says what went wrong."""

    async def page(session: Any) -> int:
        return len(await session.load())

    async with browser(store, page) as client:
        cookies = f"session={WELL_FORMED}; session={'B' * 43}"
        assert (await client.get("/page", headers={"cookie": cookies})).text == "0"
    assert events == [SessionEvent("conflict")]
    heard: list[SessionEvent] = []
    async with SessionStore.from_url(NOWHERE, prefix=prefix, on_event=heard.append) as away:
        with pytest.raises(SessionUnavailable):
            await open_session(away, WELL_FORMED).load()
    (event,) = heard
    assert (event.name, event.handle, event.user_id, event.reason) == (
        "unavailable",
        None,
        None,
        None,
    )
    assert event.detail is not None
    assert "127.0.0.1:1" in event.detail


async def test_no_event_shows_an_id_or_a_value(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """They go to logs."""
    session_id = await create(store, secret="a value that nobody may see")
    other = await log_in(store, "ann", session_id)
    await open_session(store, other).logout()
    assert len(events) == 3
    for hidden in (session_id, other, "nobody may see"):
        assert hidden not in repr(events)


async def test_a_hook_that_fails_disturbs_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, with the name of the event."""

    def broken(event: SessionEvent) -> None:
        raise RuntimeError("no metrics")

    store = make(on_event=broken)
    session_id = await log_in(store, "ann")
    assert (await open_session(store, session_id).load()).user_id == "ann"
    assert "on_event failed for the event 'logged_in'" in caplog.text
    assert "no metrics" in caplog.text
