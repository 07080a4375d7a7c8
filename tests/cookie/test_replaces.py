"""A cookie whose name, domain or path has changed locks nobody out."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asgi_redis_session import CookiePolicy, SessionEvent, SessionStore

from ..support.page import Page
from ..support.sessions import PLAIN, is_live

HOUR = timedelta(hours=1)
SOON = datetime.now(UTC) + 24 * HOUR


def plain(**options: Any) -> CookiePolicy:
    return CookiePolicy(**{"name": "session", "secure": False, **options})


async def make(store: SessionStore, cookie: CookiePolicy = PLAIN, **fields: Any) -> str:
    """A session with these fields; returns the id that a browser was given."""
    page = Page(store, cookie)
    response = await page(lambda session: session.update(fields))
    (header,) = response.headers.get_list("set-cookie")
    return header.partition("=")[2].partition(";")[0]


def sent(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", "; ".join(f"{name}={value}" for name, value in pairs).encode())]


CHANGED = {
    "a domain": plain(domain="example.com", replaces=[PLAIN]),
    "another path": plain(path="/app", replaces=[PLAIN]),
    "no domain any more": plain(replaces=[plain(domain="example.com")]),
    "twice": plain(domain="example.com", replaces=[PLAIN, plain(domain="app.example.com")]),
}


@pytest.mark.parametrize("cookie", CHANGED.values(), ids=CHANGED.keys())
async def test_both_cookies_at_once_lock_nobody_out(
    store: SessionStore, cookie: CookiePolicy
) -> None:
    """The request is anonymous, and its response expires the old cookie."""
    old, new = await make(store, n=1), await make(store, n=2)
    page = Page(store, cookie)
    response = await page(dict, sent(("session", old), ("session", new)))
    assert page.seen == {}
    expired = response.headers.get_list("set-cookie")
    assert expired == [each.render_deletion().decode() for each in cookie.replaces]
    assert response.headers["cache-control"] == "no-store"
    await page(dict, sent(("session", new)))
    assert page.seen == {"n": 2}


@pytest.mark.parametrize("cookie", CHANGED.values(), ids=CHANGED.keys())
async def test_each_response_that_sets_the_cookie_expires_the_old_one(
    store: SessionStore, cookie: CookiePolicy
) -> None:
    """A login with the old cookie in the jar leaves one cookie behind; ours is the last header."""
    old = await make(store, n=1)
    page = Page(store, cookie)
    for act in (lambda session: session.login(7), lambda session: session.logout()):
        response = await page(act, sent(("session", old)))
        *expired, ours = response.headers.get_list("set-cookie")
        assert expired == [each.render_deletion().decode() for each in cookie.replaces]
        old = ours.partition("=")[2].partition(";")[0]
    assert ours == cookie.render_deletion().decode()
    assert "set-cookie" not in (await page(dict, sent(("session", "x" * 43)))).headers


async def test_an_old_name_is_read_until_its_date(store: SessionStore) -> None:
    """The browser gets the same id under the new name, and forgets the old one."""
    session_id = await make(store, n=1)
    page = Page(store, plain(name="sid", replaces=[PLAIN], replaces_until=SOON))
    response = await page(dict, sent(("session", session_id)))
    assert page.seen == {"n": 1}
    expired, ours = response.headers.get_list("set-cookie")
    assert expired == PLAIN.render_deletion().decode()
    assert re.match(rf"sid={session_id}; Max-Age=\d+; Path=/", ours)
    response = await page(dict, sent(("sid", session_id)))
    assert page.seen == {"n": 1}
    assert "set-cookie" not in response.headers


async def test_after_its_date_the_old_name_is_not_read(store: SessionStore) -> None:
    """It is still expired where the new one is set."""
    session_id = await make(store, n=1)
    over = datetime.now(UTC) - HOUR
    page = Page(store, plain(name="sid", replaces=[PLAIN], replaces_until=over))
    await page(dict, sent(("session", session_id)))
    assert page.seen == {}
    response = await page(lambda session: session.update(a=1), sent(("session", session_id)))
    assert len(response.headers.get_list("set-cookie")) == 2


async def test_the_new_name_comes_first(store: SessionStore, events: list[SessionEvent]) -> None:
    """With both, the new one counts; two different old ones are a conflict as ever."""
    first, second, third = [await make(store, n=n) for n in (1, 2, 3)]
    events.clear()
    page = Page(store, plain(name="sid", replaces=[PLAIN], replaces_until=SOON))
    response = await page(dict, sent(("session", first), ("sid", second)))
    assert page.seen == {"n": 2}
    assert "set-cookie" not in response.headers
    await page(dict, sent(("session", first), ("session", third)))
    assert page.seen == {}
    assert events == [SessionEvent("conflict")]


async def test_an_old_name_without_a_session(store: SessionStore) -> None:
    """An id that Redis does not know is not moved to the new name."""
    page = Page(store, plain(name="sid", replaces=[PLAIN], replaces_until=SOON))
    response = await page(dict, sent(("session", "x" * 43)))
    assert "set-cookie" not in response.headers
    response = await page(lambda session: session.update(a=1), sent(("session", "x" * 43)))
    assert not response.headers["set-cookie"].endswith("x" * 43)


async def test_store_open_has_all_headers(store: SessionStore) -> None:
    """`set_cookies` has what expires the old cookies, `set_cookie` is ours alone."""
    old, new = await make(store, n=1), await make(store, n=2)
    cookie = CHANGED["a domain"]
    async with store.open(f"session={old}; session={new}", cookie=cookie) as opened:
        assert opened.session.is_new
    assert opened.set_cookie is None
    assert opened.set_cookies == [PLAIN.render_deletion().decode()]
    async with store.open(f"session={new}", cookie=cookie) as opened:
        opened.session.renew()
    assert opened.set_cookies == [PLAIN.render_deletion().decode(), opened.set_cookie]


async def test_a_logout_with_two_cookies_ends_both(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """Nobody knows which one is the browser's own, and whoever logs out wants none of them."""
    first, second = await make(store, n=1), await make(store, n=2)
    events.clear()
    page = Page(store)
    response = await page(
        lambda session: session.logout(), sent(("session", first), ("session", second))
    )
    assert response.headers.get_list("set-cookie") == [PLAIN.render_deletion().decode()]
    assert not await is_live(store, first)
    assert not await is_live(store, second)
    assert [event.reason for event in events if event.name == "ended"] == ["logout", "logout"]


async def test_a_conflict_is_logged_once(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With the cure, and without an id; each one is an event."""
    first, second = await make(store, n=1), await make(store, n=2)
    page = Page(store)
    for _ in range(3):
        await page(dict, sent(("session", first), ("session", second)))
    (record,) = [one for one in caplog.records if one.name == "asgi_redis_session"]
    assert "CookiePolicy(replaces=[...])" in record.getMessage()
    assert first not in record.getMessage()


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"replaces": ["session"]}, "give the CookiePolicy of before"),
    ({"replaces": [PLAIN]}, "names the same cookie"),
    ({"domain": "Example.com", "replaces": [plain(domain=".example.com")]}, "the same cookie"),
    ({"name": "sid", "replaces": [PLAIN]}, "give both"),
    ({"domain": "example.com", "replaces": [PLAIN], "replaces_until": SOON}, "give both"),
    ({"replaces_until": SOON}, "give both"),
    ({"name": "sid", "replaces": [PLAIN], "replaces_until": "2027-01-01"}, "aware datetime"),
    (
        {"name": "sid", "replaces": [PLAIN], "replaces_until": datetime(2027, 1, 1)},  # noqa: DTZ001
        "aware datetime",
    ),
]


@pytest.mark.parametrize(("options", "said"), NONSENSE, ids=[said for _, said in NONSENSE])
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    """Each combination with a sentence that names the cure."""
    with pytest.raises(ValueError, match=re.escape(said)):
        plain(**options)
