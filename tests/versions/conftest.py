"""A process of version 0.1 and one of this version, side by side on one Redis."""

import io
import os
import secrets
import socket
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support.documents import ROOT
from ..support.serving import PATIENCE, stop

#: The last commit of version 0.1. It stays as it is: its processes must be able to run beside ours.
VERSION_0_1 = "164707626663077d56b89025277dcac663c1840c"
LIMIT = 3

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as version 0.1 had it, out of the history of this repository."""
    archived = subprocess.run(
        ["git", "archive", "--format=zip", VERSION_0_1, "asgi_redis_session"],
        cwd=ROOT,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if archived.returncode != 0:
        missing = f"version 0.1 ({VERSION_0_1[:7]}) is not in a git history here: clone all of it"
        # Where every change is checked, a clone without it is a mistake.
        (pytest.fail if "GITHUB_ACTIONS" in os.environ else pytest.skip)(missing)
    tree = tmp_path_factory.mktemp("version-0.1")
    zipfile.ZipFile(io.BytesIO(archived.stdout)).extractall(tree)
    return tree


@contextmanager
def process(tree: Path, url: str, prefix: str, log: Path) -> Iterator[str]:
    """The app of this folder, by uvicorn, with the package of *tree*; yields its URL."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "REDIS_URL": url,
        "SESSION_PREFIX": prefix,
        "SESSION_LIMIT": str(LIMIT),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        number = listener.fileno()
        options = ["--app-dir", str(HERE), "--fd", str(number), "--log-level", "warning"]
        options += [
            "--timeout-graceful-shutdown",
            "1",
        ]  # where a test has failed, one may be paused
        with subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", *options],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[number],
        ) as running:
            try:
                yield "http://127.0.0.1:{1}".format(*listener.getsockname())
            finally:
                stop(running)


@pytest.fixture(scope="module")
def shared_prefix() -> str:
    """The prefix that both processes use."""
    return f"versions-{secrets.token_hex(6)}"


@pytest.fixture
def ttl(admin: Any, shared_prefix: str) -> Callable[[str], int]:
    """Seconds that a session has left, by its handle."""

    def of(handle: str) -> int:
        return int(admin.ttl(f"{shared_prefix}:{handle}"))

    return of


class Side:
    """Requests to the process of one version, without a cookie jar: ids are passed by hand."""

    def __init__(self, url: str, log: Path) -> None:
        no_jar: Any = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, cookies=no_jar)
        self.log = log

    async def call(self, path: str, session_id: str | None = None, **more: Any) -> httpx.Response:
        """A GET for what only reads, else a POST; the answer must be 200."""
        headers = {} if session_id is None else {"cookie": f"session={session_id}"}
        method = "GET" if path.startswith(READING) else "POST"
        response = await self.http.request(method, path, headers=headers, **more)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response

    async def ask(self, path: str, session_id: str | None = None, **more: Any) -> Any:
        return (await self.call(path, session_id, **more)).json()

    async def new_id(self, path: str, session_id: str | None = None, **more: Any) -> str:
        """The id that the answer gives."""
        given = given_id(await self.call(path, session_id, **more))
        assert given, f"{path} gave no cookie"
        return given


READING = ("/read", "/methods", "/fetch", "/users/", "/still-valid", "/arrived", "/go", "/which")


def given_id(response: httpx.Response) -> str | None:
    """The id that a response gives; empty if it takes the cookie away, None without a cookie."""
    found = list(response.headers.get_list("set-cookie"))
    assert len(found) <= 1
    if not found:
        return None
    value = found[0].partition(";")[0].partition("=")[2]
    return "" if value == "deleted" else value


class Pair:
    """The two sides, each by its name."""

    def __init__(self, old: Side, new: Side) -> None:
        self.sides = {"old": old, "new": new}

    def __getitem__(self, name: str) -> Side:
        return self.sides[name]


@pytest.fixture(scope="module")
def urls(
    old_tree: Path,
    session_redis_url: str,
    shared_prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[str, Path]]]:
    """Where each version answers, and where it logs. They share a Redis and a prefix."""
    logs, prefix = tmp_path_factory.mktemp("logs"), shared_prefix
    old, new = logs / "old", logs / "new"
    with (
        process(old_tree, session_redis_url, prefix, old) as old_url,
        process(ROOT, session_redis_url, prefix, new) as new_url,
    ):
        yield {"old": (old_url, old), "new": (new_url, new)}


@pytest.fixture
async def pair(urls: dict[str, tuple[str, Path]]) -> AsyncIterator[Pair]:
    """Both processes, each asked first which version it is. Neither may log anything."""
    pair = Pair(Side(*urls["old"]), Side(*urls["new"]))
    for name, side in pair.sides.items():
        is_old, _path = await side.ask("/which")
        assert is_old == (name == "old")
    yield pair
    for side in pair.sides.values():
        await side.http.aclose()
        assert side.log.read_text() == ""
