"""The quick start and the tutorial, done as their reader does them: with uvicorn and curl."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..support.documents import BLOCK, ROOT, blocks
from ..support.keyspace import forget
from ..support.serving import PATIENCE, serve, serve_apart

pytestmark = pytest.mark.anywhere

REDIS = "redis://localhost:6379/0"
SITE = "localhost:8000"
#: Where pip has put commands such as asgi-redis-session.
COMMANDS = Path(sys.executable).parent


def run(command: str, folder: Path) -> str:
    """What a command of a page prints, in a shell in this folder."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={"PATH": f"{COMMANDS}:{os.environ['PATH']}", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.rstrip("\n")


def commands_in(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what it is said to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed.rstrip("\n")


def pattern_of(printed: str) -> str:
    """What matches the same with other handles and seconds; "…" stands for anything."""
    text = re.escape(printed).replace("…", ".*")
    text = re.sub(r"[0-9a-f]{32}", "[0-9a-f]{32}", text)
    return re.sub(r"\d\\\.\d\ds", r"[\\d.]+s", text)


def check_what_is_installed(line: str) -> None:
    """Pip would find these packages and extras: they are installed here, too."""
    program, action, *packages = shlex.split(line)
    assert (program, action) == ("pip", "install")
    for name, extras in re.findall(r"([\w-]+)(?:\[(.*?)\])?(?: |$)", " ".join(packages)):
        offered = metadata(name).get_all("Provides-Extra") or []
        assert set(extras.split(",")) - {""} <= set(offered), name


# --- The quick start ---


def test_what_the_quick_start_installs_exists() -> None:
    """The extras exist; tests/testing runs the server, and the next test the app."""
    first, second = blocks("docs/quickstart.md", "sh")
    install, server = first.splitlines()
    check_what_is_installed(install)
    assert server == "python -m asgi_redis_session.devserver --port 6379"
    assert second == "uvicorn app:app\n"


@pytest.mark.parametrize("title", ["FastAPI", "Starlette", "Litestar", "Without a framework"])
def test_each_app_of_the_quick_start_counts(
    title: str, session_redis_url: str, admin: Any, tmp_path: Path
) -> None:
    """It prints what the page shows, for each framework."""
    text = (ROOT / "docs/quickstart.md").read_text().partition(f"\n## {title}\n")[2]
    (kind, code), *_ = BLOCK.findall(text)
    assert (kind, code.count(REDIS)) == ("python", 1)
    module = sys.modules["app"] = ModuleType("app")  # Litestar looks there for types of handlers
    forget(admin, "session")
    try:
        exec(code.replace(REDIS, session_redis_url), vars(module))
        (block,) = blocks("docs/quickstart.md", "console")
        with serve(module.app) as url:
            for command, printed in commands_in(block):
                assert run(command.replace(SITE, url), tmp_path) == printed, command
    finally:
        del sys.modules["app"]
        forget(admin, "session")


# --- The tutorial ---


class Reader:
    """Does what the tutorial says, block by block."""

    def __init__(self, home: Path, things: ExitStack, unused_port: int) -> None:
        self.folder, self._home, self._things = home / "tea-shop", home, things
        self._redis = REDIS.replace("6379", str(unused_port))
        self._port = unused_port
        self._listener = things.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._served: ExitStack | None = None

    def type(self, line: str) -> None:
        """A command of a block without output."""
        if line.startswith("pip install"):
            check_what_is_installed(line)
        elif "devserver" in line:
            self._start_redis(line)
        elif line.startswith("uvicorn"):
            assert line == "uvicorn main:app --reload"
            self.start()
        elif line.startswith("python3 -m venv"):
            run(line.replace("python3 -m venv", "python3 -m venv --without-pip"), self.folder)
        elif line == "cd tea-shop":
            assert self.folder.is_dir()
        else:
            run(line, self.folder if self.folder.exists() else self._home)

    def try_out(self, block: str) -> None:
        """Commands with what they print."""
        for command, printed in commands_in(block):
            said = run(self._here(command), self.folder)
            if command.startswith("asgi-redis-session show"):
                assert "cart:green" in said
            else:
                assert re.fullmatch(pattern_of(printed), said, re.DOTALL), (command, said)

    def save(self, name: str, code: str) -> None:
        """A file; the app starts anew with it, as `--reload` does."""
        (self.folder / name).write_text(code)
        if name == "main.py" and self._served is not None:
            self.start()

    def start(self) -> None:
        """The app, or the app with changed files."""
        if self._served is not None:
            self._served.close()
        self._served = self._things.enter_context(ExitStack())
        self._served.enter_context(
            serve_apart(
                "main:app",
                environment={"REDIS_URL": self._redis},
                listener=self._listener,
                folder=self.folder,
            )
        )

    def _here(self, command: str) -> str:
        port = self._listener.getsockname()[1]
        command = command.replace(SITE, f"127.0.0.1:{port}").replace(REDIS, self._redis)
        if found := re.search(r"\b[0-9a-f]{32}\b", command):  # the page's handle is not ours
            listed = run(f"asgi-redis-session list --redis {self._redis}", self.folder)
            command = command.replace(found[0], listed.split()[0])
        return command

    def _start_redis(self, line: str) -> None:
        server = subprocess.Popen(
            shlex.split(line.replace("python", sys.executable, 1).replace("6379", str(self._port))),
            stdout=subprocess.PIPE,
            text=True,
        )
        self._things.enter_context(server)
        self._things.callback(server.terminate)
        assert server.stdout is not None
        assert str(self._port) in server.stdout.readline()


def test_the_tutorial_leads_to_a_shop(tmp_path: Path, unused_tcp_port: int) -> None:
    """Each command prints what the page shows, from the empty folder to the shop's own tests."""
    text = (ROOT / "docs/tutorial.md").read_text()
    with ExitStack() as things:
        reader = Reader(tmp_path, things, unused_tcp_port)
        for found in BLOCK.finditer(text):
            kind, body = found.groups()
            if kind == "sh":
                for line in body.splitlines():
                    reader.type(line)
            elif kind == "console":
                reader.try_out(body)
            else:
                name = re.findall(r"`(\w+\.py)`", text[: found.start()])[-1]
                reader.save(name, body)
        files = sorted(path.name for path in reader.folder.glob("*.py"))
    assert files == [
        *("account.py", "cart.py", "conftest.py", "devices.py", "main.py", "test_shop.py")
    ]
