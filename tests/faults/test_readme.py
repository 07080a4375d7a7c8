"""The table of faults in README.md is whole, and every test that it names exists."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TEXT = (HERE / "README.md").read_text()


def test_all_40_faults_have_a_test_or_a_reason() -> None:
    """Each of the rows 1 to 40 names a test, or says why there is none."""
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 41))
    for number, row in rows:
        assert "::test_" in row or "no test" in row, number


def test_every_test_that_is_named_exists() -> None:
    """No test in the table was renamed or removed since."""
    named = re.findall(r"`([./\w]+\.py)::(test_\w+)`", TEXT)
    assert len(named) > 60
    for file, name in named:
        assert f"def {name}(" in (HERE / file).read_text(), f"{file}::{name}"
