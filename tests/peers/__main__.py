"""
Run the tests of the peers, and print how many have passed, and why the others are excepted.

    python -m tests.peers
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

from asgi_redis_session.devserver import DevServer

from ..dropin import starlettes_own
from .lists import PEERS, Peer


def main() -> int:
    """Return how many tests have failed."""
    with tempfile.TemporaryDirectory() as folder, DevServer() as server:
        counts = starlettes_own.run(Path(folder), server.url)
        outcomes = _run(Path(folder))
    name = f"Starlette {version('starlette')}, its own file with the import swapped"
    if counts is None:
        print(f"{name}: can't be downloaded from here")
    else:
        _show(name, counts.run - counts.failed, counts.failed, starlettes_own.EXCEPTED)
    failed = 0 if counts is None else counts.failed
    for peer in PEERS:
        passed = _of(peer, outcomes)
        _show(peer.name, passed.count(True), passed.count(False), peer.excepted)
        for file, reason in peer.unlisted.items():
            print(f"    {file}, as a whole: {reason}")
        failed += passed.count(False)
    return failed


def _run(folder: Path) -> dict[tuple[str, str], bool]:
    """Whether each test in this folder has passed, by its module and name."""
    report = folder / "peers.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml", str(report), "tests/peers"]
    root = Path(__file__).parents[2]
    subprocess.run(command, cwd=root, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    outcomes: dict[tuple[str, str], bool] = {}
    for case in ET.parse(report).iter("testcase"):
        module = case.get("classname", "").rpartition(".")[2]
        name = case.get("name", "").partition("[")[0]
        outcomes[module, name] = outcomes.get((module, name), True) and not len(case)
    return outcomes


def _of(peer: Peer, outcomes: Mapping[tuple[str, str], bool]) -> list[bool]:
    """Whether each counterpart has passed; what did not run has not."""
    names = [name for name in peer.names if name not in peer.excepted]
    return [any(outcomes.get((each, name)) for each in peer.modules) for name in names]


def _show(name: str, passed: int, failed: int, excepted: Mapping[str, str]) -> None:
    print(f"{name}: {passed} passed, {len(excepted)} excepted, {failed} failed")
    for reason in dict.fromkeys(excepted.values()):
        names = [test for test, why in excepted.items() if why == reason]
        print(f"    {len(names):2} {reason}")


if __name__ == "__main__":
    sys.exit(bool(main()))
