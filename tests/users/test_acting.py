"""Somebody acts for a user: `login(actor=...)`, shown, and ended together with the actor."""

from contextlib import suppress
from typing import Any

import pytest

from asgi_redis_session import (
    Absence,
    Session,
    SessionEvent,
    SessionGone,
    SessionLimitReached,
    SessionStore,
    SessionValueError,
)
from asgi_redis_session.testing import SessionKit

from ..support.internals import Send, new_id, open_session
from ..support.sessions import create, is_live, live_among, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster


async def acting(
    store: SessionStore,
    user: str = "ann",
    session_id: str | None = None,
    actor: Any = "admin",
    **options: Any,
) -> str:
    """A session in which the administrator acts for this user; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login(user, actor=actor, **options)
    session["n"] = 1
    await session.save()
    return new_id(session)


async def test_who_acts_is_shown(sessions: SessionKit) -> None:
    """From the call on, in the next request, in the user's list, outside, and in the event."""
    events: list[SessionEvent] = []
    async with opened(sessions.url, sessions.prefix, on_event=events.append) as store:
        session = await open_session(store, await log_in(store, "admin")).load()
        assert session.actor is None
        await session.login("ann", actor="admin", amr=["pwd"])
        for _ in range(2):
            assert [session.user_id, session.actor, *session.amr] == ["ann", "admin", "pwd"]
            await session.save()
        later = await open_session(store, new_id(session)).load()
        assert (later.user_id, later.actor) == ("ann", "admin")
        (listed,) = await store.users.list("ann")
        found = await store.get(str(later.handle))
        (exported,) = await store.users.export("ann")
        assert found is not None
        assert listed.actor == found.actor == exported["actor"] == "admin"
        assert await store.users.list("admin") == []
    logins = [(one.user_id, one.actor) for one in events if one.name == "logged_in"]
    assert logins == [("admin", None), ("ann", "admin")]


async def test_who_acts_stays_through_a_renewal(store: SessionStore) -> None:
    """Until the next login."""
    session = await open_session(store, await acting(store)).load()
    session.renew()
    await session.save()
    renewed_id = new_id(session)
    assert (await open_session(store, renewed_id).load()).actor == "admin"
    plain = await log_in(store, "ann", renewed_id)
    again = await open_session(store, plain).load()
    assert (again.user_id, again.actor) == ("ann", None)
    assert await store.users.revoke_all("admin") == 0


async def test_nobody_who_acts_is_fresh(store: SessionStore) -> None:
    """The user has proven nothing, so what needs a recent login is not for who acts."""
    session = await open_session(store).load()
    await session.login("ann", actor="admin", amr=["otp"])
    for _ in range(2):
        assert not session.is_fresh(3600)
        assert not session.is_fresh(3600, amr=["otp"])
        await session.save()
    await session.login("ann")
    assert session.is_fresh(3600)


@pytest.mark.parametrize(
    ("first", "then", "is_kept"),
    [
        (("admin", None), ("ann", "admin"), False),
        (("ann", None), ("ann", "admin"), False),
        (("ann", "admin"), ("ann", None), False),
        (("ann", "admin"), ("ann", "boss"), False),
        (("ann", "admin"), ("bob", "admin"), False),
        (("ann", "admin"), ("ann", "admin"), True),
        ((None, None), ("ann", "admin"), True),
    ],
)
async def test_data_stays_with_those_who_have_made_it(
    store: SessionStore, first: Any, then: Any, *, is_kept: bool
) -> None:
    """What the user has stored is not for who acts for them later in this browser, or before."""
    before = await create(store, n=1)
    if first[0] is not None:
        before = await acting(store, first[0], actor=first[1])
    session = await open_session(store, before).load()
    await session.login(then[0], actor=then[1])
    assert ("n" in session) is is_kept
    await session.save()
    later = await open_session(store, new_id(session)).load()
    assert ("n" in later, later.actor) == (is_kept, then[1])
    assert not await is_live(store, before)
    assert await store.users.count(then[0]) == 1


async def test_they_end_with_the_actor(store: SessionStore) -> None:
    """All of them, renewed or not, and nobody else's; `absence` says so."""
    own = await log_in(store, "admin")
    session = await open_session(store, await acting(store)).load()
    session.renew()
    await session.save()
    theirs = [new_id(session), await acting(store), await acting(store, "bob")]
    others = [
        await log_in(store, "ann"),
        await acting(store, "ann", actor="boss"),
        await acting(store, "admin", actor="boss"),
    ]
    assert await store.users.revoke_all("admin") == 5
    assert await live_among(store, [own, *theirs]) == []
    assert await live_among(store, others) == others[:2]
    gone = await open_session(store, theirs[0]).load()
    assert gone.absence == Absence("revoked", gone.absence.at if gone.absence else None)
    assert await store.users.revoke_all("admin") == 0
    again = await acting(store)
    assert await is_live(store, again)
    assert await store.users.erase("admin") == 1


async def test_logging_out_everywhere_else_ends_them(store: SessionStore) -> None:
    """The administrator's own button; the user's one ends those in which they act for the user."""
    mine = await open_session(store, await log_in(store, "admin")).load()
    theirs = await acting(store)
    assert await store.users.revoke_others(mine) == 1
    assert not await is_live(store, theirs)
    ann = await open_session(store, await log_in(store, "ann")).load()
    theirs = await acting(store)
    assert await store.users.revoke_others(ann) == 1
    assert not await is_live(store, theirs)
    in_use = await open_session(store, await acting(store)).load()
    assert await store.users.revoke_others(in_use) == 1
    assert await in_use.still_valid()
    assert await mine.still_valid()


async def test_a_logout_ends_it_alone(store: SessionStore) -> None:
    """Acting ends, and the administrator's session in another browser goes on."""
    own, theirs = await log_in(store, "admin"), await acting(store)
    await open_session(store, theirs).logout()
    assert await live_among(store, [own, theirs]) == [own]


async def test_users_who_never_act_leave_nothing(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """To end all of their sessions writes no key."""
    await log_in(store, "ann")
    assert await store.users.revoke_all("ann") == 1
    assert not list(admin.scan_iter(f"{prefix}:actor:*"))


@pytest.mark.parametrize("on_limit", ["evict", "reject"])
async def test_acting_locks_nobody_out(sessions: SessionKit, on_limit: Any) -> None:
    """It neither takes the user's last place, nor is refused, nor ended by their next login."""
    options: dict[str, Any] = {"max_sessions_per_user": 1, "on_limit": on_limit}
    async with opened(sessions.url, sessions.prefix, **options) as store:
        first = await acting(store)
        own = await log_in(store, "ann")
        second = await acting(store)
        assert await live_among(store, [first, own, second]) == [first, own, second]
        if on_limit == "reject":
            with pytest.raises(SessionLimitReached):
                await log_in(store, "ann")
        else:
            again = await log_in(store, "ann")
            assert await live_among(store, [first, own, second, again]) == [first, second, again]
        assert await store.users.count("ann") == 3


async def _fresh(store: SessionStore, actor: str) -> Session:
    session = open_session(store)
    await session.login("ann", actor=actor)
    return session


async def _over_anonymous(store: SessionStore, actor: str) -> Session:
    session = await open_session(store, await create(store, n=1)).load()
    await session.login("ann", actor=actor)
    return session


async def _over_own(store: SessionStore, actor: str) -> Session:
    session = await open_session(store, await log_in(store, actor)).load()
    await session.login("ann", actor=actor)
    return session


async def _again(store: SessionStore, actor: str) -> Session:
    session = await open_session(store, await acting(store, actor=actor)).load()
    await session.login("ann", actor=actor)
    return session


async def _renewal(store: SessionStore, actor: str) -> Session:
    session = await open_session(store, await acting(store, actor=actor)).load()
    session.renew()
    return session


@pytest.mark.parametrize(
    ("verb", "logins"),
    [(_fresh, 1), (_over_anonymous, 1), (_over_own, 1), (_again, 2), (_renewal, 1)],
)
@pytest.mark.parametrize("after", [False, True])
async def test_an_end_of_the_actor_between_any_two_steps(  # noqa: PLR0917
    store: SessionStore, session_redis_url: str, prefix: str, verb: Any, logins: int, after: bool
) -> None:
    """
    Before or after each step of a login or a renewal: no session in which they act is left.

    Only a login that had not entered its key yet may follow the end.
    """
    number, is_reached = 0, True
    async with opened(session_redis_url, prefix) as other:
        while is_reached:
            number += 1
            actor, is_reached, entered = f"admin {number}", False, 0
            steps = Steps(store)

            async def on_step(name: str, at: int, send: Send) -> Any:
                nonlocal is_reached, entered
                if at != number:  # noqa: B023
                    return await send()
                is_reached = True
                done = steps.names if after else steps.names[:-1]  # noqa: B023
                entered = done.count("provider_enter")
                reply = await send() if after else None
                await other.users.revoke_all(actor)  # noqa: B023
                return reply if after else await send()

            steps.on_step = on_step
            with suppress(SessionGone):
                await (await verb(store, actor)).save()
            steps.stop()
            if is_reached and entered == logins:
                for info in await other.users.list("ann"):
                    assert info.actor != actor, (number, steps.names)
    assert number > 5


async def test_the_key_of_who_acts_does_not_grow_for_ever(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Whom they have acted for more than 400 days ago is forgotten, one at each login."""
    await acting(store)
    (key,) = admin.scan_iter(f"{prefix}:actor:*")
    assert admin.pttl(key) <= (7 * 24 + 1) * 3_600_000
    now = admin.time()[0] * 1000
    admin.zadd(key, {"user:old 1": now - 401 * 86_400_000, "user:old 2": now - 402 * 86_400_000})
    admin.zadd(key, {"user:ann": now - 399 * 86_400_000})
    for user in ("bob", "bob", "bob"):
        await acting(store, user)
    assert admin.zrange(key, 0, -1) == [b"user:ann", b"user:bob"]


@pytest.mark.parametrize(
    ("actor", "says"),
    [
        ("", "session.login\\(actor\\) is the user who acts. A user id must not be empty"),
        ("ann", "and this is the same. Leave it out"),
        (True, "A user id is a str, an int or a UUID"),
        ("x" * 20_000, "must not be longer"),
    ],
)
async def test_an_unusable_actor_is_refused(store: SessionStore, actor: Any, says: str) -> None:
    """One sentence, before anything happens."""
    session = await open_session(store).load()
    with pytest.raises(SessionValueError, match=says):
        await session.login("ann", actor=actor)
    assert await store.users.count("ann") == 0


async def test_actors_are_users(store: SessionStore) -> None:
    """Numbers and texts are the same user, as everywhere."""
    theirs = await acting(store, actor=7)
    assert (await open_session(store, theirs).load()).actor == "7"
    assert await store.users.revoke_all("7") == 1


async def test_who_acts_through_a_provider(store: SessionStore) -> None:
    """Both end it: the provider, and the end of all sessions of the actor."""
    link = {"issuer": "https://id.example.com", "sid": "s-1", "sub": "u-1"}
    first = await acting(store, **link)
    assert await store.revoke_sid(link["issuer"], sid="s-1") == 1
    assert not await is_live(store, first)
    second = await acting(store, **{**link, "sid": "s-2"})
    assert await store.users.revoke_all("admin") == 1
    assert not await is_live(store, second)
    third = await acting(store, **{**link, "sid": "s-3"})
    assert await is_live(store, third)
    assert await store.revoke_sid(link["issuer"], sub="u-1") == 1
