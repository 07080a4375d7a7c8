"""The event `new_device`: a user logs in from a kind of device that is not remembered of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgi_redis_session import SessionEvent, SessionStore, info
from asgi_redis_session.testing import SessionKit

from ..support.internals import new_id, open_session
from ..support.sessions import opened

pytestmark = pytest.mark.on_cluster

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{}.0) Gecko/20100101 Firefox/{}.0"
FIREFOX, UPDATED = (WINDOWS.format(number, number).encode() for number in (128, 129))
SAFARI = (
    b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    b"Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
DAY = 86_400_000


class World:
    """A store that remembers devices, and what it has reported of them."""

    def __init__(self, store: SessionStore, events: list[SessionEvent]) -> None:
        self.store = store
        self._events = events

    async def log_in(
        self, agent: bytes | None, user: str = "ann", session_id: str | None = None, **options: Any
    ) -> str:
        headers = () if agent is None else ((b"user-agent", agent),)
        session = open_session(self.store, session_id, origin=(("192.0.2.1", 1), headers))
        await session.login(user, **options)
        await session.save()
        return new_id(session)

    async def reported(self) -> list[tuple[str | None, str | None]]:
        """Users and details of the events since the last look."""
        await self.store.drain()
        found = [(one.user_id, one.detail) for one in self._events if one.name == "new_device"]
        self._events.clear()
        return found


@pytest.fixture
async def world(sessions: SessionKit) -> AsyncIterator[World]:
    events: list[SessionEvent] = []
    options: dict[str, Any] = {"on_event": events.append, "remember_devices": 90 * DAY / 1000}
    async with opened(sessions.url, sessions.prefix, **options) as store:
        yield World(store, events)


async def test_a_new_kind_of_device_is_reported_once(world: World) -> None:
    """The first of a user says so; a new version of the browser is no new kind."""
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", "first")]
    for agent in (FIREFOX, UPDATED):
        await world.log_in(agent)
    assert await world.reported() == []
    await world.log_in(SAFARI)
    assert await world.reported() == [("ann", None)]
    for agent in (SAFARI, FIREFOX):
        await world.log_in(agent)
    assert await world.reported() == []
    await world.log_in(FIREFOX, "bob")
    assert await world.reported() == [("bob", "first")]


async def test_the_event_leads_to_the_session(sessions: SessionKit) -> None:
    """Its handle shows the device and the address, for a mail to the user."""
    seen: list[SessionEvent] = []
    options: dict[str, Any] = {"on_event": seen.append, "remember_devices": 3600}
    async with opened(sessions.url, sessions.prefix, **options) as store:
        await World(store, []).log_in(SAFARI)
        await store.drain()
        (event,) = [one for one in seen if one.name == "new_device"]
        found = await store.get(event.handle or "")
    assert found is not None
    assert (found.label, found.address) == ("Mobile Safari on iOS", "192.0.2.1")
    assert "Safari" not in repr(event)


async def test_sessions_end_sooner_than_what_is_remembered(world: World) -> None:
    """After a logout, and after the end of all sessions."""
    session_id = await world.log_in(FIREFOX)
    await open_session(world.store, session_id).logout()
    await world.log_in(FIREFOX)
    await world.store.users.revoke_all("ann")
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", "first")]


async def test_an_unknown_device_is_a_kind_of_its_own(world: World) -> None:
    """No user agent, and one that nobody knows."""
    await world.log_in(FIREFOX)
    await world.log_in(None)
    assert await world.reported() == [("ann", "first"), ("ann", None)]
    await world.log_in(b"nonsense \xff")
    await world.log_in(None)
    assert await world.reported() == []


async def test_one_of_two_logins_at_once_reports_it(world: World) -> None:
    """From two tabs of a new browser."""
    await world.log_in(FIREFOX)
    await world.reported()
    await asyncio.gather(*[world.log_in(SAFARI) for _ in range(5)])
    assert await world.reported() == [("ann", None)]


async def test_who_acts_leaves_no_device(world: World) -> None:
    """The browser of the support is not the user's."""
    await world.log_in(FIREFOX, actor="admin")
    assert await world.reported() == []
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", "first")]


async def test_a_login_that_fails_leaves_no_device(world: World) -> None:
    """It was revoked before its commit."""
    session = open_session(world.store, origin=(None, ((b"user-agent", FIREFOX),)))
    await session.login("ann")
    await world.store.users.revoke_all("ann")
    await asyncio.gather(session.save(), return_exceptions=True)
    assert await world.reported() == []
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", "first")]


async def test_devices_are_forgotten(world: World, admin: Any) -> None:
    """After the time since the last login from each, and the key with the last."""
    await world.log_in(FIREFOX)
    await world.log_in(SAFARI)
    await world.reported()
    (key,) = admin.scan_iter(f"{world.store.prefix}:devices:*")
    assert 89 * DAY < admin.pttl(key) <= 90 * DAY
    first, second = admin.zrange(key, 0, -1)
    admin.zincrby(key, -91 * DAY, first)
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", None)]
    admin.zincrby(key, -91 * DAY, second)
    await world.log_in(FIREFOX)
    assert await world.reported() == []
    assert admin.zrange(key, 0, -1) == [first]


async def test_nothing_readable_is_remembered(world: World, admin: Any) -> None:
    """Digests, which differ from user to user."""
    for user in ("ann", "bob"):
        await world.log_in(FIREFOX, user)
    await world.reported()
    members = [
        admin.zrange(key, 0, -1) for key in admin.scan_iter(f"{world.store.prefix}:devices:*")
    ]
    assert [len(one) for one in members] == [1, 1]
    assert members[0] != members[1]
    assert all(len(member) == 32 for one in members for member in one)


async def test_fifty_kinds_are_remembered(world: World, admin: Any) -> None:
    """The one with the oldest login goes."""
    await world.log_in(FIREFOX)
    await world.reported()
    (key,) = admin.scan_iter(f"{world.store.prefix}:devices:*")
    ((_, now),) = admin.zrange(key, 0, -1, withscores=True)
    admin.zadd(key, {f"kind {number}": now - number for number in range(1, 50)})
    await world.log_in(FIREFOX)
    assert admin.zcard(key) == 50
    await world.log_in(SAFARI)
    assert await world.reported() == [("ann", None)]
    assert admin.zcard(key) == 50
    assert admin.zscore(key, "kind 49") is None
    assert admin.zscore(key, "kind 48") is not None


async def test_erasing_a_user_forgets_their_devices(world: World, admin: Any) -> None:
    """And no one else's."""
    for user in ("ann", "bob"):
        await world.log_in(FIREFOX, user)
    await world.reported()
    assert await world.store.users.erase("ann") == 1
    assert len(list(admin.scan_iter(f"{world.store.prefix}:devices:*"))) == 1
    await world.log_in(FIREFOX)
    assert await world.reported() == [("ann", "first")]


async def test_it_is_off_unless_asked_for(store: SessionStore, admin: Any, prefix: str) -> None:
    """No key, no event, no command."""
    await World(store, []).log_in(FIREFOX)
    await store.drain()
    assert not list(admin.scan_iter(f"{prefix}:devices:*"))


async def test_a_key_of_another_kind_disturbs_no_login(world: World, admin: Any) -> None:
    """Another program has written it."""
    await world.log_in(FIREFOX)
    await world.reported()
    (key,) = admin.scan_iter(f"{world.store.prefix}:devices:*")
    admin.delete(key)
    admin.set(key, "x")
    await world.log_in(SAFARI)
    assert await world.reported() == []
    assert await world.store.users.count("ann") == 2


def test_what_can_not_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a user agent there are no devices to tell apart, and without the extra no names."""
    url = "redis://localhost"
    with pytest.raises(ValueError, match="needs the user agent"):
        SessionStore.from_url(url, remember_devices=60, record_origin=False)
    monkeypatch.setattr(info, "parse", None)
    with pytest.raises(ValueError, match=r"install the extra `asgi-redis-session\[devices\]`"):
        SessionStore.from_url(url, remember_devices=60)
