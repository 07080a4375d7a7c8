"""
The tests of Starlette's own SessionMiddleware, run on the drop-in.

They come from the source distribution of the installed version, and nothing is changed but their
import. `EXCEPTED` names what is left out, and why.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
#: The source distribution is downloaded once. `make clean` removes it.
SOURCES = ROOT / ".sources"
PATIENCE = 300

THEIRS = "from starlette.middleware.sessions import Session, SessionMiddleware"
OURS = """\
import os
from functools import partial

from asgi_redis_session.dropin import Session, SessionMiddleware as _SessionMiddleware

SessionMiddleware = partial(_SessionMiddleware, store=os.environ["SESSION_TEST_URL"])
"""

#: What their conftest.py gives the tests. Excepted: Trio as the event loop, which redis-py's
#: connections can't run on (the drop-in says so in one sentence, see test_trio.py).
CONFTEST = """
import functools
import sys
import types

import pytest
from starlette.testclient import TestClient

kinds = types.ModuleType("tests.types")
kinds.TestClientFactory = object
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests.types"] = kinds


@pytest.fixture
def test_client_factory():
    return functools.partial(TestClient, backend="asyncio")
"""

#: No test is left out for what it expects.
EXCEPTED: dict[str, str] = {}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with their test file, its import swapped."""
    archive = _download(version("starlette"))
    if archive is None:
        pytest.skip("The source distribution of starlette can't be downloaded from here.")
    folder = tmp_path_factory.mktemp("starlette")
    with tarfile.open(archive) as files:
        (name,) = [n for n in files.getnames() if n.endswith("tests/middleware/test_session.py")]
        file = files.extractfile(name)
        assert file is not None
        text = file.read().decode()
    if THEIRS not in text:
        pytest.skip("These are the tests of another Starlette: before 1.0 it had no `Session`.")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_session.py").write_text(text.replace(THEIRS, OURS))
    return folder


def _download(starlette: str) -> Path | None:
    archive = SOURCES / f"starlette-{starlette}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "starlette", "--dest", str(SOURCES), f"starlette=={starlette}"]
        subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
    return archive if archive.exists() else None


def test_starlettes_own_tests_pass(suite: Path, session_redis_url: str) -> None:
    """All of them pass, none is skipped, and those that are left out are listed."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", str(suite), "-W", "ignore"),
            *("--junitxml", str(suite / "result.xml"), "test_session.py"),
            *(f"--deselect=test_session.py::{name}" for name in EXCEPTED),
        ],
        cwd=suite,
        env=os.environ | {"SESSION_TEST_URL": session_redis_url, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stdout
    (counts,) = ET.parse(suite / "result.xml").iter("testsuite")
    failed = {kind: counts.get(kind) for kind in ("errors", "failures", "skipped")}
    assert failed == {"errors": "0", "failures": "0", "skipped": "0"}
    assert int(counts.get("tests", "0")) >= 15
