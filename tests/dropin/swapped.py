"""An app whose import of Starlette's SessionMiddleware was swapped for the drop-in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import SessionStore
from asgi_redis_session.dropin import SessionMiddleware

SECRET = "a secret of the app, long enough"

Act = Callable[[Any], Any]


class App:
    """An app of one page, in which `act(request.session)` runs; what it returns is the answer."""

    def __init__(self) -> None:
        self.act: Act = dict
        self.seen: Any = None

    def page(self, request: Request) -> Response:
        self.seen = self.act(request.session)
        return PlainTextResponse("done")


class Browser:
    """A browser with one cookie jar, and the apps of before and after the move."""

    def __init__(self, client: TestClient, app: App) -> None:
        self.client = client
        self._app = app

    def __call__(self, act: Act = dict, **options: Any) -> Any:
        """Let *act* run on the session of a request; returns what it returned."""
        self.respond(act, **options)
        return self._app.seen

    def respond(self, act: Act = dict, **options: Any) -> Any:
        """Do the same, and return the response."""
        self._app.act, self._app.seen = act, None
        return self.client.get("/", **options)


@contextmanager
def browsing(
    store: SessionStore | str, cookies: Any = None, url: str = "http://testserver", **options: Any
) -> Iterator[Browser]:
    """A browser in front of the app with the drop-in."""
    app = App()
    inner = Starlette(routes=[Route("/{path:path}", app.page)])
    wrapped = SessionMiddleware(inner, **{"secret_key": SECRET, **options}, store=store)
    with TestClient(wrapped, url, raise_server_exceptions=False) as client:
        _put(client, cookies)
        yield Browser(client, app)


@contextmanager
def browsing_before(cookies: Any = None, **options: Any) -> Iterator[Browser]:
    """A browser in front of the app as it was, with Starlette's own middleware."""
    app = App()
    inner = Starlette(routes=[Route("/{path:path}", app.page)])
    wrapped = StarlettesMiddleware(inner, **{"secret_key": SECRET, **options})
    with TestClient(wrapped) as client:
        _put(client, cookies)
        yield Browser(client, app)


def _put(client: TestClient, cookies: Any) -> None:
    """Give the browser cookies as the site itself would set them."""
    for name, value in dict(cookies or {}).items():
        client.cookies.set(name, value, domain="testserver.local", path="/")


def signed_cookie(fields: dict[str, Any], **options: Any) -> str:
    """The cookie that Starlette's middleware sets for a session with these fields."""
    with browsing_before(**options) as before:
        before(lambda session: session.update(fields))
        return str(before.client.cookies[options.get("session_cookie", "session")])
