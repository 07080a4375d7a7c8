"""How long sessions live, by the clock of Redis."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asgi_redis_session import (
    Lifetime,
    Limits,
    SessionGone,
    SessionStore,
    SessionTooLate,
    SessionValueError,
)

from ..support.internals import (
    cookie_change,
    handle_of,
    id_of,
    key_of,
    new_id,
    open_session,
    start_response,
)
from ..support.serving import PATIENCE
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster

MINUTE, HOUR = 60_000, 3_600_000


@pytest.mark.parametrize(
    "nonsense",
    [0, -1, float("nan"), float("inf"), True, 2**63, timedelta.max, timedelta(0), "30", None],
)
def test_unusable_durations_are_refused(nonsense: Any) -> None:
    """An idle time that is no positive, finite length of time is refused in one sentence."""
    with pytest.raises((ValueError, TypeError), match=r"Lifetime\(idle\)"):
        Lifetime(idle=nonsense)


def test_refresh_after_must_be_shorter_than_idle() -> None:
    """A throttle as long as the idle time would let sessions die while in use."""
    with pytest.raises(ValueError, match="must be shorter than"):
        Lifetime(idle=60, refresh_after=60)


def test_an_idle_time_beyond_the_deadline_is_refused() -> None:
    """It has no effect. Of what is given alone, the other half is the default, and no mistake."""
    with pytest.raises(ValueError, match=r"Lifetime\(idle=..., absolute=...\)"):
        Lifetime(idle=120, absolute=60)
    halves: tuple[dict[str, Any], ...] = (
        {"idle": 60, "absolute": 60},
        {"absolute": 60},
        {"idle": timedelta(days=8)},
    )
    for given in halves:
        Lifetime(**given)


@pytest.mark.parametrize("nonsense", [0, -1, True, 1.5, None])
def test_unusable_limits_are_refused(nonsense: Any) -> None:
    """Limits are integers of at least 1."""
    with pytest.raises(ValueError, match=r"Limits\(fields"):
        Limits(fields=nonsense)


async def test_a_load_extends_the_idle_time(store: SessionStore, admin: Any) -> None:
    """The TTL is the idle time again after each load."""
    session_id = await create(store, n=1)
    admin.pexpire(key_of(store, session_id), MINUTE)
    session = await open_session(store, session_id).load()
    await store.drain()
    assert 29 * MINUTE < admin.pttl(key_of(store, session_id)) <= 30 * MINUTE
    expires = session.expires_at
    assert expires is not None
    assert abs(expires - datetime.now(UTC) - timedelta(minutes=30)) < timedelta(seconds=30)


async def test_how_long_it_lasts(store: SessionStore, admin: Any) -> None:
    """Counted by Redis; without an extension what is left, and None before there is one."""
    new = await open_session(store).load()
    assert new.expires_in is None
    new["n"] = 1
    await new.save()
    half_an_hour = timedelta(minutes=30)
    assert new.expires_in is not None
    assert timedelta(minutes=29) < new.expires_in <= half_an_hour
    session_id = id_of(new)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    session = await open_session(store, session_id, extends=False).load()
    for _ in range(2):
        assert session.expires_in is not None
        assert timedelta(0) < session.expires_in <= timedelta(minutes=1)
        assert admin.pttl(key) <= MINUTE
        assert await session.still_valid()
    extended = await open_session(store, session_id).load()
    assert extended.expires_in is not None
    assert extended.expires_in > timedelta(minutes=29)


async def test_how_long_it_lasts_while_a_stream_is_open(store: SessionStore, admin: Any) -> None:
    """`touch` and `still_valid` say it anew: what others have extended, and it itself."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    session = await open_session(store, session_id, extends=False).load()
    assert await session.touch()
    assert session.expires_in is not None
    assert session.expires_in > timedelta(minutes=29)
    assert session.expires_at is not None
    assert session.expires_at - datetime.now(UTC) > timedelta(minutes=28)
    admin.pexpire(key, 2 * MINUTE)
    assert await session.still_valid()
    assert session.expires_in <= timedelta(minutes=2)
    session["n"] = 2
    await session.save()
    assert admin.pttl(key) <= 2 * MINUTE
    admin.delete(key)
    assert not await session.still_valid()
    assert timedelta(0) <= session.expires_in <= timedelta(minutes=2)


async def test_it_never_lasts_less_than_nothing(store: SessionStore, admin: Any) -> None:
    """While a socket is open, time goes on."""
    session_id = await create(store, n=1)
    admin.pexpire(key_of(store, session_id), 50)
    session = await open_session(store, session_id, extends=False).load()
    async with asyncio.timeout(PATIENCE):
        while session.expires_in:
            await asyncio.sleep(0.01)
    assert session.expires_in == timedelta(0)


async def test_the_ttl_never_exceeds_the_deadline(store_with: Any, admin: Any) -> None:
    """With an absolute time shorter than the idle time, TTL is what is left until the deadline."""
    async with store_with(lifetime=Lifetime(absolute=60)) as store:
        session_id = await create(store, n=1)
        for _ in range(3):
            session = await open_session(store, session_id).load()
            session["n"] += 1
            await session.save()
            assert admin.pttl(key_of(store, session_id)) <= MINUTE


async def test_no_deadline_if_absolute_is_none(store_with: Any, admin: Any) -> None:
    """absolute=None stores no deadline, and the cookie lives as long as browsers allow."""
    async with store_with(lifetime=Lifetime(absolute=None)) as store:
        session = await open_session(store).load()
        session["n"] = 1
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert change.max_age_ms is None
        assert not admin.hexists(key_of(store, change.session_id or ""), "@deadline")


async def test_a_session_past_its_deadline_is_dead_even_without_ttl(
    store: SessionStore, admin: Any
) -> None:
    """Its TTL removed and its deadline in the past: not found, and deleted."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.hset(key, "@deadline", 1)
    admin.persist(key)
    assert len(await open_session(store, session_id).load()) == 0
    assert not admin.exists(key)


async def test_a_commit_past_the_deadline_finds_the_session_gone(
    store: SessionStore, admin: Any
) -> None:
    """Loaded before, written after the deadline: nothing is written."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    admin.hset(key_of(store, session_id), "@deadline", 1)
    with pytest.raises(SessionGone):
        await session.save()
    assert not admin.exists(key_of(store, session_id))


async def test_an_idle_session_is_gone_without_active_expiry(store_with: Any, admin: Any) -> None:
    """With Redis' active expiry switched off, an expired session is anonymous all the same."""
    async with store_with(lifetime=Lifetime(idle=0.05)) as store:
        session_id = await create(store, n=1)
        admin.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        try:
            await asyncio.sleep(0.1)
            assert len(await open_session(store, session_id).load()) == 0
        finally:
            admin.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")


async def test_renewal_keeps_the_deadline(store: SessionStore, admin: Any) -> None:
    """renew() moves data and deadline to a new id; the old id is dead."""
    session_id = await create(store, n=1)
    deadline = admin.hget(key_of(store, session_id), "@deadline")
    session = await open_session(store, session_id).load()
    session["n"] = 2
    session.renew()
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.session_id not in (None, session_id)
    assert change.max_age_ms is not None
    assert change.max_age_ms <= 7 * 24 * HOUR
    assert not admin.exists(key_of(store, session_id))
    assert admin.hget(key_of(store, change.session_id or ""), "@deadline") == deadline
    assert dict(await open_session(store, change.session_id).load()) == {"n": 2}
    assert dict(await open_session(store, session_id).load()) == {}


async def test_set_lifetime_shortens_one_session(store: SessionStore, admin: Any) -> None:
    """A shorter idle time and deadline hold for this session from then on."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    session = await open_session(store, session_id).load()
    session.set_lifetime(idle=timedelta(minutes=5), absolute=timedelta(hours=1))
    await session.save()
    assert admin.hget(key, "@idle") == b"%d" % (5 * MINUTE)
    assert int(admin.hget(key, "@deadline")) - int(admin.hget(key, "@created")) == HOUR
    assert admin.pttl(key) <= 5 * MINUTE
    change = cookie_change(session)
    assert change is not None
    assert change.session_id == session_id
    assert change.max_age_ms is not None
    assert change.max_age_ms <= HOUR
    admin.pexpire(key, 1000)
    await open_session(store, session_id).load()
    await store.drain()
    assert MINUTE < admin.pttl(key) <= 5 * MINUTE


async def test_set_lifetime_goes_along_with_a_renewal(store: SessionStore, admin: Any) -> None:
    """One commit gives the session its new id, and its shorter life."""
    session = await open_session(store, await create(store, n=1)).load()
    session.renew()
    session.set_lifetime(idle=timedelta(minutes=5), absolute=timedelta(hours=1))
    await session.save()
    key = key_of(store, new_id(session))
    assert admin.hget(key, "@idle") == b"%d" % (5 * MINUTE)
    assert int(admin.hget(key, "@deadline")) - int(admin.hget(key, "@created")) == HOUR
    assert MINUTE < admin.pttl(key) <= 5 * MINUTE


async def test_set_lifetime_of_a_new_session_is_stored_with_it(
    store: SessionStore, admin: Any
) -> None:
    """A session created with its own lifetime keeps it."""
    session = await open_session(store).load()
    session.set_lifetime(idle=60, absolute=120)
    session["n"] = 1
    await session.save()
    change = cookie_change(session)
    assert change is not None
    key = key_of(store, change.session_id or "")
    assert admin.hget(key, "@idle") == b"60000"
    assert admin.pttl(key) <= MINUTE


@pytest.mark.parametrize(
    "longer", [{"idle": HOUR}, {"absolute": timedelta(days=8)}, {"absolute": None}]
)
@pytest.mark.parametrize("new", [True, False])
async def test_set_lifetime_never_lengthens(
    store: SessionStore, longer: dict[str, Any], new: bool
) -> None:
    """A longer idle time or a later deadline is refused at the call."""
    session = await open_session(store, None if new else await create(store, n=1)).load()
    with pytest.raises(SessionValueError, match="only shorten"):
        session.set_lifetime(**longer)


async def test_two_requests_shortening_at_once_keep_the_shorter(
    store: SessionStore, admin: Any
) -> None:
    """The script takes the smaller of what is stored and what is asked for."""
    session_id = await create(store, n=1)
    first, second = open_session(store, session_id), open_session(store, session_id)
    await first.load()
    await second.load()
    first.set_lifetime(idle=60, absolute=600)
    second.set_lifetime(idle=120, absolute=1200)
    await first.save()
    await second.save()
    key = key_of(store, session_id)
    assert admin.hget(key, "@idle") == b"60000"
    assert int(admin.hget(key, "@deadline")) - int(admin.hget(key, "@created")) == 600_000
    assert admin.pttl(key) <= MINUTE


async def test_refresh_after_saves_refreshes(store_with: Any, admin: Any) -> None:
    """A refresh that would gain less than refresh_after is left out."""
    async with store_with(lifetime=Lifetime(idle=600, refresh_after=60)) as store:
        session_id = await create(store, n=1)
        key = key_of(store, session_id)
        admin.pexpire(key, 590_000)
        session = await open_session(store, session_id).load()
        assert admin.pttl(key) <= 590_000
        assert session.expires_at is not None
        assert session.expires_at - datetime.now(UTC) < timedelta(seconds=595)
        admin.pexpire(key, 530_000)
        await open_session(store, session_id).load()
        assert admin.pttl(key) > 595_000


async def test_still_valid_never_extends(store: SessionStore, admin: Any) -> None:
    """still_valid() tells whether the session exists and leaves its TTL alone."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    session = open_session(store, session_id)
    assert await session.still_valid()
    await session.load()
    await store.drain()
    admin.pexpire(key, MINUTE)
    assert await session.still_valid()
    assert admin.pttl(key) <= MINUTE
    assert await store.revoke(handle_of(store, session_id))
    assert not await session.still_valid()
    assert not await open_session(store).still_valid()


async def test_store_get_shows_a_session_without_using_it(store: SessionStore, admin: Any) -> None:
    """SessionInfo says when it was created, last seen and expires, and does not extend the TTL."""
    session_id = await create(store, n=1)
    handle = handle_of(store, session_id)
    admin.pexpire(key_of(store, session_id), 20 * MINUTE)
    info = await store.get(handle)
    assert info is not None
    assert info.handle == handle
    assert info.fields == {"n": 1}
    assert info.user_id is None
    assert info.authenticated_at is None
    assert info.created_at.tzinfo is UTC
    assert info.created_at <= info.last_seen < info.expires_at
    assert admin.pttl(key_of(store, session_id)) <= 20 * MINUTE
    assert await store.get("0" * 32) is None
    assert await store.get("nonsense") is None
    assert await store.revoke("nonsense") is False
    assert "n" not in repr(info).partition("fields")[2]


async def test_last_seen_is_the_ttl_read_backwards(store: SessionStore, admin: Any) -> None:
    """Ten minutes of the idle time are gone: it was last seen ten minutes ago."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.hincrby(key, "@created", -HOUR)
    admin.pexpire(key, 20 * MINUTE)
    info = await store.get(handle_of(store, session_id))
    assert info is not None
    ago = datetime.now(UTC) - info.last_seen
    assert timedelta(minutes=9) < ago < timedelta(minutes=11)


async def test_last_seen_of_a_session_capped_by_its_deadline(
    store: SessionStore, admin: Any
) -> None:
    """Where the TTL ends at the deadline it does not tell; `@seen` of the last commit does."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    await session.save()
    now = int(admin.hget(key, "@seen"))
    admin.hset(key, mapping={"@created": now - HOUR, "@deadline": now + 10 * MINUTE})
    await open_session(store, session_id).load()
    info = await store.get(handle_of(store, session_id))
    assert info is not None
    assert info.last_seen.timestamp() * 1000 == pytest.approx(now, abs=2)


async def test_app_clocks_do_not_matter(
    store: SessionStore, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app server whose clock is a day off reads, writes and renews as any other."""
    session_id = await create(store, n=1)
    real = time.time
    for offset in (-86_400, 86_400):
        monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
        session = await open_session(store, session_id).load()
        session["n"] += 1
        await session.save()
        assert 29 * MINUTE < admin.pttl(key_of(store, session_id)) <= 30 * MINUTE
    assert dict(await open_session(store, session_id).load()) == {"n": 3}


async def test_a_new_session_after_the_response_started_is_too_late(store: SessionStore) -> None:
    """Nothing can give the browser an id any more: the write raises and names the cure."""
    session = await open_session(store).load()
    start_response(session)
    with pytest.raises(SessionTooLate, match="before"):
        session["n"] = 1
    existing = await open_session(store, await create(store, n=1)).load()
    start_response(existing)
    existing["n"] = 2
    with pytest.raises(SessionTooLate):
        existing.renew()


async def test_set_lifetime_of_one_half_leaves_the_other(store_with: Any, admin: Any) -> None:
    """The half that is left out stays as the store has it, also where it is below the default."""
    short = Lifetime(idle=timedelta(minutes=10), absolute=timedelta(hours=12))
    async with store_with(lifetime=short) as store:
        for own, idle, length in (
            ({"idle": 60}, 60_000, 12 * HOUR),
            ({"absolute": 3600}, 600_000, HOUR),
        ):
            session = await open_session(store, await create(store, n=1)).load()
            session.set_lifetime(**own)
            await session.save()
            fields = admin.hgetall(f"{store.prefix}:{session.handle}")
            assert int(fields.get(b"@idle", 600_000)) == idle
            assert int(fields[b"@deadline"]) - int(fields[b"@created"]) == length
            with pytest.raises(SessionValueError, match="idle would be longer"):
                session.set_lifetime(idle=timedelta(minutes=11))


async def test_a_lifetime_that_is_over_already_ends_the_session(
    store: SessionStore, admin: Any
) -> None:
    """Shortened to before now, with or without a new id: gone, and no error of Redis."""
    for renews in (False, True):
        session_id = await create(store, n=1)
        session = await open_session(store, session_id).load()
        admin.hincrby(key_of(store, session_id), "@created", -HOUR)
        await session.reload()
        session.set_lifetime(absolute=60)
        if renews:
            session.renew()
        with pytest.raises(SessionGone):
            await session.save()
        assert not admin.exists(key_of(store, session_id))


async def test_the_cookie_follows_the_shortest_lifetime(store: SessionStore) -> None:
    """A request that shortens less than another did tells the browser what holds."""
    session_id = await create(store, n=1)
    first, second = open_session(store, session_id), open_session(store, session_id)
    await first.load()
    await second.load()
    first.set_lifetime(idle=100, absolute=200)
    second.set_lifetime(idle=100, absolute=1000)
    await first.save()
    await second.save()
    change = cookie_change(second)
    assert change is not None
    assert change.max_age_ms is not None
    assert change.max_age_ms <= 200_000
