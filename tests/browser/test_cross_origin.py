"""Two origins in a real browser: what another site's page can make it send, and what it gets."""

from typing import Any

import pytest
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.serving import serve
from ..support.sessions import PLAIN

pytestmark = pytest.mark.anywhere

#: Whether a page can open a socket at this address: "open" or "refused".
OPEN_SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url)
    socket.onopen = () => done("open")
    socket.onerror = () => done("refused")
})"""
POST = """async url => (await fetch(url, {method: "POST", credentials: "include"})).status"""


def shop(store: SessionStore, bought: list[str]) -> SessionMiddleware:
    async def start(request: Request) -> HTMLResponse:
        session: Any = request.session
        (await session.load())["cart"] = ["tea"]
        return HTMLResponse('<form method="post" action="/buy"><button>Buy</button></form>')

    async def buy(request: Request) -> PlainTextResponse:
        session = await request.scope["session"].load()
        bought.append(request.headers.get("origin", ""))
        return PlainTextResponse(f"bought {session.get('cart')}")

    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    routes = [
        Route("/", start),
        Route("/buy", buy, methods=["POST"]),
        WebSocketRoute("/live", live),
    ]
    return SessionMiddleware(
        Starlette(routes=routes), store=store, cookie=PLAIN, cross_origin="refuse"
    )


def page_of(html: str) -> Any:
    async def endpoint(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    return Starlette(routes=[Route("/", endpoint)])


async def test_another_site_in_a_real_browser(chromium: Browser, sessions: SessionKit) -> None:
    """Its form, its fetch and its socket are refused, with our cookie; our own pages work."""
    bought: list[str] = []
    events: list[SessionEvent] = []
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, on_event=events.append)
    with serve(shop(store, bought)) as ours:
        # 127.0.0.1 on another port is another origin of the same site, so that the browser sends
        # the cookie, as it does from a subdomain or with SameSite=None.
        form = f'<form method="post" action="{ours}/buy"><button>Win</button></form>'
        with serve(page_of(form)) as theirs:
            page = await (await chromium.new_context()).new_page()
            await page.goto(ours)
            await page.click("button")
            assert await page.inner_text("body") == "bought ['tea']"
            assert await page.evaluate(POST, f"{ours}/buy") == 200
            socket = f"{ours.replace('http', 'ws')}/live"
            assert await page.evaluate(OPEN_SOCKET, socket) == "open"
            assert events.pop(0).name == "created"
            assert events == []

            await page.goto(theirs)
            await page.click("button")
            assert "another site" in await page.inner_text("body")
            await page.goto(theirs)
            await page.evaluate(
                "url => fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors'})",
                f"{ours}/buy",
            )
            assert await page.evaluate(OPEN_SOCKET, socket) == "refused"
    assert bought == [ours, ours]
    assert [event.name for event in events] == ["cross_origin"] * 3
    kinds = [(event.detail or "").split()[0] for event in events]
    assert kinds == ["POST", "POST", "WebSocket"]
    assert all(theirs in (event.detail or "") for event in events)
