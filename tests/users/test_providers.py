"""Sessions that an OpenID provider ends: `login(issuer=, sid=, sub=)` and `store.revoke_sid`."""

from typing import Any

import pytest

from asgi_redis_session import Session, SessionGone, SessionStore, SessionValueError
from asgi_redis_session.testing import SessionKit

from ..support.internals import Send, cookie_change, new_id, open_session
from ..support.sessions import create, is_live, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

ISSUER = "https://id.example.com"
LINK: dict[str, Any] = {"issuer": ISSUER, "sid": "s-1", "sub": "u-1"}


async def linked(
    store: SessionStore, user: str = "ann", session_id: str | None = None, **link: Any
) -> str:
    """A session of this user that is tied to the provider's; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login(user, **(link or LINK))
    session["n"] = 1
    await session.save()
    return new_id(session)


async def test_the_provider_ends_a_session(store: SessionStore) -> None:
    """That of this sid, and no other: not of another sid, another issuer, or without any."""
    mine = await linked(store)
    others = [
        await linked(store, issuer=ISSUER, sid="s-2", sub="u-1"),
        await linked(store, issuer="https://other.example", sid="s-1", sub="u-1"),
        await linked(store, "bob", issuer=ISSUER, sub="s-1"),
        await log_in(store, "ann"),
    ]
    assert await store.revoke_sid(ISSUER, sid="s-1") == 1
    assert not await is_live(store, mine)
    assert all([await is_live(store, other) for other in others])
    session = await open_session(store, mine).load()
    assert session.absence is not None
    assert session.absence.kind == "revoked"
    assert await store.users.count("ann") == 3
    assert await store.revoke_sid(ISSUER, sid="s-1") == 0


async def test_the_provider_ends_all_of_a_user(store: SessionStore) -> None:
    """A sub alone: whatever their sid, and under whichever of our ids they logged in."""
    ids = [
        await linked(store),
        await linked(store, issuer=ISSUER, sid="s-2", sub="u-1"),
        await linked(store, "ann-2", issuer=ISSUER, sub="u-1"),
    ]
    other = await linked(store, issuer=ISSUER, sid="s-3", sub="u-2")
    assert await store.revoke_sid(ISSUER, sub="u-1") == 3
    assert not any([await is_live(store, one) for one in ids])
    assert await is_live(store, other)


async def test_a_token_with_both(store: SessionStore) -> None:
    """The sid decides; a session that was logged in without one goes by its sub."""
    mine = await linked(store)
    other_sid = await linked(store, issuer=ISSUER, sid="s-2", sub="u-1")
    no_sid = await linked(store, issuer=ISSUER, sub="u-1")
    assert await store.revoke_sid(ISSUER, sid="s-1", sub="u-1") == 2
    assert [await is_live(store, one) for one in (mine, other_sid, no_sid)] == [False, True, False]


async def test_an_ended_sid_can_not_be_used_again(store: SessionStore) -> None:
    """A login that arrives after the logout is refused, also if nobody had logged in on it."""
    await store.revoke_sid(ISSUER, sid="s-1")
    session = await open_session(store).load()
    with pytest.raises(SessionGone) as gone:
        await session.login("ann", **LINK)
    assert gone.value.absence is not None
    assert gone.value.absence.kind == "revoked"
    assert await store.users.count("ann") == 0
    await session.login("ann", issuer=ISSUER, sid="s-2", sub="u-1")
    await session.save()
    assert await store.users.count("ann") == 1


async def test_a_user_may_log_in_again(store: SessionStore) -> None:
    """After a logout of all of a sub, with another sid or none."""
    await linked(store)
    await store.revoke_sid(ISSUER, sub="u-1")
    again = await linked(store, issuer=ISSUER, sid="s-2", sub="u-1")
    assert await is_live(store, again)


async def test_it_stays_tied_through_renewals(store: SessionStore) -> None:
    """A new id is still the provider's session."""
    session = await open_session(store, await linked(store)).load()
    session.renew()
    await session.save()
    renewed = new_id(session)
    assert await store.revoke_sid(ISSUER, sid="s-1") == 1
    assert not await is_live(store, renewed)


async def test_a_later_login_decides(store: SessionStore) -> None:
    """Logged in again on this session, by the provider's other session, or with a password."""
    first = await linked(store)
    second = await linked(store, "ann", first, issuer=ISSUER, sid="s-2", sub="u-1")
    assert await store.revoke_sid(ISSUER, sid="s-1") == 0
    third = await log_in(store, "ann", second)
    assert await store.revoke_sid(ISSUER, sid="s-2") == 0
    assert await store.revoke_sid(ISSUER, sub="u-1") == 0
    assert await is_live(store, third)


async def test_a_later_login_in_the_same_request_decides(store: SessionStore) -> None:
    """Also if the session was never read in between."""
    session = await open_session(store).load()
    await session.login("ann", **LINK)
    await session.save()
    session.renew()
    await session.save()
    await session.login("ann")
    await session.save()
    assert await store.revoke_sid(ISSUER, sub="u-1") == 0
    assert await is_live(store, new_id(session))


async def _fresh(store: SessionStore, link: Any) -> Session:
    session = open_session(store)
    await session.login("ann", **link)
    return session


async def _over_anonymous(store: SessionStore, link: Any) -> Session:
    session = await open_session(store, await create(store, n=1)).load()
    await session.login("ann", **link)
    return session


async def _over_own(store: SessionStore, link: Any) -> Session:
    session = await open_session(store, await log_in(store, "ann", n=1)).load()
    await session.login("ann", **link)
    return session


async def _renewal(store: SessionStore, link: Any) -> Session:
    session = await open_session(store, await linked(store, **link)).load()
    session.renew()
    return session


async def _ended_at(
    number: int, store: SessionStore, verb: Any, end: Any, link: Any, *, after: bool
) -> tuple[bool, bool]:
    """
    Let the provider end it before or after the step of this number.

    Returns whether there is such a step, and whether the login had entered both keys by then.
    """
    steps, is_reached, entered = Steps(store), False, 0

    async def on_step(name: str, at: int, send: Send) -> Any:
        nonlocal is_reached, entered
        if at != number:
            return await send()
        is_reached = True
        done = steps.names if after else steps.names[:-1]
        entered = done.count("provider_enter")
        reply = await send() if after else None
        await end()
        return reply if after else await send()

    steps.on_step = on_step
    try:
        session = await verb(store, link)
        await session.save()
    except SessionGone:
        pass
    finally:
        steps.stop()
    return is_reached, entered == 2


@pytest.mark.parametrize("how", [{"sid": "s-1"}, {"sub": "u-1"}, {"sid": "s-1", "sub": "u-1"}])
@pytest.mark.parametrize("verb", [_fresh, _over_anonymous, _over_own, _renewal])
@pytest.mark.parametrize("after", [False, True])
async def test_an_end_between_any_two_steps(  # noqa: PLR0917
    store: SessionStore, session_redis_url: str, prefix: str, verb: Any, how: Any, after: bool
) -> None:
    """
    Before or after each step of a login or a renewal: no session of the provider's is left.

    Only a login that had not entered its keys yet may follow an end of its *sub*.
    """
    number, is_reached = 0, True
    async with opened(session_redis_url, prefix) as other:
        while is_reached:
            number += 1
            issuer = f"{ISSUER}/{number}"

            async def end(issuer: str = issuer) -> None:
                await other.revoke_sid(issuer, **how)

            link = {"issuer": issuer, "sid": "s-1", "sub": "u-1"}
            is_reached, has_entered = await _ended_at(number, store, verb, end, link, after=after)
            if is_reached and (has_entered or "sid" in how):
                # What was tied to it would be ended now.
                assert await other.revoke_sid(issuer, sub="u-1") == 0, number
    assert number > 5


@pytest.mark.parametrize("verb", [_fresh, _over_anonymous, _over_own, _renewal])
async def test_who_was_logged_out_at_the_provider_meanwhile_is_told(
    store: SessionStore, session_redis_url: str, prefix: str, verb: Any
) -> None:
    """Even if all other steps were done: no browser gets the id of a session that is over."""
    session = await verb(store, LINK)
    steps = Steps(store)

    async def on_step(name: str, _: int, send: Send) -> Any:
        if name == "confirm":
            async with opened(session_redis_url, prefix) as other:
                reply = await send()
                await other.revoke_sid(ISSUER, sid="s-1")
                return reply
        return await send()

    steps.on_step = on_step
    with pytest.raises(SessionGone):
        await session.save()
    steps.stop()
    assert cookie_change(session) is None
    assert await store.users.count("ann") == 0


async def test_nothing_is_kept_for_ever(sessions: SessionKit, admin: Any) -> None:
    """What an end leaves, and what a login has entered, have a TTL."""
    async with SessionStore.from_url(sessions.url, prefix=sessions.prefix) as store:
        await linked(store)
        await store.revoke_sid(ISSUER, sid="unknown", sub="unknown")
    keys = [key for key in sessions.keys() if ":sid:" in key or ":sub:" in key]  # noqa: SIM118
    assert len(keys) == 4
    week = 7 * 24 * 3_600_000
    for key in keys:
        assert 3_590_000 < admin.pttl(key) <= week + 3_600_000
        assert b"u-1" not in b"".join(admin.zrange(key, 0, -1))


async def test_keys_of_a_session_without_a_deadline(store: SessionStore, admin: Any) -> None:
    """400 days: each login of a provider has a new sid, so they must not stay for ever."""
    session = await open_session(store).load()
    await session.login("ann", absolute=None, **LINK)
    await session.save()
    keys = list(admin.scan_iter(f"{store.prefix}:s[iu][db]:*"))
    assert len(keys) == 2
    for key in keys:
        assert admin.pttl(key) <= 400 * 24 * 3_600_000


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ({"issuer": ISSUER}, "together with sid, sub or both"),
        ({"sid": "s-1"}, "needs the issuer"),
        ({"sub": "u-1"}, "needs the issuer"),
        ({"issuer": "", "sid": "s-1"}, "issuer is a text"),
        ({"issuer": ISSUER, "sid": 1}, "sid is a text"),
        ({"issuer": ISSUER, "sub": "x" * 1001}, "sub is a text"),
    ],
)
async def test_an_unusable_link_is_refused(store: SessionStore, link: Any, says: str) -> None:
    """One sentence, before anything happens."""
    session = await open_session(store).load()
    with pytest.raises(SessionValueError, match=says):
        await session.login("ann", **link)
    with pytest.raises(SessionValueError, match=says):
        await store.revoke_sid(**{"issuer": None, **link})
    assert await store.users.count("ann") == 0


async def test_an_end_and_a_login_in_the_same_millisecond(store: SessionStore, admin: Any) -> None:
    """Their order counts, and not the clock: the clock of Redis may even go back."""
    await linked(store, issuer=ISSUER, sub="u-1")
    await store.revoke_sid(ISSUER, sub="u-1")
    (key,) = admin.scan_iter(f"{store.prefix}:sub:*")
    late = admin.time()[0] * 1000 + 60_000
    admin.zadd(key, {"revoked": late})
    session = await open_session(store, await linked(store, issuer=ISSUER, sub="u-1")).load()
    session.renew()
    await session.save()
    again = new_id(session)
    assert await is_live(store, again)
    assert await store.revoke_sid(ISSUER, sub="u-1") == 1
    assert not await is_live(store, again)


@pytest.mark.parametrize(
    "damaged", ["", "nonsense", "a b c d e", " ", "x y 9", "\xff\0", "- - 1e9 2"]
)
async def test_a_damaged_link_harms_nothing(store: SessionStore, admin: Any, damaged: str) -> None:
    """Another program has written it: the session can be renewed, and logged in on again."""
    session_id = await linked(store)
    handle = (await open_session(store, session_id).load()).handle
    admin.hset(f"{store.prefix}:{handle}", "@claims", damaged)
    session = await open_session(store, session_id).load()
    session.renew()
    await session.save()
    assert await store.revoke_sid(ISSUER, sub="u-1") == 0
    renewed = await open_session(store, new_id(session)).load()
    await renewed.login("ann")
    await renewed.save()
    assert not admin.hexists(f"{store.prefix}:{renewed.handle}", "@claims")
