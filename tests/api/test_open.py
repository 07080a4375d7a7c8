"""`store.open`: the session of a cookie header, where no middleware runs."""

import asyncio
from typing import Any

import pytest

from asgi_redis_session import (
    CookiePolicy,
    Durability,
    DurabilityNotReached,
    Session,
    SessionEvent,
    SessionGone,
    SessionStore,
    SessionTooLate,
    SessionUnavailable,
)

from ..support.internals import handle_of, key_of
from ..support.keyspace import session_keys
from .common import MINUTE, NOWHERE, PLAIN, WELL_FORMED, Make, create, log_in

pytestmark = pytest.mark.on_cluster


def id_in(set_cookie: str | None) -> str:
    """The id that a `Set-Cookie` value gives to the browser."""
    assert set_cookie is not None
    value = set_cookie.partition(";")[0].partition("=")[2]
    assert len(value) == len(WELL_FORMED)
    return value


async def fields_of(store: SessionStore, session_id: str) -> dict[str, Any] | None:
    info = await store.get(handle_of(store, session_id))
    return None if info is None else info.fields


async def test_a_new_session_has_a_cookie_to_send(store: SessionStore) -> None:
    """The value of `Set-Cookie`, known after the block; the next request brings it back."""
    async with store.open(None) as opened:
        assert isinstance(opened.session, Session)
        assert opened.session.loaded
        assert opened.session.is_new
        opened.session["n"] = 1
        assert opened.set_cookie is None
    assert opened.set_cookie is not None
    name, _, rest = opened.set_cookie.partition("=")
    assert name == "__Host-session"
    assert rest.endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
    session_id = id_in(opened.set_cookie)
    async with store.open(f"__Host-session={session_id}") as again:
        assert dict(again.session) == {"n": 1}
    assert again.set_cookie is None


async def test_nothing_is_made_of_nothing(store: SessionStore, admin: Any, prefix: str) -> None:
    """A new session to which nothing was written needs no key and no cookie."""
    async with store.open(None) as opened:
        assert len(opened.session) == 0
    assert opened.set_cookie is None
    assert not session_keys(admin, prefix)


@pytest.mark.parametrize("kind", [str, bytes])
async def test_an_existing_session_is_loaded_and_committed(
    store: SessionStore, admin: Any, kind: type
) -> None:
    """The header may be text or bytes, with other cookies; using the session extends its TTL."""
    session_id = await create(store, n=1)
    admin.pexpire(key_of(store, session_id), MINUTE)
    header: Any = f"theme=dark; session={session_id}; lang=de"
    if kind is bytes:
        header = header.encode()
    async with store.open(header, cookie=PLAIN) as opened:
        assert opened.session["n"] == 1
        opened.session["n"] = 2
    assert opened.set_cookie is None
    assert await fields_of(store, session_id) == {"n": 2}
    assert admin.pttl(key_of(store, session_id)) > MINUTE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "theme=dark",
        "session=short",
        "session=",
        f"session={WELL_FORMED}",
        f"session={WELL_FORMED}é€",
        "\udcff; session=\ud800",
        b"\xff\xfe; session=\x00",
    ],
)
async def test_a_header_that_leads_to_no_session_is_a_new_one(
    store: SessionStore, header: Any
) -> None:
    """Whatever a client sends; and the id that it made up is never used."""
    async with store.open(header, cookie=PLAIN) as opened:
        assert opened.session.is_new
        opened.session["n"] = 1
    session_id = id_in(opened.set_cookie)
    assert session_id != WELL_FORMED
    assert await fields_of(store, session_id) == {"n": 1}


async def test_two_different_cookies_are_a_conflict(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """Neither is believed; a new session replaces both in this browser."""
    first, second = await create(store, n=1), await create(store, n=2)
    events.clear()
    header = f"session={first}; session={second}"
    async with store.open(header, cookie=PLAIN) as opened:
        assert opened.session.is_new
        opened.session["n"] = 3
    assert [event.name for event in events] == ["conflict", "created"]
    assert id_in(opened.set_cookie) not in {first, second}
    async with store.open(f"session={first}; session={first}", cookie=PLAIN) as opened:
        assert dict(opened.session) == {"n": 1}


async def test_an_exception_drops_what_is_staged(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """It is raised on; neither fields nor a login are kept, nor the login's place."""
    session_id = await create(store, n=1)
    with pytest.raises(KeyError, match="oops"):
        async with store.open(f"session={session_id}", cookie=PLAIN) as opened:
            opened.session["n"] = 2
            await opened.session.login("ann")
            raise KeyError("oops")
    assert opened.set_cookie is None
    assert await fields_of(store, session_id) == {"n": 1}
    await store.drain()
    assert not list(admin.scan_iter(f"{prefix}:user:*"))


async def test_a_cancelled_block_drops_what_is_staged(store: SessionStore) -> None:
    """As an exception does."""
    session_id = await create(store, n=1)
    staged = asyncio.Event()

    async def hang() -> None:
        async with store.open(f"session={session_id}", cookie=PLAIN) as opened:
            opened.session["n"] = 2
            staged.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await staged.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await fields_of(store, session_id) == {"n": 1}


async def test_what_was_saved_before_an_exception_has_its_cookie(store: SessionStore) -> None:
    """The session is in Redis, so the browser must know its id, whatever happens next."""
    with pytest.raises(KeyError):
        async with store.open(None, cookie=PLAIN) as opened:
            opened.session["n"] = 1
            await opened.session.save()
            opened.session["n"] = 2
            raise KeyError("oops")
    assert await fields_of(store, id_in(opened.set_cookie)) == {"n": 1}
    session_id = await create(store, n=1)
    with pytest.raises(KeyError):
        async with store.open(f"session={session_id}", cookie=PLAIN) as opened:
            await opened.session.logout()
            raise KeyError("oops")
    assert opened.set_cookie is not None
    assert opened.set_cookie.startswith("session=deleted; Max-Age=0; Expires=Thu, 01 Jan 1970")


async def test_a_login_gives_the_browser_a_new_id(store: SessionStore) -> None:
    """The old one is dead, the data is kept, and the user's list has the session."""
    anonymous = await create(store, n=1)
    async with store.open(f"session={anonymous}", cookie=PLAIN) as opened:
        await opened.session.login("ann", idle=60, absolute=120)
    assert opened.set_cookie is not None
    assert "; Max-Age=120;" in opened.set_cookie
    session_id = id_in(opened.set_cookie)
    assert await fields_of(store, anonymous) is None
    (info,) = await store.users.list("ann")
    assert (info.handle, info.fields) == (handle_of(store, session_id), {"n": 1})


async def test_a_renewal_gives_the_browser_a_new_id(store: SessionStore) -> None:
    """The same data under it."""
    before = await create(store, n=1)
    async with store.open(f"session={before}", cookie=PLAIN) as opened:
        opened.session.renew()
    assert await fields_of(store, before) is None
    assert await fields_of(store, id_in(opened.set_cookie)) == {"n": 1}


async def test_a_logout_takes_the_cookie_away(store: SessionStore) -> None:
    """Where there was one; a browser without a cookie is sent nothing."""
    session_id = await log_in(store, "ann")
    async with store.open(f"session={session_id}", cookie=PLAIN) as opened:
        await opened.session.logout()
        assert opened.session.is_new
    assert opened.set_cookie is not None
    assert opened.set_cookie.startswith("session=deleted; Max-Age=0;")
    assert await store.users.count("ann") == 0
    async with store.open(None, cookie=PLAIN) as opened:
        opened.session["n"] = 1
        await opened.session.save()
        await opened.session.logout()
    assert opened.set_cookie is None
    async with store.open(f"session={WELL_FORMED}", cookie=PLAIN) as opened:
        await opened.session.logout()
    assert opened.set_cookie is None


async def test_logging_out_and_beginning_anew_is_one_cookie(store: SessionStore) -> None:
    """The new session's."""
    before = await create(store, n=1)
    async with store.open(f"session={before}", cookie=PLAIN) as opened:
        await opened.session.logout()
        opened.session["n"] = 2
    assert await fields_of(store, id_in(opened.set_cookie)) == {"n": 2}


async def test_the_policy_names_the_cookie(store: SessionStore) -> None:
    """Its name is read, its attributes are sent."""
    policy = CookiePolicy(name="sid", path="/app", same_site="strict", max_age="session")
    session_id = await create(store, n=1)
    async with store.open(f"session={session_id}", cookie=policy) as opened:
        assert opened.session.is_new
        opened.session["n"] = 2
    assert opened.set_cookie is not None
    assert opened.set_cookie.startswith("sid=")
    assert opened.set_cookie.endswith("; Path=/app; Secure; HttpOnly; SameSite=Strict")
    assert "Max-Age" not in opened.set_cookie


async def test_a_session_that_ended_meanwhile_is_not_recreated(
    make: Make, admin: Any, prefix: str
) -> None:
    """Another worker logs the user out while this one works: its commit writes nothing."""
    ours, theirs = make(), make()
    session_id = await log_in(ours, "ann")
    with pytest.raises(SessionGone):
        async with ours.open(f"session={session_id}", cookie=PLAIN) as opened:
            opened.session["n"] = 1
            assert await theirs.users.revoke_all("ann") == 1
    assert opened.set_cookie is None
    await ours.drain()
    assert not session_keys(admin, prefix)


async def test_two_workers_keep_each_others_fields(make: Make) -> None:
    """Both have loaded before either commits, and each has changed a field of its own."""
    ours, theirs = make(), make()
    session_id = await create(ours, first=0, second=0, list=[1])
    header = f"session={session_id}"
    async with ours.open(header, cookie=PLAIN) as one:
        async with theirs.open(header, cookie=PLAIN) as other:
            one.session["first"] = 1
            one.session["list"].append(2)
            other.session["second"] = 2
            await other.session.increment("visits")
    await ours.drain()
    expected = {"first": 1, "second": 2, "list": [1, 2], "visits": 1}
    assert await fields_of(ours, session_id) == expected


async def test_redis_is_away(prefix: str) -> None:
    """On entry; without a cookie there is nothing to ask until the end."""
    async with SessionStore.from_url(NOWHERE, prefix=prefix) as store:
        with pytest.raises(SessionUnavailable):
            async with store.open(f"session={WELL_FORMED}", cookie=PLAIN):
                raise AssertionError("the block must not run")
        with pytest.raises(SessionUnavailable):
            async with store.open(None, cookie=PLAIN) as opened:
                opened.session["n"] = 1
        assert opened.set_cookie is None


async def test_a_write_that_may_be_lost_has_its_cookie(make: Make) -> None:
    """`DurabilityNotReached` says that the session is there."""
    store = make(durability=Durability(replicas=9, timeout=0.01))
    with pytest.raises(DurabilityNotReached):
        async with store.open(None, cookie=PLAIN) as opened:
            opened.session["n"] = 1
    assert await fields_of(store, id_in(opened.set_cookie)) == {"n": 1}


async def test_nothing_is_too_late_inside(store: SessionStore) -> None:
    """No response has started before the end of the block: several new ids, one cookie."""
    async with store.open(None, cookie=PLAIN) as opened:
        opened.session["n"] = 1
        await opened.session.save()
        opened.session.renew()
        await opened.session.save()
        try:
            await opened.session.login("ann")
        except SessionTooLate as error:  # pragma: no cover
            raise AssertionError from error
    session_id = id_in(opened.set_cookie)
    (info,) = await store.users.list("ann")
    assert info.handle == handle_of(store, session_id)
