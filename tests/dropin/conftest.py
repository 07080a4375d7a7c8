"""An app that was written for Starlette's own SessionMiddleware."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.sessions import PLAIN

UNKNOWN = "A" * 43


def view(request: Request) -> Response:
    return JSONResponse({"session": dict(request.session)})


async def update(request: Request) -> Response:
    request.session.update(await request.json())
    return JSONResponse({"session": dict(request.session)})


async def clear(request: Request) -> Response:
    request.session.clear()
    return JSONResponse({"session": dict(request.session)})


def untouched(request: Request) -> Response:
    return PlainTextResponse("untouched")


ROUTES: list[BaseRoute] = [
    Route("/view", view),
    Route("/update", update, methods=["POST"]),
    Route("/clear", clear, methods=["POST"]),
    Route("/untouched", untouched),
]


@contextmanager
def browser(
    app: ASGIApp,
    store: SessionStore,
    cookie: CookiePolicy = PLAIN,
    base_url: str = "http://testserver",
    **options: Any,
) -> Iterator[TestClient]:
    wrapped = SessionMiddleware(app, store=store, autoload=True, cookie=cookie)
    with TestClient(wrapped, base_url=base_url, **options) as client:
        yield client


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    """The store of the test's kit, so that `sessions` shows what it wrote."""
    return sessions.store


@pytest.fixture
def client(store: SessionStore) -> Iterator[TestClient]:
    with browser(Starlette(routes=ROUTES), store) as client:
        yield client


def set_cookies(response: Any) -> list[str]:
    return list(response.headers.get_list("set-cookie"))


def vary(*values: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        response = PlainTextResponse(str(len(request.session)))
        for value in values:
            response.headers.append("vary", value)
        return response

    return endpoint
