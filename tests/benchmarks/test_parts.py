"""What decides over the parts of a run that are measured alone: no figure here is measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import history, instructions, report
from benchmarks.overload import classify
from benchmarks.targets import Measured, Target, reached, targets


def test_an_answer_is_counted_by_what_became_of_its_request() -> None:
    """Answered; refused as soon as the app had it; or failed after a wait, or without an answer."""
    answers = [(200, 40.0, 5.0)] * 98 + [(200, 900.0, 5.0)] * 2
    answers += [(503, 700.0, 0.4), (500, 700.0, 101.0), (0, 0.0, -1.0), (503, 3.0, -1.0)]
    found = classify(answers)
    assert found == {"answered": 100, "refused": 1, "late": 3, "p99_ms": 900.0}
    assert classify([(500, 1.0, 1.0)])["p99_ms"] is None


def test_a_ceiling_is_three_percent_above_what_was_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is scaled by what the app alone takes here: another Python, another number."""
    figures = {"starlette": {"read": 100_000}, "ours": {"read": 300_000}}
    monkeypatch.setattr(instructions, "REACHED", figures)
    assert instructions.ceiling_of("read", 100_000) == pytest.approx(206_000)
    assert instructions.ceiling_of("read", 110_000) == pytest.approx(226_600)


def test_a_target_without_a_figure_is_neither_reached_nor_missed() -> None:
    """A run that lacks a part says so."""
    kept, missed, unknown = (
        Target("figure", "bound", [Measured("1.00 ×", is_reached)])
        for is_reached in (True, False, None)
    )
    assert reached([kept, missed, unknown, unknown]) == (1, 2)
    empty: dict[str, Any] = {"rows": [], "memory": {}}
    assert reached(targets(empty)) == (0, 0)


def test_the_published_run_has_its_line_in_the_history() -> None:
    """The last line is that of the figures beside it, and each ratio is one of the targets."""
    result = report.published()
    assert history.lines()[-1] == json.loads(json.dumps(history.line_of(result)))
    names = {f"{target.figure} {target.bound}" for target in targets(result)}
    assert set(history.RATIOS) <= names


def test_a_run_that_is_published_again_has_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run adds one."""
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    result = report.published()
    for _ in range(2):
        history.append(result)
    assert len(history.lines()) == 1
    history.append(result | {"meta": result["meta"] | {"date": "2030-01-01T00:00:00+00:00"}})
    assert [line["date"][:4] for line in history.lines()] == [result["meta"]["date"][:4], "2030"]


def test_a_part_that_was_not_measured_is_named() -> None:
    """A document keeps its section, and says that there is no figure."""
    section = report.SECTION.search("<!-- benchmark scale_one -->\n<!-- end -->")
    assert section is not None
    assert "Not measured yet." in report.fill_in(section, {})
