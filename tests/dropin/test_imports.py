"""Sessions of other middleware are taken over, once, and nobody is logged out by the move."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import itsdangerous
import pytest

from asgi_redis_session import SessionEvent, SessionStore
from asgi_redis_session.dropin import FastAPIRedisSDK, Starsessions
from asgi_redis_session.testing import SessionKit

from ..support.gate import gate_to
from .swapped import SECRET, browsing, browsing_before, signed_cookie

pytestmark = pytest.mark.on_cluster

ADA = {"user": "ada", "cart": ["tea"], "": 0, "@x": {"1": None}}


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    return sessions.store


@pytest.fixture
def signed() -> dict[str, str]:
    """The cookie of somebody who is logged in to the app as it was."""
    return {"session": signed_cookie(ADA)}


def sign(payload: bytes, secret: str = SECRET) -> str:
    return itsdangerous.TimestampSigner(secret).sign(base64.b64encode(payload)).decode()


def hashes(sessions: SessionKit) -> list[str]:
    """The sessions in Redis, without marks and the like."""
    found = sessions.keys()
    return [key for key in found if key.count(":") == 1]


def test_a_signed_cookie_becomes_a_session(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str], admin: Any
) -> None:
    """With the same fields, under a cookie of our own; the signed one stays for a way back."""
    with browsing(store, signed, import_cookies=True) as browser:
        response = browser.respond(dict)
        (cookie,) = response.headers.get_list("set-cookie")
        assert cookie.startswith("session_id=")
        assert browser(dict) == ADA
        assert browser.client.cookies["session"] == signed["session"]
        browser(lambda session: session["cart"].append("milk"))
        assert browser(dict) == ADA | {"cart": ["tea", "milk"]}
    assert len(hashes(sessions)) == 1
    assert min(map(admin.pttl, sessions.keys())) > 0


def test_an_import_is_a_session_that_was_created(
    session_redis_url: str, sessions: SessionKit, signed: dict[str, str], admin: Any
) -> None:
    """Each is reported and counted as one, and belongs to no user."""
    events: list[SessionEvent] = []
    store = SessionStore.from_url(session_redis_url, prefix=sessions.prefix, on_event=events.append)
    for cookie in (signed_cookie(ADA), signed_cookie({"n": 1})):
        with browsing(store, {"session": cookie}, import_cookies=True) as browser:
            browser(dict)
            browser(dict)
    handles = [key.rpartition(":")[2] for key in hashes(sessions)]
    assert {event.name for event in events} == {"created"}
    assert sorted(str(event.handle) for event in events) == sorted(handles)
    assert store.stats.commits == len(handles) == 2
    assert not any(admin.hexists(key, "@user") for key in hashes(sessions))


def test_the_way_back(store: SessionStore, signed: dict[str, str]) -> None:
    """The old version still reads the cookie that it has signed."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(lambda session: session.update(a=1))
        cookies = dict(browser.client.cookies)
    with browsing_before(cookies) as before:
        assert before(dict) == ADA


def test_parallel_requests_meet_in_one_session(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str]
) -> None:
    """Twenty requests that all bring the signed cookie get the same id."""
    barrier = threading.Barrier(20)

    def visit(number: int) -> str:
        with browsing(store, signed, import_cookies=True) as browser:
            barrier.wait(20)
            browser(lambda session: session.update({f"n{number}": number}))
            return str(browser.client.cookies["session_id"])

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(visit, range(20)))
    assert len(ids) == 1
    assert len(hashes(sessions)) == 1
    with browsing(store, {"session_id": ids.pop()}, import_cookies=True) as browser:
        assert browser(dict) == ADA | {f"n{number}": number for number in range(20)}


def test_ours_wins(store: SessionStore, signed: dict[str, str]) -> None:
    """What an old process writes after the import is not seen."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(dict)
        browser.client.cookies.set("session", signed_cookie({"user": "bob"}))
        assert browser(dict) == ADA


def end_by_clear(session: Any) -> None:
    session.clear()


def end_by_login(session: Any) -> None:
    session["user"] = "eve"


@pytest.mark.parametrize("end", [end_by_clear, end_by_login])
def test_a_replayed_cookie_brings_nothing_back(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str], end: Any
) -> None:
    """After a logout or a login, the signed cookie is expired, and imports nothing any more."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(dict)
        response = browser.respond(end)
        expired, ours = response.headers.get_list("set-cookie")
        assert expired.startswith("session=null; expires=Thu, 01 Jan 1970")
        assert ours.startswith("session_id=")
        assert "session" not in browser.client.cookies
    before = hashes(sessions)
    with browsing(store, signed, import_cookies=True) as attacker:
        assert "set-cookie" not in attacker.respond(dict).headers
        assert attacker(dict) == {}
    assert hashes(sessions) == before


def test_an_import_is_no_login(store: SessionStore, signed: dict[str, str]) -> None:
    """Fields that come with it don't give a new id: parallel requests have the first one."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(dict)
        first = browser.client.cookies["session_id"]
        browser(lambda session: session.update(n=1))
        assert browser.client.cookies["session_id"] == first


def test_a_logout_in_the_request_of_the_import(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str]
) -> None:
    """Both cookies are expired, and nothing is left but the mark."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(lambda session: session.clear())
        assert not browser.client.cookies
    assert hashes(sessions) == []


NO_SESSIONS: dict[str, str] = {
    "signed with another secret": sign(b'{"user":"eve"}', "another secret, as long as ours"),
    "without a signature": base64.b64encode(b'{"user":"eve"}').decode(),
    "no base64": itsdangerous.TimestampSigner(SECRET).sign(b"\xff\xff").decode("latin-1"),
    "no JSON": sign(b"user=eve"),
    "no dict": sign(b'["user"]'),
    "null": sign(b"null"),
    "nested too deeply": sign(b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"),
    "a lone surrogate": sign(b'{"a":"\\ud800"}'),
    "oversized": sign(json.dumps({"user": "x" * 9000}).encode()),
    "empty": "",
}


@pytest.mark.parametrize("value", NO_SESSIONS.values(), ids=NO_SESSIONS.keys())
def test_what_is_no_session_is_anonymous(
    store: SessionStore, sessions: SessionKit, value: str
) -> None:
    """Nothing is imported, nothing raised, and the visitor may begin a session as usual."""
    header = {"cookie": f"session={value}".encode("latin-1")}
    with browsing(store, import_cookies=True) as browser:
        response = browser.respond(dict, headers=header)
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
        assert hashes(sessions) == []
        assert (
            browser.respond(lambda session: session.update(a=1), headers=header).status_code == 200
        )
        assert browser(dict) == {"a": 1}


def test_an_expired_cookie_is_anonymous(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age is judged as Starlette judges it, by `max_age`."""
    monkeypatch.setattr(
        itsdangerous.TimestampSigner,
        "get_timestamp",
        lambda _: int(datetime.now(UTC).timestamp()) - 100,
    )
    cookie = {"session": sign(b'{"user":"ada"}')}
    monkeypatch.undo()
    with browsing(store, cookie, import_cookies=True, max_age=99) as browser:
        assert browser(dict) == {}
    with browsing(store, cookie, import_cookies=True, max_age=200) as browser:
        assert browser(dict) == {"user": "ada"}
    with browsing(store, {"session": signed_cookie(ADA)}, import_cookies=True, max_age=None) as b:
        assert b(dict) == ADA


def test_the_mark_lasts_as_long_as_the_cookie(
    store: SessionStore, sessions: SessionKit, admin: Any
) -> None:
    """So the cookie can't outlive what remembers it."""
    with browsing(
        store, {"session": signed_cookie(ADA)}, import_cookies=True, max_age=1000
    ) as browser:
        browser(dict)
    (mark,) = admin.scan_iter(f"{sessions.prefix}:imported:*")
    assert 1_000_000 <= admin.pttl(mark) <= 1_060_000
    assert admin.zrange(mark, 0, -1) == [b"imported"]


def test_only_cookies_of_before_the_move(store: SessionStore, signed: dict[str, str]) -> None:
    """With a datetime, what old processes sign later is not taken over."""
    now = datetime.now(UTC)
    with browsing(store, signed, import_cookies=now - timedelta(hours=1)) as browser:
        assert browser(dict) == {}
    with browsing(store, signed, import_cookies=now + timedelta(hours=1)) as browser:
        assert browser(dict) == ADA


def test_the_end_of_the_import_logs_nobody_out(store: SessionStore, signed: dict[str, str]) -> None:
    """Without `import_cookies`, the cookie gets its name back; the other name is still read."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(dict)
        cookies = dict(browser.client.cookies)
    with browsing(store, cookies) as browser:
        assert browser(dict) == ADA
        assert browser.client.cookies["session"] == cookies["session_id"]
        del browser.client.cookies["session_id"]
        assert browser(dict) == ADA


def test_a_changed_secret_of_the_store_imports_nothing_twice(
    sessions: SessionKit, session_redis_url: str, signed: dict[str, str]
) -> None:
    """The mark is looked for under each secret."""
    old, new = "the old secret of a store", "the new secret of a store"
    options: dict[str, Any] = {"prefix": sessions.prefix}
    with browsing(
        SessionStore.from_url(session_redis_url, secret=old, **options), signed, import_cookies=True
    ) as browser:
        browser(dict)
    rotated = SessionStore.from_url(session_redis_url, secret=[new, old], **options)
    with browsing(rotated, signed, import_cookies=True) as browser:
        assert browser(dict) == ADA
        browser(lambda session: session.clear())
    with browsing(rotated, signed, import_cookies=True) as browser:
        assert browser(dict) == {}


def test_a_store_with_two_secrets_imports_under_the_newest(
    sessions: SessionKit, session_redis_url: str, signed: dict[str, str], admin: Any
) -> None:
    """Looking under the older one leaves nothing there: one session, and one mark."""
    secrets = ["the new secret of a store", "the old secret of a store"]
    store = SessionStore.from_url(session_redis_url, secret=secrets, prefix=sessions.prefix)
    with browsing(store, signed, import_cookies=True) as browser:
        assert browser(dict) == ADA
        assert browser(dict) == ADA
    assert len(hashes(sessions)) == 1
    assert len(list(admin.scan_iter(f"{sessions.prefix}:imported:*"))) == 1


def test_an_outage_during_the_import(signed: dict[str, str], refused_url: str) -> None:
    """503, and the signed cookie is left alone: the import happens later."""
    store = SessionStore.from_url(refused_url)
    with browsing(store, signed, import_cookies=True) as browser:
        response = browser.respond(dict)
        assert response.status_code == 503
        assert "set-cookie" not in response.headers
    with browsing(store, signed, import_cookies=True, unavailable="anonymous") as browser:
        assert browser(dict) == {}
        assert browser.respond(lambda session: session.update(a=1)).status_code == 503


@pytest.fixture
def refused_url() -> str:
    """Where no server listens."""
    return "redis://localhost:1/0"


# --- From the same Redis ---


@pytest.fixture
def starsessions(admin: Any, sessions: SessionKit) -> Iterator[str]:
    """A session as starsessions 2 stores it; returns its cookie. Its prefix is the test's."""
    session_id = "0123456789abcdef" * 2
    stored = {**ADA, "__metadata__": {"lifetime": 3600, "created": 1.5, "last_access": 2.5}}
    admin.set(f"{sessions.prefix}.{session_id}", json.dumps(stored), ex=3600)
    yield session_id
    admin.delete(f"{sessions.prefix}.{session_id}")


@pytest.fixture
def sdk(admin: Any, sessions: SessionKit) -> str:
    """A session as fastapi-redis-sdk 0.9 stores it."""
    session_id = "A" * 43
    envelope = {"m": {"created": 1.5, "last_access": 2.5}, "d": ADA}
    admin.hset(f"{sessions.prefix}:sdk:{session_id}", "d", json.dumps(envelope))
    return session_id


def test_a_session_of_starsessions_is_taken_over(
    store: SessionStore, sessions: SessionKit, starsessions: str, admin: Any
) -> None:
    """Read once under its key, which is deleted; its metadata is no field."""
    source = Starsessions(prefix=f"{sessions.prefix}.")
    with browsing(store, {"session": starsessions}, import_from=source) as browser:
        assert browser(dict) == ADA
        store_id = browser.client.cookies["session_id"]
        assert browser(dict) == ADA
        assert not admin.exists(f"{sessions.prefix}.{starsessions}")
    with browsing(store, {"session": starsessions}, import_from=[source]) as again:
        assert again(dict) == ADA
        assert again.client.cookies["session_id"] == store_id
        again(lambda session: session.clear())
    with browsing(store, {"session": starsessions}, import_from=source) as replayed:
        assert replayed(dict) == {}
    assert hashes(sessions) == []


@pytest.mark.one_node
def test_a_connection_that_breaks_delays_the_import(
    session_redis_url: str, sessions: SessionKit, starsessions: str
) -> None:
    """Reading the other library's session may be repeated."""
    source = Starsessions(prefix=f"{sessions.prefix}.")
    with gate_to(session_redis_url) as gate:
        store = gate.store(prefix=sessions.prefix, timeout=20)
        with browsing(store, import_from=source) as browser:
            browser(lambda session: session.update(n=1))  # connects
            browser.client.cookies.clear()
            browser.client.cookies.set("session", starsessions)
            gate.cut("commands", 0)
            assert browser(dict) == ADA


def test_a_session_of_fastapi_redis_sdk_is_taken_over(
    store: SessionStore, sessions: SessionKit, sdk: str, admin: Any
) -> None:
    """From the field of its hash."""
    source = FastAPIRedisSDK(prefix=f"{sessions.prefix}:sdk:")
    with browsing(store, {"session": sdk}, import_from=source, import_cookies=True) as browser:
        assert browser(dict) == ADA
        assert not admin.exists(f"{sessions.prefix}:sdk:{sdk}")
        browser(lambda session: session.update(n=1))
        assert browser(dict) == ADA | {"n": 1}


def test_a_renewed_session_does_not_come_back_with_the_old_key(
    store: SessionStore, sessions: SessionKit, starsessions: str, admin: Any
) -> None:
    """Even if an old process writes the old key again."""
    key = f"{sessions.prefix}.{starsessions}"
    stored = admin.get(key)
    source = Starsessions(prefix=f"{sessions.prefix}.")
    with browsing(store, {"session": starsessions}, import_from=source) as browser:
        browser(lambda session: session.update(user="eve"))
    admin.set(key, stored, ex=3600)
    with browsing(store, {"session": starsessions}, import_from=source) as replayed:
        assert replayed(dict) == {}


NO_JSON: dict[str, Any] = {
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "encrypted": b"gAAAAABnaGVsbG8=",
    "a list": b"[1]",
    "a list in the envelope": b'{"d": [1]}',
    "empty": b"",
}


@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_json_is_left_alone(
    store: SessionStore, sessions: SessionKit, sdk: str, admin: Any, raw: bytes
) -> None:
    """Never unpickled, never deleted: the request is anonymous."""
    key = f"{sessions.prefix}:sdk:{sdk}"
    admin.hset(key, "d", raw)
    source = FastAPIRedisSDK(prefix=f"{sessions.prefix}:sdk:")
    with browsing(store, {"session": sdk}, import_from=source) as browser:
        assert browser(dict) == {}
    assert admin.hget(key, "d") == raw
    # A string where a hash should be, or nothing at all, is nothing to import either.
    other = Starsessions(prefix=f"{sessions.prefix}:sdk:")
    with browsing(store, {"session": sdk}, import_from=other) as browser:
        assert browser(dict) == {}
