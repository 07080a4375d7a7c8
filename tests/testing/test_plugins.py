"""The fixtures in a user's suite, whichever plugin runs its async tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CONFTEST = """
IMPORTS
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session

pytest_plugins = ["asgi_redis_session.testing"]
PLAIN = CookiePolicy(name="session", secure=False)


async def add(request):
    session = await load_session(request)
    session["n"] = session.get("n", 0) + 1
    return JSONResponse(dict(session))


@pytest.fixture
def app(sessions):
    return SessionMiddleware(
        Starlette(routes=[Route("/", add)]), store=sessions.store, cookie=PLAIN
    )


@FIXTURE
async def client(app, sessions):
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://app", cookies=cookies
    ) as client:
        yield client
"""


SUITE = """
import pytest
from starlette.testclient import TestClient

from conftest import PLAIN


MARK
async def test_an_async_test(client, sessions):
    assert (await client.get("/")).json() == {"n": 2}
    with sessions.count() as commands:
        assert (await client.get("/")).json() == {"n": 3}
    assert len(commands) == 2
    assert sessions.read(dict(client.cookies), cookie=PLAIN) == {"n": 3}


MARK
async def test_another_one_in_a_loop_of_its_own(client, sessions):
    assert (await client.get("/")).json() == {"n": 2}
    assert len(sessions.keys()) == 1


def test_a_sync_test(app, sessions):
    with TestClient(app, cookies=sessions.cookies({"n": 5}, cookie=PLAIN)) as client:
        assert client.get("/").json() == {"n": 6}
"""


BACKEND = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


INI = """
[pytest]
filterwarnings =
    error
    ignore:Using `httpx` with `starlette.testclient`:UserWarning
"""


LOOPS = "asyncio_default_fixture_loop_scope = function\nasyncio_mode = {}\n"


ANYIO = {"mark": "@pytest.mark.anyio", "more": BACKEND}


SUITES = {
    "pytest-asyncio, auto": (["-p", "pytest_asyncio.plugin"], {"ini": LOOPS.format("auto")}),
    "pytest-asyncio, strict": (
        ["-p", "pytest_asyncio.plugin"],
        {
            "imports": "import pytest_asyncio",
            "fixture": "pytest_asyncio.fixture",
            "mark": "@pytest.mark.asyncio",
            "ini": LOOPS.format("strict"),
        },
    ),
    "anyio": (["-p", "anyio.pytest_plugin"], ANYIO),
    "both, marked for anyio": (
        ["-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin"],
        {**ANYIO, "ini": LOOPS.format("strict")},
    ),
}


@pytest.mark.parametrize(("options", "parts"), SUITES.values(), ids=SUITES)
def test_a_users_suite_passes(
    tmp_path: Path, session_redis_url: str, options: list[str], parts: dict[str, str]
) -> None:
    """With pytest-asyncio alone in either mode, with anyio's plugin alone, and with both."""
    conftest = CONFTEST.replace("FIXTURE", parts.get("fixture", "pytest.fixture"))
    conftest = conftest.replace("IMPORTS", parts.get("imports", ""))
    (tmp_path / "conftest.py").write_text(conftest + parts.get("more", ""))
    (tmp_path / "test_app.py").write_text(SUITE.replace("MARK", parts.get("mark", "")))
    (tmp_path / "pytest.ini").write_text(INI + parts.get("ini", ""))
    done = run_pytest(tmp_path, session_redis_url, options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def run_pytest(
    folder: Path, redis_url: str, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run the suite in a folder, in a process of its own, with these plugins alone."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "SESSION_REDIS_URL": redis_url,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_one_loop_for_all_tests(tmp_path: Path, session_redis_url: str) -> None:
    """A hundred tests in it leave no connection open, which would be an error in a later one."""
    conftest = CONFTEST.replace("FIXTURE", "pytest.fixture").replace("IMPORTS", "")
    (tmp_path / "conftest.py").write_text(conftest)
    test = 'assert (await client.get("/")).json() == {"n": 2}'
    mark = 'import pytest\n\n\n@pytest.mark.parametrize("n", range(100))\n'
    (tmp_path / "test_app.py").write_text(f"{mark}async def test_it(client, n):\n    {test}\n")
    loops = LOOPS.replace("function", "session").format("auto")
    (tmp_path / "pytest.ini").write_text(f"{INI}{loops}asyncio_default_test_loop_scope = session\n")
    done = run_pytest(tmp_path, session_redis_url, ["-p", "pytest_asyncio.plugin"])
    assert "100 passed" in done.stdout, done.stdout + done.stderr
