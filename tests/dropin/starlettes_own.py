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
from typing import NamedTuple
from xml.etree import ElementTree as ET

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
#: connections can't run on (which is said in one sentence: test_trio_gets_one_sentence).
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


class Counts(NamedTuple):
    """How many of their tests were run, and how many of these did not pass."""

    run: int
    failed: int
    report: str


def run(folder: Path, redis_url: str) -> Counts | None:
    """Run them in this folder; None if there are none for the installed version, or no network."""
    text = _download(version("starlette"))
    if text is None or THEIRS not in text:  # before 1.0 Starlette had no `Session`
        return None
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_session.py").write_text(text.replace(THEIRS, OURS))
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", str(folder), "-W", "ignore"),
            *("--junitxml", str(folder / "result.xml"), "test_session.py"),
            *(f"--deselect=test_session.py::{name}" for name in EXCEPTED),
        ],
        cwd=folder,
        env=os.environ | {"SESSION_TEST_URL": redis_url, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    (counts,) = ET.parse(folder / "result.xml").iter("testsuite")
    failed = sum(int(counts.get(kind, "1")) for kind in ("errors", "failures", "skipped"))
    return Counts(int(counts.get("tests", "0")), failed, result.stdout)


def _download(starlette: str) -> str | None:
    """Their file of tests."""
    archive = SOURCES / f"starlette-{starlette}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "starlette", "--dest", str(SOURCES), f"starlette=={starlette}"]
        subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
    if not archive.exists():
        return None
    with tarfile.open(archive) as files:
        (name,) = [n for n in files.getnames() if n.endswith("tests/middleware/test_session.py")]
        file = files.extractfile(name)
        assert file is not None
        return file.read().decode()
