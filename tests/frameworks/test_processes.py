"""Servers in a process of their own: one that is frozen now and then, and one that runs on Trio."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from ..support.documents import ROOT
from ..support.serving import PATIENCE, stop

pytestmark = pytest.mark.one_node

#: Of the store, in seconds: a process is frozen for longer, so that everything seems to be late.
TIMEOUT = 1


class Served(NamedTuple):
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def freeze(self, seconds: float) -> None:
        """Stop the process as Lambda does, and let it go on later as if nothing had happened."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def served(tmp_path: Path, url: str, prefix: str, server: str, *options: str) -> Iterator[Served]:
    """The app of `served_app.py`, by `python -m uvicorn` or `hypercorn`."""
    environment = {
        **os.environ,
        "REDIS_URL": url,
        "SESSION_PREFIX": prefix,
        "SESSION_TIMEOUT": str(TIMEOUT),
    }
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        number = str(listener.fileno())
        bind = ["--fd", number] if server == "uvicorn" else ["--bind", f"fd://{number}"]
        with subprocess.Popen(
            [sys.executable, "-m", server, "tests.frameworks.served_app:app", *bind, *options],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
        ) as process:
            try:
                yield Served("http://127.0.0.1:{1}".format(*listener.getsockname()), process, log)
            finally:
                stop(process)


@pytest.mark.parametrize("meanwhile", ["nothing", "connections end"])
def test_a_frozen_process_logs_no_outage(
    session_redis_url: str, prefix: str, tmp_path: Path, admin: Any, meanwhile: str
) -> None:
    """
    Frozen right after a response, with its TTL being extended, for longer than the timeout.

    Each session is as it was, each request is answered, and nothing is logged; also if Redis has
    closed the connections meanwhile.
    """
    options = ["--log-level", "warning"]
    with (
        served(tmp_path, session_redis_url, prefix, "uvicorn", *options) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE) as browser,
    ):
        for number in range(1, 3):
            assert browser.post("/visit").json() == number
            assert browser.get("/untouched").text == "untouched"
            if meanwhile == "connections end":
                running.process.send_signal(signal.SIGSTOP)
                admin.client_kill_filter(_type="normal", skipme=True)
            running.freeze(2 * TIMEOUT)
            assert browser.get("/read").json() == {"visits": number}
    assert running.log.read_text() == ""


def test_a_process_that_is_frozen_with_requests_under_way(
    session_redis_url: str, prefix: str, tmp_path: Path, admin: Any
) -> None:
    """What Redis has answered meanwhile is not late: time that stands still is not counted."""
    options = ["--log-level", "warning"]
    with (
        served(tmp_path, session_redis_url, prefix, "uvicorn", *options) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE) as browser,
    ):
        assert browser.post("/visit").json() == 1
        # Redis executes what comes only later, so that the process is frozen while it waits.
        admin.client_pause(500, all=True)
        cookie = f"session={browser.cookies['session']}"
        with socket.create_connection(
            (httpx.URL(running.url).host, httpx.URL(running.url).port), PATIENCE
        ) as waiting:
            waiting.sendall(f"GET /read HTTP/1.0\r\nCookie: {cookie}\r\n\r\n".encode())
            running.freeze(2 * TIMEOUT)
            answer = b"".join(iter(lambda: waiting.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"visits":1}')
    assert running.log.read_text() == ""


def test_trio_gets_one_sentence_from_hypercorn(
    session_redis_url: str, prefix: str, tmp_path: Path
) -> None:
    """Its Trio worker: the sentence is the only error in the log, and there is one per request."""
    options = ["--worker-class", "trio"]
    with (
        served(tmp_path, session_redis_url, prefix, "hypercorn", *options) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE) as browser,
    ):
        assert browser.get("/untouched").text == "untouched"
        assert browser.post("/visit").status_code == 500
        browser.cookies.set("session", "A" * 43)
        assert browser.get("/untouched").status_code == 500  # its TTL can't be extended
        assert browser.get("/read").status_code == 500
    log = running.log.read_text()
    errors = re.findall(r"^\S*Error: .*", log, re.MULTILINE)
    sentence = "RuntimeError: Sessions need an asyncio event loop, because redis-py has no"
    assert len(errors) == 3
    assert all(line.startswith(sentence) for line in errors)
    assert "Lifespan" not in log
