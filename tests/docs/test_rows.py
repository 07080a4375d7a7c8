"""Every row of the pages below names the tests that show it."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ..support.documents import ROOT

pytestmark = pytest.mark.anywhere

PAGES = (
    "SECURITY.md",
    "docs/encryption.md",
    "docs/outcomes.md",
    "docs/privacy.md",
    "docs/security.md",
    "docs/verbs.md",
)
#: A test by its name, or by its path below tests/ if several have that name.
NAMED = re.compile(r"`(?:([\w/]+\.py)::)?(test_\w+)`")


class Row(NamedTuple):
    """One row of a table, or one line "Tests:" of a section that has no table."""

    section: str
    title: str
    tests: str


def rows(page: str) -> Iterator[Row]:
    """The rows of a page's tables, without their heads."""
    section, is_table = "", False
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        if line.startswith("**Tests:**"):
            yield Row(section, "Tests", line)
        elif re.fullmatch(r"[| -]+", line) and "---" in line:
            is_table = True
        elif not line.startswith("|"):
            is_table = False
        elif is_table:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            yield Row(section, cells[0], cells[-1])


ROWS = [(page, row) for page in PAGES for row in rows(page)]


def defined() -> dict[str, list[str]]:
    """The files below tests/ that define each test."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name].append(path.relative_to(ROOT / "tests").as_posix())
    return found


def test_every_row_is_read() -> None:
    """Every line that looks like one, and of every section of verbs.md at least one."""
    for page in PAGES:
        lines = (ROOT / page).read_text().splitlines()
        tables = [line for line in lines if line.startswith("|")]
        heads = 2 * sum(set(line) <= set("| -") for line in tables)
        tests = sum(line.startswith("**Tests:**") for line in lines)
        assert sum(page == of for of, _ in ROWS) == len(tables) - heads + tests > 0, page
    sections = re.findall(r"^## (.+)$", (ROOT / "docs/verbs.md").read_text(), re.MULTILINE)
    assert {row.section for page, row in ROWS if page == "docs/verbs.md"} == set(sections)


@pytest.mark.parametrize(
    ("page", "row"), ROWS, ids=[f"{page}:{row.section}:{row.title}" for page, row in ROWS]
)
def test_every_row_names_its_tests(page: str, row: Row) -> None:
    """At least one, and nothing else stands in that cell."""
    assert NAMED.search(row.tests)
    assert NAMED.sub("", row.tests).replace("**Tests:**", "").strip() == ""


def test_every_test_that_a_row_names_exists() -> None:
    """Exactly once, or in the file that is named with it."""
    tests = defined()
    wrong = []
    for page, row in ROWS:
        for path, name in NAMED.findall(row.tests):
            files = tests.get(name, [])
            if (path not in files) if path else (len(files) != 1):
                wrong.append(f"{page}, {row.section}, {row.title}: {name} is in {files}")
    assert wrong == []


def test_the_code_that_security_md_names_exists() -> None:
    """Each name is defined in the file that is named behind it."""
    text = (ROOT / "SECURITY.md").read_text()
    _, _, table = text.partition("## What keeps one user's data from another")
    named = re.findall(r"((?:`[\w.]+`,? )+)in `([\w/]+\.py)`", table.partition("\n## ")[0])
    assert len(named) > 8
    for names, path in named:
        code = (ROOT / "asgi_redis_session" / path).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"\b(?:def|class) {name}\b", code), (name, path)


def test_every_test_of_a_verb_is_named_by_a_row() -> None:
    """What is shown of a verb is documented."""
    named = {name for _, row in ROWS for _, name in NAMED.findall(row.tests)}
    assert {name for name in defined() if name.startswith("test_verbs_")} - named == set()
