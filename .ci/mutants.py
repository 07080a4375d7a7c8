"""
Whether the tests notice it when the code is wrong: one mutant after the other, by mutmut.

    make mutants
    make mutants ARGS="codec cookie"

Each module is changed in every way that mutmut knows, one at a time, in a copy of the project; its
tests, named below, run against each of these mutants. A mutant that no test notices has survived.
Exits with 1 if fewer were killed than `mutants.toml` asks for. Which ones survive, and why, is in
`docs/testing.md`.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "asgi_redis_session"
#: What tests read beside the package and the tests.
READ_TOO = ("benchmarks", "docs", "examples", "typing_tests", "Makefile", "README.md")


class Module(NamedTuple):
    """A module, the tests that know it best, and those that a mutant's extra frames disturb."""

    path: str
    tests: list[str]
    least_killed: float
    left_out: list[str]
    decorator: str | None


class Result(NamedTuple):
    """How many mutants there were, and the differences of those that no test has noticed."""

    total: int
    survivors: list[str]

    @property
    def killed(self) -> float:
        """Which share of them was killed, in percent."""
        return 100 * (1 - len(self.survivors) / self.total)


def modules() -> dict[str, Module]:
    """All modules, by name, as `mutants.toml` has them."""
    declared = tomllib.loads((ROOT / ".ci" / "mutants.toml").read_text())
    return {
        name: Module(
            one["path"],
            one["tests"],
            one["least_killed"],
            one.get("left_out", []),
            one.get("decorator"),
        )
        for name, one in declared.items()
    }


def run(module: Module) -> Result:
    """Run the module's tests against all of its mutants, in a copy of the project."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        tracked = subprocess.run(
            ["git", "ls-files", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        if module.decorator is not None:
            source = copy / PACKAGE / module.path
            source.write_text(_undecorated(source.read_text(), module.decorator))
        with (copy / "pyproject.toml").open("a") as settings:
            settings.write(_settings(module))
        done = _mutmut(copy, "run", "--max-children", "1")
        if done.returncode:
            sys.exit(f"mutmut failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        _mutmut(copy, "export-cicd-stats")
        counted = json.loads((copy / "mutants" / "mutmut-cicd-stats.json").read_text())
        listed = _mutmut(copy, "results").stdout
        names = [line.split(":")[0].strip() for line in listed.splitlines() if ": " in line]
        # A mutant that never ends is killed by its time limit; mutmut lists it all the same.
        outcomes = dict(zip(names, listed.splitlines(), strict=False))
        survivors = [name for name in names if "timeout" not in outcomes[name]]
        return Result(counted["total"], [_difference(copy, name) for name in survivors])


def _undecorated(source: str, decorator: str) -> str:
    """Decorate the functions at the end of the file: mutmut leaves out what has a decorator."""
    head = re.compile(rf"^@{decorator}\nasync def (\w+)", re.MULTILINE)
    ends = [f"\n\n{name} = {decorator}(_{name})\n" for name in head.findall(source)]
    return head.sub(r"async def _\1", source) + "".join(ends)


def _settings(module: Module) -> str:
    left_out = [part for test in module.left_out for part in ("--deselect", test)]
    chosen = json.dumps([*module.tests, *left_out])
    return (
        f'\n[tool.mutmut]\nsource_paths = ["{PACKAGE}"]\nonly_mutate = ["{PACKAGE}/{module.path}"]'
        f"\nalso_copy = {json.dumps(READ_TOO)}\npytest_add_cli_args_test_selection = {chosen}\n"
        # A slow machine is no reason to take a mutant for killed.
        f"timeout_constant = 3.0\n"
    )


def _difference(copy: Path, name: str) -> str:
    """A mutant's name, and the lines that it changes."""
    shown = _mutmut(copy, "show", name).stdout.splitlines()
    changed = [line for line in shown if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    return "\n  ".join([name.rpartition(".")[2], *changed])


def _mutmut(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("mutmut")
    return subprocess.run(
        [program, *arguments],
        cwd=copy,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def main(names: list[str]) -> int:
    """Run the named modules, or all of them, and compare."""
    known = modules()
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no such module: {', '.join(unknown)}; there are {', '.join(known)}")
    missed = []
    for name in names or known:
        result = run(known[name])
        for survivor in result.survivors:
            print(survivor)
        print(f"== {name}: {result.total} mutants, {result.killed:.1f} % killed", flush=True)
        if result.killed < known[name].least_killed:
            missed.append(f"{name} ({known[name].least_killed} % were)")
    if missed:
        print(f"fewer killed than before: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
