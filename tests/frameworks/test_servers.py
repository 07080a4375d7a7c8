"""One app on every ASGI server: sessions, streams, sockets, disconnects, and its lifespan."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.sync.client import connect

from ..support.documents import ROOT
from ..support.servers import wait_for
from ..support.serving import PATIENCE, stop

pytestmark = pytest.mark.on_cluster

#: The command of each server, after `python -m`. They take a socket that listens already, or
#: (granian) a port.
SERVERS: dict[str, Sequence[str]] = {
    "uvicorn, asyncio, h11": ("uvicorn", "--fd={fd}", "--loop=asyncio", "--http=h11"),
    "uvicorn, uvloop, httptools": ("uvicorn", "--fd={fd}", "--loop=uvloop", "--http=httptools"),
    "hypercorn, asyncio": ("hypercorn", "--bind=fd://{fd}", "--worker-class=asyncio"),
    "hypercorn, uvloop": ("hypercorn", "--bind=fd://{fd}", "--worker-class=uvloop"),
    "granian, asyncio": ("granian", "--port={port}", "--interface=asgi", "--loop=asyncio"),
    "granian, uvloop": ("granian", "--port={port}", "--interface=asgi", "--loop=uvloop"),
    "gunicorn": ("gunicorn", "--bind=fd://{fd}", "--worker-class=uvicorn_worker.UvicornWorker"),
}
#: Several processes; those with --preload fork after the app was imported.
PROCESSES: dict[str, Sequence[str]] = {
    "uvicorn --workers": ("uvicorn", "--fd={fd}", "--workers=3"),
    "hypercorn --workers": ("hypercorn", "--bind=fd://{fd}", "--workers=3"),
    "granian --workers": ("granian", "--port={port}", "--interface=asgi", "--workers=3"),
    "gunicorn": (*SERVERS["gunicorn"], "--workers=3"),
    "gunicorn --preload": (*SERVERS["gunicorn"], "--workers=3", "--preload"),
}


class Running(NamedTuple):
    url: str
    process: "subprocess.Popen[bytes]"
    notes: Path
    log: Path

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def wait_for(self, what: str, times: int = 1) -> None:
        """Return when the app has noted this so often."""
        deadline = time.monotonic() + PATIENCE
        while self.notes.read_text().splitlines().count(what) < times:
            assert time.monotonic() < deadline, f"{what}: {self.notes.read_text()}"
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask the server to end, and wait until it has."""
        stop(self.process)


@contextmanager
def running(
    command: Sequence[str], folder: Path, url: str, prefix: str, **more: str
) -> Iterator[Running]:
    """The app of `any_server_app.py`, by this command."""
    notes, log = folder / "notes", folder / "log"
    notes.touch()
    environment = {"REDIS_URL": url, "SESSION_PREFIX": prefix, "NOTES": str(notes), **more}
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        number, port = listener.fileno(), listener.getsockname()[1]
        if command[0] == "granian":
            listener.close()  # it takes none: between this and its start the port is free
        name, *options = [part.format(fd=number, port=port) for part in command]
        with subprocess.Popen(
            [sys.executable, "-m", name, "tests.frameworks.any_server_app:app", *options],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[] if command[0] == "granian" else [number],
            process_group=0,  # so that its workers end with it
        ) as process:
            served = Running(f"http://127.0.0.1:{port}", process, notes, log)
            try:
                served.wait_for("started")
                wait_for(partial(_listens, port))  # granian does only after that
                yield served
            finally:
                if process.poll() is None:
                    served.stop()


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)):
        return True


@pytest.fixture(params=SERVERS)
def served(request: Any, session_redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Running]:
    with running(SERVERS[request.param], tmp_path, session_redis_url, prefix) as found:
        yield found


def assert_quiet(served: Running) -> None:
    """No traceback, and no line of this library."""
    log = served.log.read_text()
    assert not re.search(r"Traceback|Sessions are unavailable|never retrieved", log), log


def test_sessions_streams_and_sockets(served: Running) -> None:
    """A session from its first write to its end; what streams and sockets write is kept, too."""
    with served.browser() as browser:
        assert browser.get("/read").json()["user"] is None
        assert "session" not in browser.cookies
        assert browser.post("/visit").json() == 1
        anonymous = browser.cookies["session"]
        browser.post("/login/ann")
        assert browser.cookies["session"] != anonymous
        assert browser.post("/visit").json() == 2
        assert browser.get("/stream/short").text == "first\nlast\n"
        answer = browser.get("/read").json()
        assert (answer["user"], answer["visits"]) == ("ann", 2)
        # The last part of a stream may arrive before what was staged meanwhile is committed.
        wait_for(lambda: browser.get("/read").json()["streamed"] == "ended")
        cookie = {"Cookie": f"session={browser.cookies['session']}"}
        with connect(f"ws{served.url[4:]}/socket", additional_headers=cookie) as websocket:
            for said in ("a", "b"):
                websocket.send(said)
                answer = websocket.recv(PATIENCE)
            assert answer == '["a","b"]'
        served.wait_for("socket ended")
        assert browser.get("/read").json()["said"] == ["a", "b"]
    served.stop()
    assert served.notes.read_text().splitlines()[-1] == "stopped"
    assert_quiet(served)


def test_a_browser_that_goes_away(served: Running) -> None:
    """In the middle of a stream: what was staged before it stays, and the next request works."""
    with served.browser() as browser:
        browser.post("/visit")
        for _ in range(3):
            with browser.stream("GET", "/stream/endless") as response:
                assert next(response.iter_bytes()).startswith(b"first")
            assert browser.get("/read").json()["streamed"] == "begun"
        served.wait_for("stream ended", times=3)
        assert browser.post("/visit").json() == 2
    log = served.log.read_text()
    assert "Sessions are unavailable" not in log
    assert "never retrieved" not in log


@pytest.mark.parametrize("server", PROCESSES)
def test_several_processes(
    session_redis_url: str, prefix: str, tmp_path: Path, server: str
) -> None:
    """Sessions are shared by all workers; nothing that was opened before a fork is used in two."""
    used = {"USED_AT_IMPORT": "yes"} if "gunicorn" in server else {}
    with running(PROCESSES[server], tmp_path, session_redis_url, prefix, **used) as served:
        served.wait_for("started", times=3)
        seen: set[int] = set()

        def browse(user: str) -> None:
            with served.browser() as browser:
                browser.post(f"/login/{user}")
                for number in range(1, 11):
                    # Another connection, so that any of the workers may take it.
                    with httpx.Client(
                        base_url=served.url, timeout=PATIENCE, cookies=browser.cookies
                    ) as again:
                        assert again.post("/visit").json() == number
                        answer = again.get("/read").json()
                    assert (answer["user"], answer["visits"]) == (user, number)
                    seen.add(answer["pid"])

        def all_seen() -> bool:
            browse("another")
            return len(seen) == 3

        with ThreadPoolExecutor(8) as browsers:
            list(browsers.map(browse, [f"user-{number}" for number in range(16)]))
        wait_for(all_seen)
        served.stop()
        assert served.notes.read_text().splitlines().count("stopped") == 3
        importing = served.notes.read_text().count("used in")
        assert importing == {"gunicorn": 3, "gunicorn --preload": 1}.get(server, 0)
    assert_quiet(served)
