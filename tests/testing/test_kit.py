"""The fixtures that users get."""

import asyncio
from typing import Any

import pytest
import redis
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import CookiePolicy, Lifetime, SessionMiddleware, Tag
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of

pytestmark = pytest.mark.on_cluster


@pytest.fixture
def session_options() -> dict[str, Any]:
    """An override, as a user's conftest would have it."""
    return {"lifetime": Lifetime(idle=60), "secret": "x" * 32}


async def add(request: Request) -> Response:
    session = await load_session(request)
    session.setdefault("cart", []).append(request.path_params["sku"])
    return JSONResponse(dict(session))


@pytest.fixture
def client(sessions: SessionKit) -> TestClient:
    app = SessionMiddleware(Starlette(routes=[Route("/{sku}", add)]), store=sessions.store)
    return TestClient(app, base_url="https://app")


def test_a_session_can_be_given_and_read_back(sessions: SessionKit, client: TestClient) -> None:
    """Ready-made cookies, and a look at what was stored, with the options of the fixture."""
    cookies = sessions.cookies({"cart": ["tea"]})
    assert list(cookies) == ["__Host-session"]
    client.cookies.update(cookies)
    with client:
        assert client.get("/milk").json() == {"cart": ["tea", "milk"]}
    assert sessions.read(cookies) == {"cart": ["tea", "milk"]}
    assert len(sessions.keys()) == 1


def test_a_client_can_be_logged_in(sessions: SessionKit) -> None:
    """The session is the user's, and listed as theirs."""

    async def who(request: Request) -> Response:
        return JSONResponse((await load_session(request)).user_id)

    app = SessionMiddleware(Starlette(routes=[Route("/", who)]), store=sessions.store)
    cookies = sessions.cookies({"theme": "dark"}, user=7)
    with TestClient(app, base_url="https://app", cookies=cookies) as client:
        assert client.get("/").json() == "7"
    assert sessions.read(cookies) == {"theme": "dark"}
    assert sessions.read(sessions.cookies(user="ann")) == {}


def test_commands_are_counted(sessions: SessionKit, client: TestClient) -> None:
    """Only those of this test's keys, as many as clients sent."""
    client.cookies.update(sessions.cookies({"cart": []}))
    with client:
        client.get("/warm-up")
        with sessions.count() as commands:
            client.get("/milk")
            SessionKit.keys(sessions)  # a SCAN names no key of the test, but its pattern does
    assert commands.names[:2] == ["HGETALL", "EVALSHA"]
    assert len(commands) == len(commands.lines)


def test_options_reach_the_store(sessions: SessionKit) -> None:
    """Lifetime and secret of the override are those of the app's store."""
    assert sessions.store.lifetime.idle_ms == 60_000
    cookies = sessions.cookies({"n": 1})
    info = sessions.info(handle_of(sessions.store, cookies["__Host-session"]))
    assert info is not None
    assert (info.expires_at - info.created_at).total_seconds() == pytest.approx(60, abs=1)


def test_unknown_cookies_read_as_empty(sessions: SessionKit) -> None:
    """No cookie, another policy's cookie, an ended session: an empty dict."""
    assert sessions.read({}) == {}
    cookies = sessions.cookies({"n": 1})
    assert sessions.read(cookies, cookie=CookiePolicy(name="other")) == {}
    assert sessions.revoke(handle_of(sessions.store, cookies["__Host-session"]))
    assert sessions.read(cookies) == {}


def test_an_empty_session_cannot_be_made(sessions: SessionKit) -> None:
    """A session exists once something is in it, here as in an app."""
    with pytest.raises(ValueError, match="a user or at least one field"):
        sessions.cookies({})


async def test_the_kit_works_inside_async_tests(sessions: SessionKit) -> None:
    """Its methods run in a loop of their own."""
    await asyncio.sleep(0)
    cookies = sessions.cookies({"n": 1})
    assert sessions.read(cookies) == {"n": 1}


@pytest.mark.needs_search
@pytest.mark.one_node
def test_an_index_goes_with_its_test(session_redis_url: str) -> None:
    """The index of a kit's store is dropped with its keys; one that was never made is no matter."""
    with start_blocking_portal() as portal:
        for makes in (True, False):
            kit = SessionKit(session_redis_url, portal, index=[Tag("n")])
            kit.cookies({"n": 1})
            if makes:
                portal.call(kit.store.search.create_index)
                assert portal.call(kit.store.search.count, Tag("n") == 1) == 1
            kit.close()
            with redis.Redis.from_url(session_redis_url) as client:
                listed = client.execute_command("FT._LIST")
            assert not [name for name in listed if kit.prefix.encode() in name]


def test_a_count_is_the_same_on_a_server_that_knows_no_script(
    sessions: SessionKit, admin: redis.Redis
) -> None:
    """A script that the server does not know is sent twice; that is no command of the app."""
    session = sessions.session(sessions.cookies({"n": 1})["__Host-session"])
    admin.script_flush()
    with sessions.count() as commands:
        asyncio.run(session.load())
    assert commands.scripts == ["load"]
    assert len(commands) == 1
