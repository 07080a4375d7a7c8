"""The tests of fastapi-redis-sdk 0.9 on a real server, by their names."""

import asyncio
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from asgi_redis_session import (
    CookiePolicy,
    SessionMiddleware,
    SessionStore,
)
from asgi_redis_session.fastapi import SessionDep, require_fresh, require_user
from asgi_redis_session.testing import SessionKit

from ..dropin.swapped import browsing
from ..support.internals import open_session
from ..support.keyspace import session_keys
from ..support.page import Page
from ..support.sessions import PLAIN, is_live, log_in
from .acts import clear, log_in_as_42, untouched, write

pytestmark = pytest.mark.anywhere


# --- integration/test_session_middleware_integration.py ---


async def test_with_no_cookie_nothing_is_written(page: Page, prefix: str, admin: Any) -> None:
    assert "set-cookie" not in (await page(clear)).headers
    assert session_keys(admin, prefix) == []


async def test_after_idle_expiry_nothing_is_written(login: Page, prefix: str, admin: Any) -> None:
    for key in session_keys(admin, prefix):
        admin.delete(key)
    response = await login(clear)
    assert "cookie" in response.request.headers
    assert "set-cookie" not in response.headers
    assert session_keys(admin, prefix) == []


def test_the_new_id_is_not_indexed_under_the_old_subject(sessions: SessionKit) -> None:
    """In the drop-in, a user who is None now has a new id, too."""
    with browsing(sessions.store) as browser:
        browser(lambda session: session.update(user_id="u1"))
        signed_in = browser.client.cookies["session"]
        browser(lambda session: session.update(user_id=None))
        assert browser.client.cookies["session"] != signed_in
        assert len(sessions.keys()) == 1


# --- integration/test_session_integration.py ---


async def test_round_trip(page: Page) -> None:
    await page(lambda session: session.update(user_id=42))
    await page(dict)
    assert page.seen == {"user_id": 42}


async def test_redis_enforces_the_idle_clock(store: SessionStore, prefix: str, admin: Any) -> None:
    """The key has a TTL, and without the key there is no session."""
    session_id = await log_in(store, 42)
    assert await is_live(store, session_id)
    (key,) = [key for key in session_keys(admin, prefix) if admin.type(key) == b"hash"]
    assert 0 < admin.pttl(key) <= store.lifetime.idle_ms
    admin.pexpire(key, 1)
    while admin.exists(key):
        pass
    assert not await is_live(store, session_id)


async def test_redis_enforces_the_absolute_clock_despite_activity(
    page: Page, prefix: str, admin: Any
) -> None:
    await page(write)
    (key,) = session_keys(admin, prefix)
    seconds, _ = admin.time()
    admin.hset(key, "@deadline", seconds * 1000 + 5000)
    for _ in range(4):
        await page(write)
    assert admin.pttl(key) <= 5000


async def test_the_index_prunes_itself_with_no_help_from_us(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """A place without a session is neither counted nor listed, and the index has a TTL."""
    await log_in(store, 42)
    for key in session_keys(admin, prefix):
        if admin.type(key) == b"hash":
            admin.delete(key)
        else:
            assert admin.pttl(key) > 0
    assert await store.users.list(42) == []
    assert await store.users.count(42) == 0


async def test_rotation_deletes_the_old_key_before_writing_the_new_one(
    store: SessionStore,
) -> None:
    session = await open_session(store, old := await log_in(store, 42)).load()
    session.renew()
    await session.save()
    assert not await is_live(store, old)
    assert await store.users.count(42) == 1


async def test_writing_the_payload_leaves_the_deadline_alone(
    page: Page, prefix: str, admin: Any
) -> None:
    await page(write)
    (key,) = session_keys(admin, prefix)
    deadline = admin.hget(key, "@deadline")
    for _ in range(5):
        await page(write)
    assert admin.hget(key, "@deadline") == deadline
    assert admin.pttl(key) > 0


async def test_revoke_all_ends_every_session(store: SessionStore) -> None:
    ids = [await log_in(store, 42) for _ in range(3)]
    assert await store.users.revoke_all(42) == 3
    assert not any([await is_live(store, each) for each in ids])


# --- integration/test_session_cookie_expiry.py ---


async def test_a_reading_user_stays_signed_in(login: Page, prefix: str, admin: Any) -> None:
    """The cookie lives until the deadline, and each read extends the TTL."""
    (key,) = [key for key in session_keys(admin, prefix) if admin.type(key) == b"hash"]
    for _ in range(4):
        admin.expire(key, 60)
        response = await login(lambda session: session.user_id)
        assert login.seen == "42"
        assert "set-cookie" not in response.headers
        while admin.ttl(key) <= 60:  # extended by a command that nobody waits for
            await asyncio.sleep(0.005)


async def test_control_a_writing_user_stays_signed_in(login: Page) -> None:
    for _ in range(4):
        await login(write)
    await login(lambda session: session.user_id)
    assert login.seen == "42"


async def test_an_idle_user_is_signed_out_although_the_cookie_lives(
    login: Page, prefix: str, admin: Any
) -> None:
    for key in session_keys(admin, prefix):
        admin.delete(key)
    response = await login(lambda session: session.user_id)
    assert "cookie" in response.request.headers
    assert login.seen is None


async def test_overrides_of_zero_give_a_browser_session_cookie(store: SessionStore) -> None:
    cookie = CookiePolicy(name="session", secure=False, max_age="session")
    response = await Page(store, cookie)(log_in_as_42)
    assert "Max-Age" not in response.headers["set-cookie"]


async def test_overrides_give_a_max_age_when_the_settings_disable_both_clocks(
    page: Page,
) -> None:
    async def log_in_for_600_seconds(session: Any) -> None:
        await session.login(42, idle=60, absolute=600)

    response = await page(log_in_for_600_seconds)
    assert "Max-Age=600;" in response.headers["set-cookie"]


# --- integration/test_session_cache_invariants.py ---


def test_no_vary_and_no_private(sessions: SessionKit) -> None:
    headers, _ = untouched(sessions, sessions.cookies({"n": 1}, cookie=PLAIN))
    assert {"vary", "cache-control"}.isdisjoint(headers)


async def test_only_one_cache_control_header_is_emitted(page: Page) -> None:
    assert len((await page(write)).headers.get_list("cache-control")) == 1
    assert len((await page(dict)).headers.get_list("cache-control")) <= 1


async def test_vary_is_merged_not_duplicated(login: Page) -> None:
    assert (await login(dict)).headers.get_list("vary") == ["Cookie"]


# --- integration/test_valid_session_integration.py ---


def guarded(store: SessionStore) -> TestClient:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=store, cookie=PLAIN)

    @app.post("/login")
    async def login(session: SessionDep) -> None:
        await session.login(42)

    @app.get("/gated", dependencies=[Depends(require_user)])
    async def gated() -> None: ...

    @app.get("/recent", dependencies=[Depends(require_fresh(60))])
    async def recent() -> None: ...

    @app.get("/why")
    async def why(session: SessionDep) -> str:
        return session.absence.kind if session.absence else "logged in"

    return TestClient(app)


def test_a_live_session_passes(sessions: SessionKit) -> None:
    with guarded(sessions.store) as client:
        client.post("/login")
        assert client.get("/gated").status_code == 200


def test_no_cookie_is_missing(sessions: SessionKit) -> None:
    with guarded(sessions.store) as client:
        assert client.get("/gated").json()["detail"]["code"] == "login_required"
        assert client.get("/why").json() == "no_cookie"


def test_the_server_s_idle_expiry_reads_as_expired(sessions: SessionKit, admin: Any) -> None:
    """As "unknown": it has expired, or ended long ago."""
    with guarded(sessions.store) as client:
        client.post("/login")
        for key in session_keys(admin, sessions.prefix):
            admin.delete(key)
        assert client.get("/gated").status_code == 401
        assert client.get("/why").json() == "unknown"


def test_the_server_s_countdown_makes_a_session_stale(sessions: SessionKit, admin: Any) -> None:
    """By Redis' clock; a new login is recent again."""
    with guarded(sessions.store) as client:
        client.post("/login")
        assert client.get("/recent").status_code == 200
        (key,) = [key for key in session_keys(admin, sessions.prefix) if admin.type(key) == b"hash"]
        admin.hincrby(key, "@auth", -61_000)
        assert client.get("/recent").json()["detail"]["code"] == "reauthentication_required"
        client.post("/login")
        assert client.get("/recent").status_code == 200
