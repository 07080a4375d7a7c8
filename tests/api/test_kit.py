"""What `asgi_redis_session.testing` adds: handles, sessions without a request, script names."""

from typing import Any

import pytest

from asgi_redis_session import CookiePolicy
from asgi_redis_session.testing import SessionKit

from ..support.internals import load_scripts
from .common import PLAIN, WELL_FORMED


def test_cookies_lead_to_a_handle(sessions: SessionKit) -> None:
    """Of a session that exists, has ended, or never was; None without its cookie."""
    cookies = sessions.cookies({"n": 1}, user=42)
    handle = sessions.handle_of(cookies)
    assert handle is not None
    info = sessions.info(handle)
    assert info is not None
    assert (info.user_id, info.fields) == ("42", {"n": 1})
    assert sessions.revoke(handle)
    assert sessions.handle_of(cookies) == handle
    assert sessions.info(handle) is None
    assert sessions.handle_of({}) is None
    assert sessions.handle_of(cookies, cookie=PLAIN) is None
    unknown = sessions.handle_of({"session": WELL_FORMED}, cookie=PLAIN)
    assert unknown is not None
    assert sessions.info(unknown) is None


async def test_code_that_takes_a_session_needs_no_request(sessions: SessionKit) -> None:
    """A new session, or that of a cookie: load it, use it, save it."""

    async def buy(session: Any, sku: str) -> None:
        session.setdefault("cart", []).append(sku)

    cookies = sessions.cookies({"cart": ["tea"]})
    session = await sessions.session(cookies["__Host-session"]).load()
    await buy(session, "milk")
    await session.save()
    assert sessions.read(cookies) == {"cart": ["tea", "milk"]}
    new = await sessions.session().load()
    await buy(new, "bread")
    await new.save()
    assert new.handle is not None
    info = sessions.info(new.handle)
    assert info is not None
    assert info.fields == {"cart": ["bread"]}
    await sessions.store.aclose()


async def test_a_trace_names_scripts(sessions: SessionKit, admin: Any) -> None:
    """In order, as the files in engine/lua/ are called; a load is an HGETALL."""
    load_scripts(admin)
    async with sessions.store as store:
        with sessions.count() as commands:
            async with store.open(None) as opened:
                opened.session["n"] = 1
            assert opened.set_cookie is not None
            async with store.open(opened.set_cookie.partition(";")[0]) as opened:
                opened.session["n"] = 2
                await opened.session.increment("visits")
                await opened.session.logout()
    assert commands.scripts == ["create", "load", "increment", "end"]
    assert commands.names == ["EVALSHA", "HGETALL", "EVALSHA", "EVALSHA"]
    assert len(commands) == 4


@pytest.mark.parametrize("policy", [None, CookiePolicy(name="sid")])
def test_the_policy_names_the_cookie(sessions: SessionKit, policy: CookiePolicy | None) -> None:
    """In all three directions."""
    cookies = sessions.cookies({"n": 1}, cookie=policy)
    assert list(cookies) == ["__Host-session" if policy is None else "sid"]
    assert sessions.read(cookies, cookie=policy) == {"n": 1}
    assert sessions.handle_of(cookies, cookie=policy) is not None
