"""The configurations of docs/gateways.md in real proxies, before an app without sessions."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import SessionStore
from asgi_redis_session.gateway import ForwardAuth
from asgi_redis_session.testing import SessionKit

from ..support.documents import blocks
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN
from .proxies import COMMANDS, proxy

pytestmark = pytest.mark.anywhere

#: A CGI or WSGI app reads the last two as if they were the first.
FORGED = {
    "X-Session-User": "root",
    "x-session-handle": "forged",
    "X-SESSION-PLAN": "gold",
    "X_Session_User": "root",
    "x-session_user": "root",
}


async def _echo(request: Request) -> JSONResponse:
    """What an app behind the proxy sees."""
    names = {name: name.replace("_", "-") for name in request.headers}
    mine = [name for name, read in names.items() if read.startswith("x-session")]
    return JSONResponse({name: request.headers[name] for name in mine})


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    app = Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST"])])
    with serve(app) as url:
        yield url


@pytest.mark.parametrize("name", COMMANDS)
def test_a_proxy_asks_the_gateway(
    name: str, sessions: SessionKit, upstream: str, tmp_path: Path
) -> None:
    """Who is logged in reaches the app; nobody else does, and no forged header either."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    gateway = ForwardAuth(store, cookie=PLAIN, fields={"X-Session-Plan": "plan"})
    plan = "Gold, für Zoë\r\nX-Evil: 1"
    ann = sessions.cookies({"plan": plan}, user="ann", cookie=PLAIN)
    bob = sessions.cookies({}, user="bob", cookie=PLAIN)
    anonymous = sessions.cookies({"plan": "none"}, cookie=PLAIN)
    with serve(gateway) as asked:
        ports = {"8000": urlsplit(upstream).port or 0, "9000": urlsplit(asked).port or 0}
        with proxy(name, tmp_path, ports) as url, httpx.Client(timeout=PATIENCE) as client:

            def get(path: str, cookies: dict[str, str], **headers: str) -> httpx.Response:
                line = "; ".join(f"{key}={value}" for key, value in cookies.items())
                given = {**headers, **({"cookie": line} if line else {})}
                return client.get(f"{url}{path}", headers=given)

            for forged in ({}, FORGED):
                seen = get("/", ann, **forged).json()
                assert seen["x-session-user"] == "ann"
                assert not [name for name in seen if "_" in name]
                assert unquote(seen["x-session-plan"]) == plan
                assert seen["x-session-handle"] == sessions.handle_of(ann, cookie=PLAIN)
                seen = get("/", bob, **forged).json()
                assert (seen["x-session-user"], seen.get("x-session-plan", "")) == ("bob", "")
                for nobody in ({}, anonymous, {PLAIN.name: "x" * 43}, {"other": "1"}):
                    assert get("/", nobody, **forged).status_code == 401
                public = get("/public", ann, **forged).json()
                assert not any(public.values())
            assert client.post(f"{url}/", headers=FORGED).status_code == 401
            sessions.revoke(sessions.handle_of(bob, cookie=PLAIN) or "")
            assert get("/", bob).status_code == 401


@pytest.mark.parametrize("block", blocks("docs/gateways.md", "yaml"))
def test_what_is_not_tried_names_each_header(block: str) -> None:
    """Traefik, Envoy, Kong: the sample is YAML, and has what replaces each of our headers."""
    assert yaml.safe_load(block)
    for part in ("User", "Handle", "Plan"):
        assert part.lower() in block.lower()


@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_passes_while_redis_is_away(name: str, upstream: str, tmp_path: Path) -> None:
    """An error, and never the app's answer."""
    down = ForwardAuth(SessionStore.from_url("redis://127.0.0.1:1/0"), cookie=PLAIN)
    with serve(down) as asked:
        ports = {"8000": urlsplit(upstream).port or 0, "9000": urlsplit(asked).port or 0}
        with proxy(name, tmp_path, ports) as url:
            cookie = {"cookie": f"{PLAIN.name}={'x' * 43}"}
            answer = httpx.get(f"{url}/", headers=cookie, timeout=PATIENCE)
    assert answer.status_code == (500 if name == "nginx" else 503)
