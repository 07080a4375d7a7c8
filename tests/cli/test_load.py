"""What the servers do, line by line; and load on an app."""

import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.serving import serve
from ..support.sessions import PLAIN
from .common import objects, rows, run


@pytest.mark.on_cluster
def test_watch(session_redis_url: str) -> None:
    """A line for each server and interval; the first one needs two looks."""
    at = ("--redis", session_redis_url, "--every", "0.2", "--times", "2")
    head, *lines = rows("watch", *at)
    assert head[:4] == ["time", "server", "keys", "memory_mb"]
    assert lines
    assert all(len(line) == len(head) for line in lines)
    servers = {line[1] for line in lines}
    assert len(lines) == 2 * len(servers)
    shown = objects("watch", *at)
    assert {each["server"] for each in shown} == servers
    assert all(each["memory_mb"] > 0 for each in shown)


@pytest.mark.anywhere
def test_bench(sessions: SessionKit) -> None:
    """Requests, percentiles, answers, a plot; each connection keeps its cookie."""

    async def count(request: Request) -> PlainTextResponse:
        session = await load_session(request)
        session["n"] = session.get("n", 0) + 1
        return PlainTextResponse(str(session["n"]))

    app = Starlette(routes=[Route("/", count)])
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    app.add_middleware(SessionMiddleware, store=store, cookie=PLAIN)
    with serve(app) as url:
        done = run("bench", url, "--seconds", "1", "--connections", "3")
        assert done.returncode == 0, done.stderr
        assert "p99" in done.stdout
        assert "█" in done.stdout
        (shown,) = objects("bench", url, "--seconds", "1", "--connections", "3")
        assert shown["answers"] == {"200": shown["requests"]}
        assert 0 < shown["p50_ms"] <= shown["p99_ms"]
        missing = run("bench", f"{url}/missing", "--seconds", "0.2", "--json")
        assert json.loads(missing.stdout)["answers"].keys() == {"404"}
