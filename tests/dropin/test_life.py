"""An app of Starlette's own sessions: how its sessions begin and end."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from asgi_redis_session import Lifetime, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.servers import wait_for
from ..support.sessions import PLAIN
from .conftest import ROUTES, UNKNOWN, browser, set_cookies

pytestmark = pytest.mark.on_cluster


def test_a_session_is_empty_at_first(client: TestClient) -> None:
    """A first request finds an empty session, and reading it sets no cookie."""
    response = client.get("/view")
    assert response.json() == {"session": {}}
    assert set_cookies(response) == []


def test_an_update_is_seen_at_once_and_later(client: TestClient) -> None:
    """What a request writes is in its own session, and in that of the next."""
    response = client.post("/update", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    assert client.get("/view").json() == {"session": {"some": "data"}}


def test_the_cookie_lives_as_long_as_the_session(client: TestClient) -> None:
    """Max-Age is the time until the session's deadline: a week by default."""
    (written,) = set_cookies(client.post("/update", json={"some": "data"}))
    assert re.fullmatch(
        r"session=[A-Za-z0-9_-]{43}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax", written
    )


def test_clear_ends_the_session_and_removes_the_cookie(
    client: TestClient, sessions: SessionKit
) -> None:
    """After `clear()`, the browser has no cookie, Redis no key, and later requests are empty."""
    client.post("/update", json={"some": "data"})
    stolen = client.cookies["session"]
    response = client.post("/clear")
    assert response.json() == {"session": {}}
    assert set_cookies(response) == [PLAIN.render_deletion().decode()]
    assert "session" not in client.cookies
    assert sessions.keys() == []
    assert client.get("/view").json() == {"session": {}}
    client.cookies.set("session", stolen)
    assert client.get("/view").json() == {"session": {}}


def test_clearing_an_empty_session_sets_no_cookie(client: TestClient) -> None:
    """There is nothing to end and nothing to forget."""
    assert set_cookies(client.post("/clear")) == []
    client.cookies.set("session", UNKNOWN)
    assert set_cookies(client.post("/clear")) == []


def test_reading_sets_no_cookie(client: TestClient) -> None:
    """Only a new session needs a cookie; Starlette's would send one with each change."""
    client.post("/update", json={"some": "data"})
    assert set_cookies(client.get("/view")) == []
    assert set_cookies(client.post("/update", json={"more": "data"})) == []
    assert client.get("/view").json() == {"session": {"some": "data", "more": "data"}}


@pytest.mark.parametrize("value", ["invalid", "", UNKNOWN, "null", "e30=.x.y", '"quoted"'])
def test_an_invalid_cookie_is_an_empty_session(client: TestClient, value: str) -> None:
    """A bogus, empty, unknown or foreign cookie is no error; a write starts a new session."""
    for _ in range(2):
        response = client.get("/view", headers={"cookie": f"session={value}"})
        assert response.status_code == 200
        assert response.json() == {"session": {}}
        assert set_cookies(response) == []
    response = client.post("/update", json={"a": 1}, headers={"cookie": f"session={value}"})
    assert response.cookies["session"] != value


def test_a_cookie_of_starlettes_middleware_is_an_empty_session(client: TestClient) -> None:
    """While a site changes over, old signed cookies are harmless."""
    old = "eyJzb21lIjogImRhdGEifQ==.aPh0Xg.0Jb3bJx6c5UuJ0K6HqY1Z0w9b3A"
    assert client.get("/view", headers={"cookie": f"session={old}"}).json() == {"session": {}}


def test_an_expired_session_is_empty(sessions: SessionKit, session_redis_url: str) -> None:
    """A session past its deadline is gone, although the browser still sends its cookie."""
    store = SessionStore.from_url(
        session_redis_url, prefix=sessions.prefix, lifetime=Lifetime(idle=0.001, absolute=0.001)
    )
    with browser(Starlette(routes=ROUTES), store) as client:
        response = client.post("/update", json={"some": "data"})
        value = set_cookies(response)[0].partition("session=")[2].partition(";")[0]
        assert "Max-Age=0;" in set_cookies(response)[0]
        headers = {"cookie": f"session={value}"}
        # Valkey 9 looks at the clock ten times a second.
        wait_for(lambda: client.get("/view", headers=headers).json() == {"session": {}})
