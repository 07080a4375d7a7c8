"""What the servers do, line by line; and load on an app."""

import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.servers import ask, frozen
from ..support.serving import serve
from ..support.sessions import PLAIN
from .common import objects, run
from .heard import hears_logins_and_ends


@pytest.mark.on_cluster
def test_watch(session_redis_url: str) -> None:
    """A line for each server and interval; the first one needs two looks."""
    at = ("--redis", session_redis_url, "--every", "0.2", "--times", "2")
    head, *lines = [line.split("\t") for line in run("watch", *at).stdout.splitlines()]
    assert head[:4] == ["time", "server", "keys", "memory_mb"]
    assert lines
    assert all(len(line) == len(head) for line in lines)
    servers = {line[1] for line in lines}
    assert len(lines) == 2 * len(servers)
    shown = [json.loads(line) for line in run("watch", *at, "--json").stdout.splitlines()]
    assert {each["server"] for each in shown} == servers
    assert all(each["memory_mb"] > 0 for each in shown)


@pytest.mark.anywhere
def test_watch_says_that_it_hears_nothing() -> None:
    """Once for all servers, with the command that changes it, which keeps what was set."""
    with DevServer(search=False, options={"notify-keyspace-events": "Ex"}) as server:
        at = ("--redis", server.url, "--every", "0.1", "--times", "2")
        done = run("watch", *at)
        (said,) = done.stderr.splitlines()
        assert said.startswith("Logins and ends are not shown: Redis reports none. `redis-cli ")
        columns = done.stdout.splitlines()[0].split("\t")
        for line in done.stdout.splitlines()[1:]:
            row = dict(zip(columns, line.split("\t"), strict=True))
            assert (row["logins/s"], row["ends/s"]) == ("-", "-")
        assert json.loads(run("watch", *at, "--json").stdout.splitlines()[0])["ends/s"] is None
        command = said.partition("`redis-cli ")[2].partition("`")[0]
        ask(server, *command.split())
        assert run("watch", *at).stderr == ""
        assert set("Ex") < set(str(ask(server, "CONFIG", "GET", "notify-keyspace-events")))


@pytest.mark.anywhere
async def test_watch_hears_logins_and_ends(prefix: str) -> None:
    """Under the names of keys, or whatever else is reported as well."""
    for flags in ("Kz", "KEA"):
        with DevServer(search=False, options={"notify-keyspace-events": flags}) as server:
            await hears_logins_and_ends(server.url, prefix)


@pytest.mark.anywhere
def test_watch_does_not_wait_for_a_server_that_hangs() -> None:
    """It ends with a sentence, as where there is none."""
    with DevServer(search=False) as server, frozen(server):
        done = run("watch", "--redis", server.url)
    assert done.returncode == 1
    assert "did not answer within 2 s" in done.stderr


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
