"""How long a session lives: what is given for it, and what the store says where nothing is."""

from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import Lifetime, Session, SessionStore, SessionValueError

from ..support.internals import (
    cookie_change,
    handle_of,
    index_key_of,
    key_of,
    new_id,
    open_session,
    refresh,
)
from .common import DAY, HOUR, MINUTE, Make, create, log_in

pytestmark = pytest.mark.on_cluster

TEN_MINUTES = Lifetime(idle=timedelta(minutes=10), absolute=timedelta(hours=12))


def span(admin: Any, key: str) -> tuple[int, int | None]:
    """The idle time of a session and its total time, as its hash says, in milliseconds."""
    fields = admin.hgetall(key)
    deadline = fields.get(b"@deadline")
    total = None if deadline is None else int(deadline) - int(fields[b"@created"])
    return int(fields[b"@idle"]), total


# --- Given, and not given ---


@pytest.mark.parametrize("kind", ["new", "anonymous", "user's", "logging in"])
async def test_a_length_that_is_the_librarys_default_counts_as_given(make: Make, kind: str) -> None:
    """Half an hour in a store of ten minutes is longer, so it is refused, not left out."""
    store = make(lifetime=TEN_MINUTES)
    session_id = None
    if kind == "anonymous":
        session_id = await create(store, n=1)
    elif kind == "user's":
        session_id = await log_in(store, "ann")
    session = await open_session(store, session_id).load()
    if kind == "logging in":
        await session.login("ann")
    for longer in ({"idle": 1800}, {"idle": timedelta(minutes=30), "absolute": 60}):
        with pytest.raises(SessionValueError, match=r"idle would be longer than its 600 s"):
            session.set_lifetime(**longer)
    with pytest.raises(SessionValueError, match=r"absolute would be longer than its 43200 s"):
        session.set_lifetime(absolute=timedelta(days=7))
    assert not session.modified or kind == "logging in"
    session.set_lifetime(idle=600, absolute=timedelta(hours=12))


async def test_login_takes_from_the_store_what_is_not_given(make: Make, admin: Any) -> None:
    """Two weeks of idle time in a store of 60 days: the deadline is in 60 days."""
    store = make(lifetime=Lifetime(absolute=timedelta(days=60)))
    session = await open_session(store).load()
    await session.login("ann", idle=timedelta(days=14))
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.max_age_ms == 60 * DAY
    key = key_of(store, change.session_id or "")
    assert span(admin, key) == (14 * DAY, 60 * DAY)
    assert 14 * DAY - HOUR < admin.pttl(key) <= 14 * DAY
    assert admin.pttl(index_key_of(store, "ann")) > 60 * DAY - HOUR
    key = key_of(store, await log_in(store, "ann", absolute=timedelta(days=1)))
    assert span(admin, key) == (30 * MINUTE, DAY)
    key = key_of(store, await log_in(store, "ann"))
    assert span(admin, key) == (30 * MINUTE, 60 * DAY)


async def test_a_login_without_a_deadline(make: Make, admin: Any) -> None:
    """absolute=None means none, also where the session or the store has one."""
    store = make()
    anonymous = await create(store, n=1)
    assert span(admin, key_of(store, anonymous)) == (30 * MINUTE, 7 * DAY)
    for before in (None, anonymous, await log_in(store, "bob")):
        session = await open_session(store, before).load()
        await session.login("ann", absolute=None)
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert change.max_age_ms is None
        assert span(admin, key_of(store, change.session_id or "")) == (30 * MINUTE, None)
    assert admin.pttl(index_key_of(store, "ann")) > 365 * DAY


async def test_a_deadline_where_the_store_has_none(make: Make, admin: Any) -> None:
    """A login, and a session that is shortened, get one; the index lives on."""
    store = make(lifetime=Lifetime(absolute=None))
    await log_in(store, "ann")
    session_id = await log_in(store, "ann", absolute=timedelta(hours=1))
    assert span(admin, key_of(store, session_id)) == (30 * MINUTE, HOUR)
    assert admin.pttl(index_key_of(store, "ann")) > 365 * DAY
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session.set_lifetime(absolute=None)
    assert not session.modified
    session.set_lifetime(absolute=timedelta(hours=2))
    await session.save()
    assert span(admin, key_of(store, session_id)) == (30 * MINUTE, 2 * HOUR)
    with pytest.raises(SessionValueError, match="absolute would be longer"):
        session.set_lifetime(absolute=None)


@pytest.mark.parametrize("is_new", [True, False])
async def test_calls_of_set_lifetime_add_up(store: SessionStore, admin: Any, is_new: bool) -> None:
    """Each call sets what it is given, and leaves the other half as the one before set it."""
    session_id = None if is_new else await create(store, n=1)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    session.set_lifetime(idle=timedelta(minutes=5))
    session.set_lifetime(absolute=timedelta(hours=1))
    await session.save()
    key = key_of(store, new_id(session))
    assert span(admin, key) == (5 * MINUTE, HOUR)
    session.set_lifetime(idle=timedelta(minutes=4))
    await session.save()
    assert span(admin, key) == (4 * MINUTE, HOUR)


async def test_set_lifetime_after_login_shortens_that_login(
    store: SessionStore, admin: Any
) -> None:
    """The limits are those that the login was given."""
    session = await open_session(store).load()
    await session.login("ann", idle=timedelta(days=2), absolute=timedelta(days=30))
    session.set_lifetime(idle=timedelta(days=1))
    with pytest.raises(SessionValueError, match="absolute would be longer"):
        session.set_lifetime(absolute=timedelta(days=31))
    await session.save()
    assert span(admin, key_of(store, new_id(session))) == (DAY, 30 * DAY)


async def test_set_lifetime_needs_something_to_set(store: SessionStore) -> None:
    """Without arguments, and with a Lifetime, it raises a TypeError."""
    session: Any = await open_session(store).load()
    with pytest.raises(TypeError, match=r"needs idle= or absolute="):
        session.set_lifetime()
    with pytest.raises(TypeError, match="positional"):
        session.set_lifetime(Lifetime(idle=60))
    with pytest.raises(TypeError, match="lifetime"):
        await session.login("ann", lifetime=Lifetime(idle=60))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"idle": 0}, ValueError),
        ({"idle": -1}, ValueError),
        ({"idle": float("nan")}, ValueError),
        ({"idle": None}, TypeError),
        ({"idle": "30"}, TypeError),
        ({"idle": True}, TypeError),
        ({"absolute": 0}, ValueError),
        ({"absolute": timedelta.max}, ValueError),
        ({"absolute": "7 days"}, TypeError),
    ],
)
async def test_an_unusable_length_is_named_and_changes_nothing(
    store: SessionStore, given: dict[str, Any], error: type[Exception]
) -> None:
    """One sentence that names verb and argument; no place is reserved."""
    session = await open_session(store).load()
    (name,) = given
    with pytest.raises(error, match=rf"^login\({name}\)"):
        await session.login("ann", **given)
    with pytest.raises(error, match=rf"^set_lifetime\({name}\)"):
        session.set_lifetime(**given)
    assert session.user_id is None
    assert not session.modified
    assert await store.users.count("ann") == 0


# --- What the hash says ---


async def test_every_new_session_names_its_idle_time(make: Make, admin: Any) -> None:
    """However it began, and after each login and renewal."""
    store = make(lifetime=TEN_MINUTES)

    def idle_of(session_id: str) -> bytes:
        held: bytes = admin.hget(key_of(store, session_id), "@idle")
        return held

    anonymous = await create(store, n=1)
    assert idle_of(anonymous) == b"600000"
    assert idle_of(await log_in(store, "ann")) == b"600000"
    over_anonymous = await log_in(store, "ann", anonymous)
    assert idle_of(over_anonymous) == b"600000"
    again = await log_in(store, "ann", over_anonymous, idle=60)
    assert idle_of(again) == b"60000"
    again = await log_in(store, "ann", again)
    assert idle_of(again) == b"600000"
    others = await log_in(store, "bob", again)
    assert idle_of(others) == b"600000"
    session = await open_session(store, others).load()
    session.renew()
    await session.save()
    assert idle_of(new_id(session)) == b"600000"


async def test_a_session_of_an_older_version_lives_as_long_as_the_store_says(
    store: SessionStore, admin: Any
) -> None:
    """Its hash names no idle time."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.hdel(key, "@idle")
    admin.pexpire(key, MINUTE)
    await open_session(store, session_id).load()
    await store.drain()
    assert 29 * MINUTE < admin.pttl(key) <= 30 * MINUTE


# --- Another process, with another Lifetime ---


async def use(store: SessionStore, session_id: str, verb: str) -> None:
    """Let a process use a session in one way."""
    session = open_session(store, session_id)
    handle = handle_of(store, session_id)
    if verb == "load":
        await session.load()
    elif verb == "fetch":
        await session.fetch("n")
    elif verb == "touch":
        assert await session.touch()
    elif verb == "increment":
        await session.increment("n")
    elif verb == "refresh":
        refresh(store, handle)
        await store.drain()
    elif verb == "save":
        await session.load()
        session["n"] = 7
        await session.save()
    elif verb == "edit":
        async with store.edit(handle) as edited:
            edited["n"] = 7
    elif verb == "get":
        assert await store.get(handle) is not None
    elif verb == "list":
        assert len(await store.users.list("ann")) == 1


USES = ["load", "fetch", "touch", "increment", "refresh", "save"]
#: These are no use of it, so the TTL stays as it is.
LOOKS = ["edit", "get", "list"]


@pytest.mark.parametrize("verb", [*USES, *LOOKS])
@pytest.mark.parametrize("other", [Lifetime(idle=60, absolute=120), Lifetime(idle=2 * 86_400)])
async def test_another_process_leaves_a_session_its_lifetime(
    make: Make, admin: Any, verb: str, other: Lifetime
) -> None:
    """A job or gateway with another Lifetime neither shortens nor lengthens it."""
    ours, theirs = make(lifetime=Lifetime(idle=3600, absolute=86_400)), make(lifetime=other)
    session_id = await log_in(ours, "ann")
    key = key_of(ours, session_id)
    admin.pexpire(key, 30 * MINUTE)
    await use(theirs, session_id, verb)
    await theirs.drain()
    left = 60 if verb in USES else 30
    assert (left - 1) * MINUTE < admin.pttl(key) <= left * MINUTE
    assert span(admin, key) == (HOUR, DAY)


async def test_another_process_reads_its_times_right(make: Make, admin: Any) -> None:
    """`last_seen` and `expires_at` are the same for both."""
    ours, theirs = make(lifetime=Lifetime(idle=3600, absolute=None)), make()
    session_id = await log_in(ours, "ann")
    admin.hincrby(key_of(ours, session_id), "@created", -DAY)
    admin.pexpire(key_of(ours, session_id), 45 * MINUTE)
    handle = handle_of(ours, session_id)
    mine, info = await ours.get(handle), await theirs.get(handle)
    assert mine is not None
    assert info is not None
    assert abs(info.last_seen - mine.last_seen) < timedelta(seconds=30)
    assert abs(info.expires_at - mine.expires_at) < timedelta(seconds=30)
    ago = info.expires_at - info.last_seen
    assert ago == timedelta(hours=1)
    (listed,) = await theirs.users.list("ann")
    assert listed.expires_at - listed.last_seen == timedelta(hours=1)


async def test_another_process_sets_limits_by_the_session_not_by_its_own_lifetime(
    make: Make,
) -> None:
    """What set_lifetime may not exceed is what the session was created with."""
    ours, theirs = make(lifetime=Lifetime(idle=3600)), make(lifetime=Lifetime(idle=60))
    session_id = await create(ours, n=1)
    session = await open_session(theirs, session_id).load()
    session.set_lifetime(idle=1800)
    with pytest.raises(SessionValueError, match="longer than its 3600 s"):
        session.set_lifetime(idle=3601)


# --- refresh_after ---

THROTTLED = ["load", "fetch", "refresh"]


@pytest.mark.parametrize("verb", THROTTLED)
async def test_a_session_in_use_lives_on_whatever_refresh_after_says(
    make: Make, admin: Any, verb: str
) -> None:
    """An idle time of 2 minutes, refresh_after of 10, and one use every half minute."""
    store = make(lifetime=Lifetime(idle=timedelta(hours=5), refresh_after=600))
    session_id = await log_in(store, "ann", idle=120)
    key = key_of(store, session_id)
    for _ in range(5):
        admin.pexpire(key, 90_000)
        await use(store, session_id, verb)
        assert 110_000 < admin.pttl(key) <= 120_000


@pytest.mark.parametrize("verb", THROTTLED)
@pytest.mark.parametrize("seconds", [(600, 570, 540), (1200, 1150, 1080), (6000, 5950, 5880)])
async def test_refresh_after_shrinks_in_proportion(
    make: Make, admin: Any, verb: str, seconds: tuple[int, int, int]
) -> None:
    """Half the store's idle time, half its refresh_after; and never more than the store's."""
    idle, saved, extended = seconds
    store = make(lifetime=Lifetime(idle=1200, refresh_after=100))
    session_id = await log_in(store, "ann", idle=idle)
    key = key_of(store, session_id)
    admin.pexpire(key, saved * 1000)
    await use(store, session_id, verb)
    assert admin.pttl(key) <= saved * 1000
    admin.pexpire(key, extended * 1000)
    await use(store, session_id, verb)
    assert admin.pttl(key) > saved * 1000


async def test_a_shortened_session_lives_on_too(make: Make, admin: Any) -> None:
    """The same for an idle time that set_lifetime has set."""
    store = make(lifetime=Lifetime(idle=timedelta(hours=5), refresh_after=600))
    session_id = await create(store, n=1)
    session: Session = await open_session(store, session_id).load()
    session.set_lifetime(idle=120)
    await session.save()
    admin.pexpire(key_of(store, session_id), 90_000)
    await open_session(store, session_id).load()
    assert admin.pttl(key_of(store, session_id)) > 110_000


async def test_a_refresh_after_that_shrinks_to_nothing_extends_always(
    make: Make, admin: Any
) -> None:
    """A second of a day is less than a millisecond of a minute: every use extends the TTL."""
    store = make(lifetime=Lifetime(idle=86_400, refresh_after=1))
    session_id = await log_in(store, "ann", idle=60)
    key = key_of(store, session_id)
    admin.pexpire(key, 59_000)
    await open_session(store, session_id).load()
    assert admin.pttl(key) > 59_000
