"""The tests of starsessions 2.3, by their names."""

import re
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from asgi_redis_session import (
    CookiePolicy,
    Lifetime,
    SessionMiddleware,
    SessionNotLoaded,
    SessionStore,
)
from asgi_redis_session.testing import SessionKit

from ..dropin.swapped import browsing
from ..support.keyspace import session_keys
from ..support.page import Page
from ..support.sessions import PLAIN, create

pytestmark = pytest.mark.anywhere


def plain(**options: Any) -> CookiePolicy:
    return CookiePolicy(name="session", secure=False, **options)


def write(session: Any) -> None:
    session["key"] = "value"


def clear(session: Any) -> None:
    session.clear()


async def set_cookie(store: SessionStore, **options: Any) -> str:
    """What the browser is told when a session is created."""
    response = await Page(store, plain(**options))(write)
    return str(response.headers["set-cookie"])


# --- backends/test_redis.py ---


async def test_redis_prefix(store: SessionStore, prefix: str, admin: Any) -> None:
    """As text; a function as prefix is not accepted."""
    await create(store, n=1)
    (key,) = admin.scan_iter(f"{prefix}:*")
    assert key.startswith(f"{prefix}:".encode())


async def test_redis_read_write(page: Page) -> None:
    await page(write)
    await page(dict)
    assert page.seen == {"key": "value"}


async def test_redis_write_with_session_only_setup(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """A cookie that ends with the browser has a key that ends, too."""
    assert "Max-Age" not in await set_cookie(store, max_age="session")
    (key,) = session_keys(admin, prefix)
    assert admin.ttl(key) > 0


async def test_redis_remove(page: Page, prefix: str, admin: Any) -> None:
    await page(write)
    await page(clear)
    assert session_keys(admin, prefix) == []


async def test_redis_empty_session(page: Page) -> None:
    page.client.cookies.set("session", "A" * 43)
    await page(dict)
    assert page.seen == {}


def test_redis_requires_url_or_connection() -> None:
    store: Any = None
    with pytest.raises(TypeError, match="a SessionStore or a Redis URL"):
        SessionMiddleware(PlainTextResponse(), store=store)


async def test_redis_uses_url(session_redis_url: str, prefix: str) -> None:
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
        assert await store.get((await create_handle(store)) or "") is not None


async def create_handle(store: SessionStore) -> str | None:
    async with store.open("", cookie=PLAIN) as opened:
        write(opened.session)
    return opened.session.handle


# --- test_autoloading.py ---


async def test_always_loads_session(store: SessionStore) -> None:
    page = Page(store, autoload=True)
    await page(write)
    await page(dict)
    assert page.seen == {"key": "value"}


async def loads_for_some_paths(store: SessionStore, autoload: Any) -> None:
    await (page := Page(store))(write)
    some = Page(store, autoload=autoload)
    some.client.cookies = page.client.cookies
    for url in ("/app", "/admin", "/app/1/users", "/admin/settings"):
        await some(dict, url=url)
        assert some.seen == {"key": "value"}

    def refuses(session: Any) -> None:
        with pytest.raises(SessionNotLoaded):
            dict(session)

    assert (await some(refuses, url="/")).status_code == 200


async def test_loads_for_string_paths(store: SessionStore) -> None:
    """`SessionAutoloadMiddleware(paths=…)` is a function of the scope."""
    paths = ("/admin", "/app")
    await loads_for_some_paths(store, lambda scope: scope["path"].startswith(paths))


async def test_loads_for_regex_paths(store: SessionStore) -> None:
    await loads_for_some_paths(store, lambda scope: bool(re.match("/app|/admin", scope["path"])))


# --- test_expiring_session.py, test_rolling_session.py ---


async def test_expiring_session_must_not_extend_duration(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """`rolling=False` is a deadline, which no request moves."""
    lifetime = Lifetime(idle=10, absolute=10)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, lifetime=lifetime) as store:
        page = Page(store)
        await page(write)
        (key,) = session_keys(admin, prefix)
        deadline = admin.hget(key, "@deadline")
        admin.pexpire(key, 5000)
        response = await page(dict)
        assert "set-cookie" not in response.headers
        assert admin.hget(key, "@deadline") == deadline
        assert admin.pttl(key) <= 10_000


def test_rolling_session_must_extend_duration(sessions: SessionKit, admin: Any) -> None:
    """`rolling=True` is the drop-in's `max_age`."""
    with browsing(sessions.store, max_age=10) as browser:
        browser(write)
        (key,) = sessions.keys()
        admin.hincrby(key, "@created", -6000)
        admin.pexpire(key, 5000)
        assert "Max-Age=10;" in browser.respond(dict).headers["set-cookie"]
        assert admin.pttl(key) > 5000


# --- test_metadata.py ---


async def test_requires_loaded_session(store: SessionStore) -> None:
    def refuses(session: Any) -> None:
        with pytest.raises(SessionNotLoaded):
            _ = session.created_at

    assert (await Page(store, autoload=False)(refuses)).status_code == 200


async def test_load_should_create_new_metadata(page: Page) -> None:
    """With the first write, not with a load: reading makes no session."""
    await page(lambda session: (session.created_at, session.expires_at))
    assert page.seen == (None, None)
    await page(write)
    await page(lambda session: session.expires_at - session.created_at)
    assert page.seen > timedelta(minutes=29)


async def test_load_should_not_overwrite_created_timestamp(
    page: Page, prefix: str, admin: Any
) -> None:
    await page(write)
    (key,) = session_keys(admin, prefix)
    admin.hset(key, "@created", 42_000)
    await page(write)
    await page(lambda session: session.created_at.timestamp())
    assert page.seen == 42


async def test_should_update_last_access_time_on_load(
    page: Page, store: SessionStore, prefix: str, admin: Any
) -> None:
    await page(write)
    (key,) = session_keys(admin, prefix)
    handle = key.decode().rpartition(":")[2]
    admin.hset(key, "@created", 42_000)
    admin.pexpire(key, 60_000)  # as if its last use had been half an hour ago
    before = await store.get(handle)
    await page(dict)
    after = await store.get(handle)
    assert before is not None
    assert after is not None
    assert after.last_seen - before.last_seen > timedelta(minutes=28)


# --- test_middleware.py ---


async def test_loads_empty_session(page: Page) -> None:
    await page(dict)
    assert page.seen == {}


async def test_handles_not_existing_session(page: Page) -> None:
    page.client.cookies.set("session", "session_id")
    await page(dict)
    assert page.seen == {}


async def test_loads_existing_session(page: Page, store: SessionStore) -> None:
    page.client.cookies.set("session", await create(store, key="value"))
    await page(dict)
    assert page.seen == {"key": "value"}


async def test_send_cookie_if_session_created(store: SessionStore) -> None:
    assert (await set_cookie(store)).startswith("session=")


def test_send_cookie_if_session_updated(sessions: SessionKit, admin: Any) -> None:
    """In the drop-in, if it is older than a hundredth of its Max-Age."""
    with browsing(sessions.store) as browser:
        browser(lambda session: session.update(key2="value2"))
        (key,) = sessions.keys()
        admin.hincrby(key, "@created", -14 * 24 * 36_000)
        assert "session=" in browser.respond(write).headers["set-cookie"]


async def test_send_cookie_if_session_destroyed(page: Page) -> None:
    await page(write)
    response = await page(clear)
    assert response.headers["set-cookie"].startswith("session=deleted; ")
    assert "Max-Age=0" in response.headers["set-cookie"]


async def test_send_cookie_with_domain_if_session_destroyed_and_domain_set(
    store: SessionStore,
) -> None:
    page = Page(store, plain(domain="example.com"))
    await page(write)
    response = await page(clear)
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert "Domain=example.com" in response.headers["set-cookie"]


async def test_will_clear_storage_if_session_destroyed(page: Page, prefix: str, admin: Any) -> None:
    await page(write)
    await page(clear)
    assert session_keys(admin, prefix) == []


async def test_will_not_send_cookie_if_initially_empty_session_destroyed(page: Page) -> None:
    page.client.cookies.set("session", "A" * 43)
    assert "set-cookie" not in (await page(clear)).headers


async def test_max_age_argument_set_in_cookie(session_redis_url: str, prefix: str) -> None:
    lifetime = Lifetime(idle=1, absolute=1)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, lifetime=lifetime) as store:
        assert re.search("Max-Age=[01];", await set_cookie(store))


async def test_same_site_argument_set_in_cookie(store: SessionStore) -> None:
    page = Page(store, CookiePolicy(same_site="none"))
    assert "SameSite=None" in (await page(write)).headers["set-cookie"]


async def test_path_argument_set_in_cookie(store: SessionStore) -> None:
    page = Page(store, plain(path="/admin"))
    assert "Path=/admin" in (await page(write, url="/admin")).headers["set-cookie"]


async def test_domain_argument_set_in_cookie(store: SessionStore) -> None:
    assert "Domain=example.com" in await set_cookie(store, domain="example.com")


async def test_set_secure_cookie(store: SessionStore) -> None:
    response = await Page(store, CookiePolicy())(write)
    assert "; Secure;" in response.headers["set-cookie"]


def test_session_timedelta_lifetime() -> None:
    assert Lifetime(idle=timedelta(seconds=60)).idle_ms == 60_000


@pytest.mark.parametrize("name", ["bad name; inject=1", "bad\r\nname"])
def test_invalid_cookie_name_raises(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        CookiePolicy(name=name)


async def test_unsafe_session_id_is_ignored(page: Page) -> None:
    headers = [(b"cookie", b'session="abc\\r\\nSet-Cookie: evil=1"')]
    response = await page(dict, headers=headers)
    assert page.seen == {}
    assert "set-cookie" not in response.headers


async def test_store_error_propagates() -> None:
    """As a 503: the middleware answers, and nobody is taken for anonymous."""
    async with SessionStore.from_url("redis://127.0.0.1:1/0") as store:
        page = Page(store)
        page.client.cookies.set("session", "A" * 43)
        assert (await page(dict)).status_code == 503


# --- test_session.py ---


async def test_generate_session_id(store: SessionStore) -> None:
    """256 random bits in 43 characters, where theirs has 128 in 32."""
    assert re.match(r"session=[\w-]{43};", await set_cookie(store))


async def test_regenerate_session_id(page: Page) -> None:
    await page(write)
    before = page.client.cookies["session"]
    await page(lambda session: session.renew())
    assert page.client.cookies["session"] != before
    await page(dict)
    assert page.seen == {"key": "value"}


async def test_load_session(store: SessionStore) -> None:
    await (page := Page(store, autoload=False))(lambda session: session.increment("n"))

    async def load(session: Any) -> tuple[bool, bool, dict[str, Any]]:
        return session.loaded, (await session.load()).loaded, dict(session)

    await page(load)
    assert page.seen == (False, True, {"n": 1})


async def test_regenerate_id_removes_old_session_on_save(page: Page, store: SessionStore) -> None:
    await page(write)
    old = page.client.cookies["session"]
    await page(lambda session: session.renew())
    thief = Page(store)
    thief.client.cookies.set("session", old)
    await thief(dict)
    assert thief.seen == {}


async def test_destroy_without_session_id(page: Page) -> None:
    response = await page(lambda session: session.logout())
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
