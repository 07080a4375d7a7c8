"""An app of one page that does what the test tells it, and a browser that holds its cookie."""

import inspect
from collections.abc import Callable
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore

from .sessions import PLAIN


class Page:
    """
    `await page(act)` makes one request, in which `act(session)` runs; what it returned is `seen`.

    *options* are those of `SessionMiddleware`; `autoload` is on unless they say otherwise.
    """

    def __init__(self, store: SessionStore, cookie: CookiePolicy = PLAIN, **options: Any) -> None:
        app = Starlette(routes=[Route("/{path:path}", self._endpoint, methods=["GET", "POST"])])
        middleware = SessionMiddleware(
            app, store=store, cookie=cookie, **{"autoload": True, **options}
        )
        scheme = "https" if cookie.secure else "http"
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(middleware, raise_app_exceptions=False),
            base_url=f"{scheme}://app.example.com",
        )
        self.seen: Any = None
        self._act: Callable[[Any], Any] = len

    async def __call__(
        self,
        act: Callable[[Any], Any],
        headers: list[tuple[bytes, bytes]] | None = None,
        url: str = "/",
        **options: Any,
    ) -> httpx.Response:
        self._act, self.seen = act, None
        method = "POST" if "content" in options else "GET"
        return await self.client.request(method, url, headers=headers, **options)

    async def _endpoint(self, request: Request) -> Response:
        result = self._act(request.session)
        self.seen = await result if inspect.isawaitable(result) else result
        return PlainTextResponse("done")
