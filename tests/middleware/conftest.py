"""An app behind uvicorn, its session in Redis, and a gate between them."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.websockets import WebSocket

from asgi_redis_session import Durability, SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.gate import Gate, Gates, gates_to
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

Endpoint = Callable[[Request], Awaitable[Response]]


SocketEndpoint = Callable[[WebSocket], Awaitable[None]]


@dataclass
class World:
    """One app behind uvicorn, one session in Redis, and the gate between them."""

    kit: SessionKit
    gate: Gate | Gates
    place: str
    cookies: dict[str, str]
    events: list[str] = field(default_factory=list)
    #: What the server got instead of a return.
    raised: list[Exception] = field(default_factory=list)
    #: Of the store: both its write concerns.
    durability: Durability | None = None
    #: The app's, once it is served.
    store: SessionStore = field(init=False)

    def serving(self, route: BaseRoute, timeout: float = 20, **options: Any) -> Any:
        self.store = self.gate.store(
            prefix=self.kit.prefix,
            timeout=timeout,
            on_event=lambda event: self.events.append(event.name),
            durability=self.durability,
            end_durability=self.durability,
        )
        options = {"store": self.store, "cookie": PLAIN, **options}
        if self.place == "wrap":
            return serve(self._watch(SessionMiddleware(Starlette(routes=[route]), **options)))
        middleware = [Middleware(SessionMiddleware, **options)]
        return serve(self._watch(Starlette(routes=[route], middleware=middleware)))

    def _watch(self, app: Any) -> Any:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                self.raised.append(error)
                raise

        return watched

    def get(self, endpoint: Endpoint, *, new: bool = False, **options: Any) -> httpx.Response:
        """One request to an app of this endpoint, with the cookie of the session, or none."""
        with self.serving(Route("/", endpoint), **options) as url:
            cookies = {} if new else self.cookies
            with httpx.Client(base_url=url, cookies=cookies, timeout=PATIENCE) as client:
                return client.get("/")

    def fields(self) -> dict[str, Any]:
        """What Redis holds of the session."""
        return self.kit.read(self.cookies, cookie=PLAIN)


@pytest.fixture(params=["wrap", "add"])
def world(request: pytest.FixtureRequest, sessions: SessionKit) -> Iterator[World]:
    with gates_to(sessions.url) as gate:
        yield World(sessions, gate, request.param, sessions.cookies({"n": 1}, cookie=PLAIN))


def assert_503(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "set-cookie" not in response.headers
    assert response.headers["cache-control"] == "no-store"
