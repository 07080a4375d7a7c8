"""The commands of docs/cli.md run, in their order."""

import shlex

import pytest
from starlette.responses import PlainTextResponse

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.documents import blocks
from ..support.internals import handle_of
from ..support.serving import serve
from ..support.sessions import log_in
from .common import run, run_apart

pytestmark = pytest.mark.anywhere


async def test_the_page_runs() -> None:
    """Each command ends with 0; more than one session is ended after a yes."""
    lines = [line for block in blocks("docs/cli.md", "console") for line in block.splitlines()]
    assert len(lines) == 14
    with DevServer(search=False) as server, serve(PlainTextResponse("hello")) as url:
        async with SessionStore.from_url(server.url) as store:
            handle = handle_of(store, await log_in(store, "ann", tenant="acme"))
            for _ in range(2):
                await log_in(store, "ann", tenant="acme")
        for line in lines:
            words = shlex.split(line.removeprefix("$ "))
            assert words.pop(0) == "asgi-redis-session"
            for written, real in {
                "redis://localhost:6379/0": server.url,
                "0123456789abcdef0123456789abcdef": handle,
                "http://localhost:8000/": url,
                "10": "1",
                "5": "1",
            }.items():
                words = [real if word == written else word for word in words]
            # One in a process of its own, by its name: starting one takes a second of CPU.
            start = run_apart if words[0] == "doctor" else run
            done = start(*words, answers="y\n")
            assert done.returncode == 0, (line, done.stdout, done.stderr)
