"""A request that runs beside a login gives the browser no id that the login has replaced."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, Durability, SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN
from .swapped import browsing, signed_cookie
from .test_imports import hashes

pytestmark = pytest.mark.on_cluster


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    return sessions.store


@pytest.fixture
def signed() -> dict[str, str]:
    return {"session": signed_cookie({"user": "ada"})}


def log_in(session: Any) -> None:
    session["user"] = "eve"


def read(session: Any) -> Any:
    return dict(session)


def write(session: Any) -> Any:
    session["flash"] = "hello"
    return dict(session)


def around(act: Callable[[Any], Any], beside: Callable[[], None]) -> Callable[[Any], Any]:
    """An endpoint that takes long: something else happens before it answers."""

    def slow(session: Any) -> Any:
        seen = act(session)
        beside()
        return seen

    return slow


@pytest.mark.parametrize("act", [read, write])
def test_after_a_login_the_signed_cookie_begins_nothing(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str], act: Any
) -> None:
    """A request that was sent before the login's answer, and comes after it, gets no cookie."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(log_in)
        browser_ids = dict(browser.client.cookies)
    with browsing(store, signed, import_cookies=True) as late:
        response = late.respond(act)
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
    assert len(hashes(sessions)) == 1
    with browsing(store, browser_ids, import_cookies=True) as browser:
        assert browser(dict) == {"user": "eve"}


@pytest.mark.parametrize("act", [read, write])
def test_an_import_beside_a_login_gives_no_dead_id(
    store: SessionStore, sessions: SessionKit, signed: dict[str, str], act: Any
) -> None:
    """Both have brought the signed cookie; the login is answered first."""

    def login_elsewhere() -> None:
        with browsing(store, signed, import_cookies=True) as other:
            other(log_in)

    with browsing(store, signed, import_cookies=True) as browser:
        response = browser.respond(around(act, login_elsewhere))
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
    assert len(hashes(sessions)) == 1


@pytest.mark.parametrize("act", [read, write])
def test_the_former_name_beside_a_login_gives_no_dead_id(
    store: SessionStore, signed: dict[str, str], act: Any
) -> None:
    """When the import is over, the cookie gets its name back, but not with an id that is dead."""
    with browsing(store, signed, import_cookies=True) as browser:
        browser(read)
        cookies = {"session_id": browser.client.cookies["session_id"]}

    def login_elsewhere() -> None:
        with browsing(store, cookies) as other:
            other(log_in)

    with browsing(store, cookies) as browser:
        response = browser.respond(around(act, login_elsewhere))
        assert response.status_code == 200
        assert "set-cookie" not in response.headers


def test_an_old_cookie_beside_a_login_is_not_sent_again(
    store: SessionStore, admin: Any, sessions: SessionKit
) -> None:
    """What is half as old as it may get is renewed, unless the session was replaced."""
    with browsing(store, max_age=1000) as browser:
        browser(write)
        cookies = dict(browser.client.cookies)
        (key,) = hashes(sessions)
        admin.hincrby(key, "@created", -600_000)
        assert "set-cookie" in browser.respond(read).headers

    def login_elsewhere() -> None:
        with browsing(store, cookies, max_age=1000) as other:
            other(log_in)

    with browsing(store, cookies, max_age=1000) as browser:
        assert "set-cookie" not in browser.respond(around(read, login_elsewhere)).headers


def test_an_id_that_can_not_be_looked_up_is_not_sent_again() -> None:
    """If Redis goes away meanwhile, the app's answer is sent without it; the next one makes up."""
    with DevServer(search=False) as server:
        store = SessionStore.from_url(server.url)
        with browsing(store, {"session": signed_cookie({"a": 1})}, import_cookies=True) as browser:
            response = browser.respond(around(read, lambda: os.kill(server.pid, signal.SIGKILL)))
            assert response.status_code == 200
            assert "set-cookie" not in response.headers
            assert browser.client.cookies["session"]


def test_a_replaced_name_beside_a_renewal_gives_no_dead_id(sessions: SessionKit) -> None:
    """The same for a cookie whose name was changed by `CookiePolicy(replaces=…)`."""
    later = datetime.now(UTC) + timedelta(days=1)
    policy = CookiePolicy(name="new", secure=False, replaces=[PLAIN], replaces_until=later)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)

    async def renew(request: Request) -> Response:
        (await request.session.load()).renew()  # type: ignore[attr-defined]
        return PlainTextResponse("renewed")

    async def page(request: Request) -> Response:
        await request.session.load()  # type: ignore[attr-defined]
        if "slow" in request.query_params:
            with TestClient(app, cookies=cookies) as other:
                assert "set-cookie" in other.get("/renew").headers
        return PlainTextResponse("read")

    routes = [Route("/", page), Route("/renew", renew)]
    app = SessionMiddleware(Starlette(routes=routes), store=sessions.store, cookie=policy)
    with TestClient(app, cookies=cookies) as client:
        assert "set-cookie" in client.get("/").headers
    with TestClient(app, cookies=cookies) as client:
        assert "set-cookie" not in client.get("/?slow").headers


async def test_a_replaced_name_outside_of_a_request(sessions: SessionKit) -> None:
    """`store.open` has a header for the new name, unless the session was replaced in its block."""
    later = datetime.now(UTC) + timedelta(days=1)
    policy = CookiePolicy(name="new", secure=False, replaces=[PLAIN], replaces_until=later)
    store = sessions.store
    header = "; ".join(f"{k}={v}" for k, v in sessions.cookies({"n": 1}, cookie=PLAIN).items())
    async with store.open(header, cookie=policy) as opened:
        pass
    assert opened.set_cookie is not None
    assert opened.set_cookie.startswith("new=")
    async with store.open(header, cookie=policy) as opened:
        async with store.open(header, cookie=policy) as other:
            other.session.renew()
    assert opened.set_cookie is None


def test_a_login_whose_session_has_ended_meanwhile_begins_another(
    store: SessionStore, sessions: SessionKit
) -> None:
    """It is not lost, and holds what the login has written: nothing of the session that ended."""
    with browsing(store) as browser:
        browser(write)
        before = dict(browser.client.cookies)
    (ended,) = hashes(sessions)

    def end() -> None:
        sessions.revoke(ended.rpartition(":")[2])

    held: list[Any] = []

    def log_in_and_hold(session: Any) -> None:
        held.append(session)
        log_in(session)

    commits = store.stats.commits
    with browsing(store, before) as browser:
        response = browser.respond(around(log_in_and_hold, end))
        assert response.status_code == 200
        assert dict(held[0]) == {"user": "eve"}  # a background task of the request sees it
        assert dict(browser.client.cookies) != before
        assert browser(dict) == {"user": "eve"}
    (begun,) = hashes(sessions)
    assert begun != ended
    assert store.stats.commits == commits + 1
    info = sessions.info(begun.rpartition(":")[2])
    assert info is not None
    assert info.fields == {"user": "eve"}
    assert info.expires_at - info.last_seen == timedelta(days=14)  # as max_age says


def test_a_login_that_begins_another_session_waits_for_its_replicas(
    store: SessionStore, sessions: SessionKit, session_redis_url: str
) -> None:
    """As every commit does: no server of the tests has so many, so the answer is a 503."""
    with browsing(store) as browser:
        browser(write)
        before = dict(browser.client.cookies)
    (ended,) = hashes(sessions)
    prefix, _, handle = ended.rpartition(":")
    strict = SessionStore.from_url(
        session_redis_url, prefix=prefix, durability=Durability(replicas=9, timeout=0.01)
    )

    def end() -> None:
        sessions.revoke(handle)

    with browsing(strict, before) as browser:
        response = browser.respond(around(log_in, end))
    assert response.status_code == 503
    (begun,) = hashes(sessions)
    assert begun != ended
