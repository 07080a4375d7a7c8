"""What the apps of these tests do with their session."""

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from asgi_redis_session import SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..dropin.swapped import browsing
from ..support.sessions import PLAIN


def write(session: Any) -> None:
    session["n"] = session.get("n", 0) + 1


def clear(session: Any) -> None:
    session.clear()


def renew(session: Any) -> None:
    session.renew()


async def log_in_as_42(session: Any) -> None:
    await session.login(42)


async def log_out(session: Any) -> None:
    await session.logout()


def rotated(
    sessions: SessionKit, first: dict[str, Any], second: dict[str, Any], **options: Any
) -> bool:
    """Whether the drop-in gives a new id when these fields follow those."""
    with browsing(sessions.store, **options) as browser:
        browser(lambda session: session.update(first))
        before = browser.client.cookies["session"]
        browser(lambda session: session.update(second))
        return bool(browser.client.cookies["session"] != before)


def untouched(sessions: SessionKit, cookies: dict[str, str] | None = None, **options: Any) -> Any:
    """The headers of a page that never looks at its session, and the commands that it costs."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN, **options)
    app.get("/")(lambda: None)
    with TestClient(app, cookies=cookies) as client, sessions.count() as commands:
        response = client.get("/")
    assert response.status_code == 200
    return response.headers, commands.names
