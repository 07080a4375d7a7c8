"""What starsessions, fastapi-redis-sdk and Litestar themselves have stored is taken over."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
import starsessions
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from litestar import Litestar, Request, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore
from litestar.testing import TestClient as LitestarTestClient
from redis_fastapi.session_backend import RedisSessionStore
from redis_fastapi.sessions import add_redis_sessions
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starsessions.stores.redis import RedisStore as StarsessionsStore

from asgi_redis_session.dropin import FastAPIRedisSDK, LitestarSessions, Starsessions
from asgi_redis_session.testing import SessionKit

from .swapped import browsing

pytestmark = pytest.mark.anywhere

ADA = {"user": "ada", "cart": ["tea"]}
Old = Callable[[str, str], str]


def closing(client: Any) -> Any:
    """A lifespan that closes their client, which they don't."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await client.aclose()

    return lifespan


def by_starsessions(url: str, prefix: str) -> str:
    """The cookie of somebody who is logged in to an app of starsessions."""

    async def log_in(request: StarletteRequest) -> PlainTextResponse:
        await starsessions.load_session(request)
        request.session.update(ADA)
        return PlainTextResponse("done")

    client = redis.asyncio.Redis.from_url(url)
    store = StarsessionsStore(connection=client, prefix=f"{prefix}:")
    app = Starlette(routes=[Route("/", log_in, methods=["POST"])], lifespan=closing(client))
    app.add_middleware(starsessions.SessionMiddleware, store=store, cookie_https_only=False)
    with TestClient(app) as browser:
        browser.post("/")
        return str(browser.cookies["session"])


def by_the_sdk(url: str, prefix: str) -> str:
    """The cookie of somebody who is logged in to an app of fastapi-redis-sdk."""
    client = redis.asyncio.Redis.from_url(url)
    app = FastAPI(lifespan=closing(client))
    store = RedisSessionStore(client, key_prefix=prefix, idle_ttl=60, absolute_ttl=600)
    add_redis_sessions(app, store=store)

    @app.post("/")
    async def log_in(request: FastAPIRequest) -> None:
        request.session.update(ADA)

    with TestClient(app, base_url="https://testserver") as browser:
        browser.post("/")
        return str(browser.cookies["session"])


def by_litestar(url: str, prefix: str) -> str:
    """The cookie of somebody who is logged in to an app of Litestar."""

    @post("/")
    async def log_in(request: Request[Any, Any, Any]) -> None:
        request.set_session(dict(ADA))

    app = Litestar(
        [log_in],
        middleware=[ServerSideSessionConfig().middleware],
        stores={"sessions": RedisStore.with_client(url, namespace=prefix)},
        logging_config=None,  # it would change the log of all tests that follow
    )
    with LitestarTestClient(app) as client:
        client.post("/")
        return str(client.cookies["session"])


#: How a session is stored, and how it is taken over; each gets the key's prefix.
LIBRARIES: dict[str, tuple[Old, Callable[[str], Any]]] = {
    "starsessions": (by_starsessions, lambda prefix: Starsessions(prefix=f"{prefix}:")),
    "fastapi-redis-sdk": (
        by_the_sdk,
        lambda prefix: FastAPIRedisSDK(prefix=f"{prefix}:session:"),
    ),
    "Litestar": (by_litestar, lambda prefix: LitestarSessions(prefix=f"{prefix}:")),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_session_of_another_library_is_taken_over(
    sessions: SessionKit, admin: Any, name: str
) -> None:
    """Read once under its key, which is deleted; after a logout it does not come back."""
    if name == "fastapi-redis-sdk" and not admin.execute_command("COMMAND INFO", "HEXPIRE")[0]:
        pytest.skip("fastapi-redis-sdk needs Redis 7.4")
    log_in, source = LIBRARIES[name]
    old = f"{sessions.prefix}:old"
    url = sessions.url.partition("?")[0]  # they don't know our names of options
    cookies = {"session": log_in(url, old)}
    assert len(list(admin.scan_iter(f"{old}*{cookies['session']}"))) == 1
    options = {"import_from": source(old)}
    with browsing(sessions.store, cookies, **options) as browser:
        assert browser(dict) == ADA
        assert list(admin.scan_iter(f"{old}*{cookies['session']}")) == []
        assert browser(dict) == ADA
        browser(lambda session: session.clear())
    with browsing(sessions.store, cookies, **options) as replayed:
        assert replayed(dict) == {}


@pytest.mark.parametrize("value", ["a:b" * 10, "x" * 8, "*" * 32])
def test_what_is_no_id_leads_to_no_key(sessions: SessionKit, admin: Any, value: str) -> None:
    """A cookie can't name any key that begins with the prefix."""
    admin.set(f"{sessions.prefix}:{value}", '{"user": "eve"}')
    source = LitestarSessions(prefix=f"{sessions.prefix}:")
    with browsing(sessions.store, import_from=source) as browser:
        assert browser(dict, headers={"cookie": f"session={value}"}) == {}
