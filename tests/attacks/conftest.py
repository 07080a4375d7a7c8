"""Each test of this folder is an attack in docs/security.md, and counts what it has tried."""

import re
from collections.abc import Iterator

import pytest

from ..support.documents import ROOT


class Cases:
    """Called once for each case."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int = 1) -> None:
        self.number += number


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Iterator[Cases]:
    """
    Counts what a test has tried. A figure in the table that is not the run's is an error.

    "more than 14,000" stands where each new option adds cases: then the figure is the least.
    """
    cases = Cases()
    yield cases
    is_least, number = _documented(request.node.originalname)
    assert cases.number > number if is_least else cases.number == number


def _documented(test: str) -> tuple[bool, int]:
    (row,) = [
        line for line in _attacks().splitlines() if line.startswith("|") and f"`{test}`" in line
    ]
    number = re.fullmatch(r"(more than )?([\d,]+)", row.split("|")[2].strip())
    assert number is not None, row
    return number[1] is not None, int(number[2].replace(",", ""))


def _attacks() -> str:
    """The section of the page whose tables have these tests; others may name them as well."""
    _, _, section = (ROOT / "docs/security.md").read_text().partition("## Attacks that were tried")
    return section
