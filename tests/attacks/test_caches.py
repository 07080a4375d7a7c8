"""Shared caches: none of them may store a cookie of ours, whatever the app has said."""

import logging
import secrets
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asgi_redis_session import Session, SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session

from ..support.sessions import PLAIN, log_in
from .conftest import Cases

Headers = list[tuple[str, str]]

#: What apps and their decorators send, and whether that offers the response to a shared cache.
OFFERS: list[tuple[Headers, bool]] = [
    ([("Cache-Control", "public, max-age=60")], True),
    ([("cache-control", "max-age=31536000, immutable")], True),
    ([("Cache-Control", "PUBLIC")], True),
    ([("Cache-Control", "s-maxage=60")], True),
    ([("Cache-Control", 'max-age="60"')], True),
    ([("Cache-Control", "no-cache"), ("Cache-Control", "public")], True),
    ([("CDN-Cache-Control", "max-age=60")], True),
    ([("Cache-Control", "no-cache"), ("Cloudflare-CDN-Cache-Control", "max-age=60")], True),
    ([("Surrogate-Control", "max-age=60")], True),
    ([("Edge-Control", "max-age=60")], True),
    ([("X-Accel-Expires", "60")], True),
    ([("Cache-Control", "private, max-age=60")], False),
    ([("Cache-Control", "no-store")], False),
    ([("Cache-Control", "no-cache")], False),
    ([("Cache-Control", "max-age=0, must-revalidate")], False),
    ([("X-Accel-Expires", "0")], False),
    ([("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")], False),
    ([], False),
]

RULES = ("cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control", "edge-control")


async def _begin(session: Session) -> None:
    session["n"] = 1


async def _log_in(session: Session) -> None:
    await session.login("ann")


async def _renew(session: Session) -> None:
    session.renew()


async def _log_out(session: Session) -> None:
    await session.logout()


#: What makes the response carry a cookie, and whether the request has one.
VERBS: list[tuple[Callable[[Session], Awaitable[None]], bool]] = [
    (_begin, False),
    (_log_in, False),
    (_log_in, True),
    (_renew, True),
    (_log_out, True),
]


def _client(
    store: SessionStore, headers: Headers, act: Callable[[Session], Awaitable[None]]
) -> httpx.AsyncClient:
    async def endpoint(request: Request) -> Response:
        await act(await load_session(request))
        response = Response()
        for name, value in headers:
            response.headers.append(name, value)
        return response

    async def untouched(request: Request) -> Response:
        return Response(headers=dict(headers))

    app = Starlette(routes=[Route("/untouched/{page}", untouched), Route("/{page}", endpoint)])
    middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(middleware), base_url="http://app.example.com"
    )


async def _get(
    store: SessionStore, headers: Headers, act: Callable[[Session], Awaitable[None]], *, known: bool
) -> tuple[httpx.Response, str]:
    path = f"/{secrets.token_hex(8)}"
    async with _client(store, headers, act) as client:
        if known:
            client.cookies.set("session", await log_in(store, "ann"))
        return await client.get(path), path


async def test_no_cache_may_store_a_cookie(
    store: SessionStore, caplog: pytest.LogCaptureFixture, cases: Cases
) -> None:
    """`no-store`, and nothing else, where there is a cookie; one warning where it was offered."""
    for headers, is_offered in OFFERS:
        for act, known in VERBS:
            caplog.clear()
            response, path = await _get(store, headers, act, known=known)
            assert "set-cookie" in response.headers
            assert response.headers.get_list("cache-control") == ["no-store"], headers
            assert not any(name in response.headers for name in (*RULES, "x-accel-expires"))
            assert "Cookie" in response.headers["vary"]
            warnings = [line for line in caplog.messages if repr(path) in line]
            assert len(warnings) == is_offered, headers
            cases()


async def test_a_page_of_a_session_that_is_public_is_warned_about(
    store: SessionStore, caplog: pytest.LogCaptureFixture, cases: Cases
) -> None:
    """
    The app's headers stay, and without them it is `private`; whether there is a warning depends on
    what they allow to a shared cache.
    """

    async def use(session: Session) -> None:
        session.get("n")

    caplog.set_level(logging.WARNING)
    for headers, _ in OFFERS:
        caplog.clear()
        response, path = await _get(store, headers, use, known=True)
        for name, value in headers:
            assert value in response.headers.get_list(name)
        rules = [value for name, value in headers if name.lower() == "cache-control"]
        says_nothing = all(name == "Expires" for name, _ in headers)
        sent = response.headers.get_list("cache-control")
        assert sent == (["private"] if says_nothing else rules), headers
        said = "".join(value for name, value in headers if name.lower() != "expires").lower()
        is_public = "public" in said or "s-maxage" in said or said == "60"
        assert sum(repr(path) in line for line in caplog.messages) == is_public, headers
        cases()


async def test_a_path_is_warned_about_once(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is asked for; a response that has not used its session is the app's."""
    path = secrets.token_hex(8)
    async with _client(store, [("cache-control", "public")], _begin) as client:
        for _ in range(3):
            client.cookies.clear()
            await client.get(f"/{path}")
        response = await client.get(f"/untouched/{path}")
    assert response.headers["cache-control"] == "public"
    ours = [one for one in caplog.records if one.name == "asgi_redis_session"]
    assert sum(path in one.getMessage() for one in ours) == 1


async def test_a_page_without_its_session_is_the_apps(store: SessionStore) -> None:
    """What is the same for all visitors stays cacheable: no `private`, and no `Vary`."""
    async with _client(store, [], _begin) as client:
        await client.get("/page")
        response = await client.get("/untouched/page")
    assert {"cache-control", "vary", "set-cookie"}.isdisjoint(response.headers)
