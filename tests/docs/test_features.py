"""`docs/features.md`: each of our cells has its test, and each of the others' its source."""

import re

import pytest

from ..support.documents import ROOT

pytestmark = pytest.mark.anywhere

PAGE = (ROOT / "docs/features.md").read_text("utf-8")
#: Where each library was looked at, in the version that the page names.
SOURCES = re.findall(r"\| \[source\]\((https://[^)]+)\) \|$", PAGE, re.MULTILINE)
LIBRARIES = 8
THEIRS = re.compile(r"\[(?:yes|partly|no)\]\((https://[^)]+)\)|\?")
OURS = re.compile(r"yes: \[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)|no")


def rows() -> list[list[str]]:
    """The cells of each row of each comparison."""
    tables = re.findall(r"^\| \| here \|.*\n\|[ -|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_row_is_complete() -> None:
    """A feature, ours, and eight others; no feature twice."""
    assert len(rows()) >= 40
    assert {len(row) for row in rows()} == {2 + LIBRARIES}
    names = [row[0] for row in rows()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_we_claim_has_its_test(row: list[str]) -> None:
    """It is in the file that the cell links."""
    found = OURS.fullmatch(row[1])
    assert found
    if found[1]:
        test = re.compile(rf"^(?:async )?def {found[1]}\(", re.MULTILINE)
        assert test.search((ROOT / found[2]).read_text("utf-8"))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_we_say_of_others_has_its_source(row: list[str]) -> None:
    """A file of the version that was looked at, or a question mark."""
    assert len(SOURCES) == LIBRARIES + 1
    for cell in row[2:]:
        found = THEIRS.fullmatch(cell)
        assert found, cell
        assert not found[1] or found[1].startswith(tuple(SOURCES))


def test_what_we_have_not_is_said() -> None:
    """In the last table, and nowhere else."""
    last = PAGE.rpartition("\n## ")[2]
    assert last.startswith("What others have, and this library has not")
    assert [row[0] for row in rows() if row[1] == "no"] == re.findall(
        r"^\| (.+?) \| no \|", last, re.MULTILINE
    )
