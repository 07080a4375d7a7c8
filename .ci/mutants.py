"""
Whether the tests notice it when the code is wrong: one mutant after the other.

    make mutants
    make mutants ARGS="codec cookie"

mutmut changes each module in every way that it knows; `mutant_loop` runs the module's tests, named
in `mutants.toml`, against one of these mutants at a time, in a copy of the project. A mutant that
no test notices has survived. Exits with 1 if fewer were killed than `mutants.toml` asks for. Which
ones survive, and why, is in `docs/testing.md`.
"""

import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import chdir
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.file_mutation import mutate_file_contents

ROOT = Path(__file__).parents[1]
PACKAGE = "asgi_redis_session"
#: What mutmut calls a function as it was, and the mark in the names of its mutants.
ORIGINAL, MARK = "__mutmut_orig", "__mutmut_"
#: Decorators that mutmut knows how to deal with, or that leave nothing to change.
KNOWN = {"staticmethod", "classmethod", "overload", "abstractmethod"}


class Module(NamedTuple):
    """
    Files that have their tests in common.

    *least_killed*: of the mutants of each, in percent. *left_out*: tests that a mutant's extra
    frames disturb. *longest*: the seconds that the tests of one mutant may take, if they are many.
    """

    tests: list[str]
    least_killed: dict[str, float]
    left_out: list[str]
    longest: float


class Result(NamedTuple):
    """What was changed in each mutant of a file, and what became of it."""

    changes: dict[str, str]
    outcomes: dict[str, str]

    def those(self, outcome: str) -> list[str]:
        """The mutants with this outcome: "killed", "survived", or "late", which is killed, too."""
        return [name for name in self.changes if self.outcomes[name] == outcome]

    @property
    def killed(self) -> float:
        """Which share of them was killed, in percent."""
        return 100 * (1 - len(self.those("survived")) / len(self.changes))


def modules() -> dict[str, Module]:
    """All modules, by name, as `mutants.toml` has them."""
    declared = tomllib.loads((ROOT / ".ci" / "mutants.toml").read_text())
    return {
        name: Module(
            one["tests"],
            one["least_killed"],
            one.get("left_out", []),
            one.get("longest", 20),
        )
        for name, one in declared.items()
    }


def run(module: Module) -> dict[str, Result]:
    """Run the tests against all mutants of the files, in a copy of the project."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        _copy_to(copy)
        changes: dict[str, dict[str, str]] = {}
        for path in module.least_killed:
            file = copy / PACKAGE / path
            imported = ".".join([PACKAGE, *Path(path).with_suffix("").parts])
            with chdir(copy):
                file.write_text(mutate_file_contents(path, _undecorated(file.read_text())).code)
            changes[path] = {f"{imported}.{n}": text for n, text in _changes(file.read_text())}
        plan = [[*chain(*changes.values())], module.longest]
        (copy / "mutants.json").write_text(json.dumps(plan))
        left_out = [part for test in module.left_out for part in ("--deselect", test)]
        loop = ["-p", "mutant_loop", "-p", "no:cacheprovider", "-p", "no:random_order", "-q", "-s"]
        # For any other traceback, pytest parses the file of all mutants: that takes seconds.
        loop += ["--tb=native"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *loop, *module.tests, *left_out],
            cwd=copy,
            check=False,
            env={**os.environ, "PYTHONPATH": str(copy / ".ci"), "SESSION_TEST_EXAMPLES": "all"},
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            sys.exit("the tests fail without any mutant, or could not be run")
        outcomes: dict[str, str] = json.loads((copy / "outcomes.json").read_text())
    return {path: Result(of_path, outcomes) for path, of_path in changes.items()}


def _copy_to(folder: Path) -> None:
    """Copy what git would keep."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _undecorated(source: str) -> str:
    """Decorate each function in a line below it: mutmut leaves out those with a decorator."""
    lines = source.splitlines()
    for function in reversed(list(_functions(ast.parse(source)))):
        if len(function.decorator_list) != 1:
            continue
        (decorator,) = function.decorator_list
        text = ast.unparse(decorator)
        if text in KNOWN or text.endswith((".setter", ".deleter")):
            continue
        assert function.end_lineno is not None
        blanks = " " * function.col_offset
        below = f"{blanks}{function.name} = {text}({function.name})  # type: ignore"
        lines.insert(function.end_lineno, below)
        del lines[decorator.lineno - 1 : decorator.end_lineno]
    return "\n".join(lines) + "\n"


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions that mutmut changes: of the module, and of its classes."""
    for node in tree.body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                yield one


def _changes(source: str) -> Iterator[tuple[str, str]]:
    """Each mutant in a module by mutmut, and the lines that it changes."""
    texts, all_lines = {}, source.splitlines()
    for one in _functions(ast.parse(source)):
        text = all_lines[one.lineno - 1 : one.end_lineno]
        texts[one.name] = [text[0].replace(one.name, "…", 1), *text[1:]]
    for name, lines in texts.items():
        function, mark, _ = name.rpartition(MARK)
        if mark and not name.endswith(ORIGINAL):
            found = difflib.unified_diff(texts[function + ORIGINAL], lines, n=0, lineterm="")
            yield name, "\n  ".join([*found][3:])


def main(names: list[str]) -> int:
    """Run the named modules, or all of them, and compare."""
    known = modules()
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no such module: {', '.join(unknown)}; there are {', '.join(known)}")
    missed = []
    for name in names or known:
        for path, result in run(known[name]).items():
            survivors, late = result.those("survived"), result.those("late")
            for survivor in survivors:
                print(f"{survivor.removeprefix(PACKAGE)}\n  {result.changes[survivor]}")
            print(
                f"== {path}: {len(result.changes)} mutants, {len(survivors)} survived, "
                f"{result.killed:.1f} % killed, {len(late)} of them by a time limit",
                flush=True,
            )
            if result.killed < (least := known[name].least_killed[path]):
                missed.append(f"{path} ({least} % were)")
    if missed:
        print(f"fewer killed than before: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
