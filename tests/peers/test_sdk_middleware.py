"""The tests of fastapi-redis-sdk's middleware, and those of its former faults, by their names."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from asgi_redis_session import (
    CookiePolicy,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
)
from asgi_redis_session.fastapi import SessionDep
from asgi_redis_session.testing import SessionKit

from ..support.internals import open_session
from ..support.keyspace import session_keys
from ..support.page import Page
from ..support.sessions import PLAIN, log_in
from .acts import clear, log_in_as_42, log_out, renew, rotated, untouched, write

pytestmark = pytest.mark.anywhere


# --- unit/test_session_middleware.py ---


def test_no_cookie_and_no_access_writes_nothing(sessions: SessionKit) -> None:
    headers, commands = untouched(sessions)
    assert {"set-cookie", "vary"}.isdisjoint(headers)
    assert commands == []


async def test_reading_an_empty_session_sets_no_cookie(page: Page) -> None:
    assert "set-cookie" not in (await page(dict)).headers


async def test_vary_is_emitted_when_the_session_was_accessed(page: Page) -> None:
    assert (await page(dict)).headers["vary"] == "Cookie"


def test_vary_is_absent_when_it_was_not(sessions: SessionKit) -> None:
    headers, _ = untouched(sessions, sessions.cookies({"n": 1}, cookie=PLAIN))
    assert "vary" not in headers


async def test_a_write_sets_a_cookie_and_survives_the_next_request(page: Page) -> None:
    assert "set-cookie" in (await page(write)).headers
    await page(write)
    await page(dict)
    assert page.seen == {"n": 2}


async def test_the_cookie_carries_no_session_data(page: Page) -> None:
    response = await page(lambda session: session.update(user_name="ada-lovelace"))
    assert "ada" not in response.headers["set-cookie"]


async def test_cookie_attributes_follow_the_settings(page: Page) -> None:
    cookie = (await page(write)).headers["set-cookie"]
    assert cookie.endswith("; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax")


def test_signing_in_rotates_with_no_call_from_the_handler(sessions: SessionKit) -> None:
    assert rotated(sessions, {"n": 1}, {"user_id": 42})


def test_the_old_key_is_gone_after_a_rotation(sessions: SessionKit) -> None:
    assert rotated(sessions, {"n": 1}, {"user_id": 42})
    assert len(sessions.keys()) == 1


def test_a_privilege_change_rotates_too(sessions: SessionKit) -> None:
    assert rotated(sessions, {"user_id": 42}, {"user_id": 99})


def test_an_ordinary_write_does_not_rotate(sessions: SessionKit) -> None:
    assert not rotated(sessions, {"user_id": 42}, {"n": 1})


async def test_a_malformed_cookie_yields_a_new_session(page: Page) -> None:
    await page(dict, headers=[(b"cookie", b"session=not a valid id")])
    assert page.seen == {}
    assert (
        "set-cookie"
        in (await page(write, headers=[(b"cookie", b"session=not a valid id")])).headers
    )


async def test_an_injection_attempt_never_reaches_a_header(page: Page) -> None:
    response = await page(dict, headers=[(b"cookie", b"session=abc\\r\\nSet-Cookie: evil=1")])
    assert response.status_code == 200
    assert "evil" not in str(response.headers)


def test_a_skipped_request_costs_no_redis_call(sessions: SessionKit) -> None:
    """A request that loads nothing, with `refresh="load"`."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    _, commands = untouched(sessions, cookies, refresh="load")
    assert commands == []


async def test_logout_emits_a_clearing_cookie(login: Page) -> None:
    cookie = (await login(log_out)).headers["set-cookie"]
    assert cookie.startswith("session=deleted; Max-Age=0; ")


async def test_the_clearing_cookie_repeats_the_scoping_attributes(login: Page) -> None:
    cookie = (await login(log_out)).headers["set-cookie"]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")


async def test_the_session_is_gone_afterwards(login: Page) -> None:
    await login(log_out)
    await login(lambda session: session.user_id)
    assert login.seen is None


async def test_revoking_an_untouched_session_is_safe(page: Page) -> None:
    assert (await page(log_out)).status_code == 200


async def test_no_max_age_is_emitted(store: SessionStore) -> None:
    cookie = CookiePolicy(name="session", secure=False, max_age="session")
    assert "Max-Age" not in (await Page(store, cookie)(write)).headers["set-cookie"]


async def test_secure_and_domain_are_emitted_when_configured(store: SessionStore) -> None:
    page = Page(store, CookiePolicy(name="session", domain="example.com"))
    cookie = (await page(write)).headers["set-cookie"]
    assert "; Domain=example.com; Secure; HttpOnly;" in cookie


async def test_the_session_survives_an_explicit_rotation(login: Page) -> None:
    await login(renew)
    await login(lambda session: session.user_id)
    assert login.seen == "42"


async def test_an_anonymous_read_writes_nothing(page: Page, prefix: str, admin: Any) -> None:
    response = await page(lambda session: session.get("user_id"))
    assert "set-cookie" not in response.headers
    assert session_keys(admin, prefix) == []


async def test_a_crawler_hitting_it_a_hundred_times_leaves_no_keys(
    page: Page, prefix: str, admin: Any
) -> None:
    for _ in range(100):
        await page(dict)
    assert session_keys(admin, prefix) == []


async def test_a_real_sign_in_still_writes(page: Page) -> None:
    assert "set-cookie" in (await page(log_in_as_42)).headers


async def test_a_nested_mutation_still_persists(page: Page) -> None:
    """Without a setting."""
    await page(lambda session: session.update(prefs={"theme": "light"}))
    await page(lambda session: session["prefs"].update(theme="dark"))
    await page(dict)
    assert page.seen == {"prefs": {"theme": "dark"}}


# --- unit/test_session_regressions.py ---


async def past_the_deadline(page: Page, prefix: str, admin: Any) -> Any:
    """Write in a request during which the deadline passes."""
    await page(write)
    (key,) = session_keys(admin, prefix)

    def slow(session: Any) -> None:
        write(session)
        admin.hset(key, "@deadline", 1000)

    assert "set-cookie" not in (await page(slow)).headers
    return key


async def test_a_save_after_the_deadline_lapsed_does_not_restore_it(
    page: Page, prefix: str, admin: Any
) -> None:
    key = await past_the_deadline(page, prefix, admin)
    assert admin.exists(key) == 0


async def test_such_a_session_is_dead_on_the_next_load(page: Page, prefix: str, admin: Any) -> None:
    await past_the_deadline(page, prefix, admin)
    await page(dict)
    assert page.seen == {}


async def test_clearing_the_session_signs_the_user_out(login: Page) -> None:
    assert "Max-Age=0" in (await login(clear)).headers["set-cookie"]
    await login(lambda session: session.user_id)
    assert login.seen is None


async def test_clearing_removes_the_key_and_the_index_entry(
    login: Page, store: SessionStore, prefix: str, admin: Any
) -> None:
    await login(clear)
    await store.drain()
    assert session_keys(admin, prefix) == []


async def test_revoke_removes_the_index_entry(login: Page, store: SessionStore) -> None:
    await login(log_out)
    assert await store.users.count(42) == 0


async def test_the_clearing_cookie_goes_through_the_builder(store: SessionStore) -> None:
    """Each attribute of the policy is repeated."""
    page = Page(store, CookiePolicy(same_site="none", partitioned=True))
    await page(write)
    cookie = (await page(log_out)).headers["set-cookie"]
    assert "Max-Age=0" in cookie
    assert cookie.endswith("; Partitioned")


async def test_login_then_rotate_rotates_once(page: Page, store: SessionStore) -> None:
    async def login_and_renew(session: Any) -> None:
        await session.login(42)
        session.renew()

    response = await page(login_and_renew)
    assert len(response.headers.get_list("set-cookie")) == 1
    assert await store.users.count(42) == 1
    await page(lambda session: session.user_id)
    assert page.seen == "42"


async def test_created_is_not_restamped(page: Page) -> None:
    await page(write)
    await page(lambda session: session.created_at)
    created = page.seen
    await page(write)
    await page(lambda session: session.created_at)
    assert page.seen == created


async def test_the_seam_populates_a_listing(page: Page, store: SessionStore) -> None:
    await page(log_in_as_42, headers=[(b"user-agent", b"pytest")])
    (info,) = await store.users.list(42)
    assert info.user_agent == "pytest"


async def test_it_never_reaches_the_payload(page: Page) -> None:
    await page(log_in_as_42, headers=[(b"user-agent", b"pytest")])
    await page(dict)
    assert page.seen == {}


async def test_it_counts_keys_removed_not_index_entries(store: SessionStore, prefix: str) -> None:
    await log_in(store, 7)
    dead = await open_session(store, await log_in(store, 7)).load()
    await store.revoke(str(dead.handle))
    assert await store.users.revoke_all(7) == 1


async def test_an_uncountable_index_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await broken.users.count(42)


@pytest.mark.parametrize("name", ["sess\r\nX-Evil: 1", "", "a;b", "a b", "a=b"])
def test_a_dangerous_cookie_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        CookiePolicy(name=name, secure=False)


@pytest.mark.parametrize("path", ["/x\r\nEvil: 1", "no-leading-slash", "/a;b"])
def test_a_dangerous_cookie_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        CookiePolicy(name="session", path=path)


def test_a_dangerous_cookie_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="domain"):
        CookiePolicy(name="session", domain="ex.com\r\nEvil: 1")


def test_ordinary_values_are_accepted() -> None:
    CookiePolicy(name="my_session", path="/admin", domain="example.com")


def test_an_unchanged_principal_still_writes_on_a_4xx(sessions: SessionKit) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)

    @app.post("/", status_code=401)
    async def count_failure(session: SessionDep) -> int:
        write(session)
        return int(session["n"])

    with TestClient(app) as client:
        assert [client.post("/").json() for _ in range(2)] == [1, 2]


_ROLES = ["user_id", "role"]


def test_a_privilege_change_rotates(sessions: SessionKit) -> None:
    assert rotated(sessions, {"role": "user"}, {"role": "admin"}, renew_on=_ROLES)


def test_a_de_escalation_rotates_too(sessions: SessionKit) -> None:
    assert rotated(sessions, {"role": "admin"}, {"role": "user"}, renew_on=_ROLES)


def test_an_unchanged_role_does_not_rotate(sessions: SessionKit) -> None:
    assert not rotated(sessions, {"role": "user"}, {"role": "user"}, renew_on=_ROLES)


async def use(store: SessionStore, admin: Any, prefix: str, act: Any, **options: Any) -> int:
    """The TTL after a request of a session that had 5 seconds left."""
    page = Page(store, **options)
    await page(lambda session: session.increment("n"))
    (key,) = session_keys(admin, prefix)
    admin.expire(key, 5)
    await page(act)
    await store.drain()
    return int(admin.ttl(key))


async def test_the_middleware_advances_the_idle_clock(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    options = {"autoload": False, "refresh": "load"}
    assert await use(store, admin, prefix, lambda session: session.load(), **options) > 5


async def test_an_untouched_request_does_not_advance_it(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """With `refresh="load"`."""
    options = {"autoload": False, "refresh": "load"}
    assert await use(store, admin, prefix, lambda session: None, **options) <= 5
