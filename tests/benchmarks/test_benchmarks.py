"""What decides over the figures of `benchmarks/`: no figure here is measured."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from asgi_redis_session.devserver import DevServer
from benchmarks import fill, load, report, tables
from benchmarks.contenders import BY_NAME
from benchmarks.rates import Ladder, Limit, Verdict, by_rate, verdict

ROOT = Path(__file__).parents[2]


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads CPU times from /proc")


def sample(rate: int, p99_ms: float, *, errors: int = 0, kept: bool = True) -> dict[str, Any]:
    return {
        "offered": rate,
        "latency": {"99": p99_ms * 1000},
        "errors": errors,
        "kept_schedule": kept,
    }


def test_a_rate_is_judged_by_the_median_of_what_is_proven() -> None:
    """One outlier changes nothing, errors exceed, and void samples are not counted."""
    assert verdict([]) is None
    assert verdict([sample(500, 5), sample(500, 300), sample(500, 6)]) is Verdict.HELD
    assert verdict([sample(500, 5), sample(500, 30), sample(500, 30)]) is Verdict.EXCEEDED
    assert verdict([sample(500, 5, errors=1)]) is Verdict.EXCEEDED
    assert verdict([sample(500, 5, kept=False)]) is Verdict.VOID
    assert verdict([sample(500, 5), *[sample(500, 99, kept=False)] * 2]) is Verdict.HELD


LADDER = Ladder(rates=tuple(range(100, 2100, 100)), stride=4, rounds=3, tries=5)


def search(p99: Any) -> list[dict[str, Any]]:
    """All samples of a search over a contender that *p99* describes, by rate and number."""
    rows: list[dict[str, Any]] = []
    for number in count():
        rate = LADDER.next_rate(by_rate(rows))
        if rate is None:
            return rows
        rows.append(p99(rate, number))
    raise AssertionError


def test_the_highest_rate_is_found_and_measured_three_times() -> None:
    """Few samples reach the limit, three lie on either side of it, none far beyond."""
    rows = search(lambda rate, _: sample(rate, 5 if rate <= 1100 else 200))
    samples = by_rate(rows)
    assert Limit.of(samples) == Limit(1100, 1200, Verdict.EXCEEDED)
    assert len(samples[1100]) == len(samples[1200]) == 3
    assert max(samples) == 1200
    assert len(rows) <= 10


def test_an_outlier_does_not_end_the_search() -> None:
    """A rate that failed once by chance is tried again, and the search goes on from there."""
    rows = search(lambda rate, number: sample(rate, 5 if rate <= 1100 and number != 1 else 200))
    assert Limit.of(by_rate(rows)) == Limit(1100, 1200, Verdict.EXCEEDED)


def test_the_generators_limit_is_told_from_the_contenders() -> None:
    """Where no sample keeps its schedule, nothing is said about the contender."""
    rows = search(lambda rate, _: sample(rate, 5, kept=rate <= 800))
    assert Limit.of(by_rate(rows)) == Limit(800, 900, Verdict.VOID)
    assert len(by_rate(rows)[900]) == 5
    result = {
        "rows": [row | {"mode": "open", "contender": "ours", "workload": "read"} for row in rows]
    }
    assert "| 800 | 5.0 | 900 | – | the generator's: " in tables.rates_table(result)


@pytest.mark.parametrize(
    ("p99", "limit"), [(99, Limit(0, 100, Verdict.EXCEEDED)), (5, Limit(2000, 0, None))]
)
def test_the_search_ends_at_either_end(p99: float, limit: Limit) -> None:
    """Who holds no rate, or all of them, is known as well."""
    assert Limit.of(by_rate(search(lambda rate, _: sample(rate, p99)))) == limit


@contextmanager
def busy(seconds: float) -> Iterator[int]:
    """A process that works for so long, and then waits."""
    code = (
        "import time; print(flush=True); end = time.time() + float('%s')\n"
        "while time.time() < end: pass\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code % seconds], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def _any_work_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine in use, a busy process may have less than a tenth of a processor."""
    monkeypatch.setattr(load, "IDLE_SHARE", 0)
    monkeypatch.setattr(load, "IDLE_SECONDS", 0.5)


@linux
def test_a_sample_waits_until_everybody_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What works is waited for."""
    _any_work_counts(monkeypatch)
    with busy(1.5) as pid:
        begun = time.time()
        load.settle({"a worker": pid})
        assert time.time() - begun > 1


@linux
def test_who_never_gets_idle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an end to waiting, in one sentence."""
    _any_work_counts(monkeypatch)
    monkeypatch.setattr(load, "MOST_WAIT", 0.2)
    with busy(60) as pid, pytest.raises(SystemExit, match=r"^a worker still works 0\.2 s after"):
        load.settle({"a worker": pid})


def test_copies_of_a_session_are_all_stored() -> None:
    """So many keys as cookies, each a copy, each with an expiry; and none is lost silently."""
    with DevServer(search=False) as server, Redis(port=server.port) as redis:
        redis.hset("one", mapping={"user": "ada"})
        dump = redis.dump("one")
        clone = BY_NAME["by_hand"].clone
        assert clone is not None
        cookies = fill.copy(redis, clone, dump, 2500)
        assert len(set(cookies)) == 2500
        assert redis.dbsize() == 2501
        assert redis.hgetall(f"session:{cookies[-1]}") == {b"user": b"ada"}
        assert redis.ttl(f"session:{cookies[0]}") > 0
        with pytest.raises(SystemExit, match="Redis stored 0 of 10 copies of a session"):
            fill.copy(redis, clone, b"broken", 10)


def test_the_published_tables_are_those_of_the_published_run() -> None:
    """Nobody has changed a figure by hand, or the JSON alone."""
    result = json.loads(report.LATEST.read_text())
    for document in report.DOCUMENTS:
        text = document.read_text()
        sections = [*report.SECTION.finditer(text)]
        assert sections, document.name
        for section in sections:
            assert report.fill_in(section, result) == section[0], (document.name, section[2])


def test_the_advised_settings_do_what_is_said() -> None:
    """`benchmarks.advice` runs as docs/performance.md says; the rows are those of its tables."""
    command = [sys.executable, "-m", "benchmarks.advice", "refresh_after", "listpack"]
    run = subprocess.run(
        [*command, "--rounds", "1"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    rows = {
        name: [float(cell.replace(",", "")) for cell in cells.split("|")]
        for name, cells in re.findall(r"^\| (`[^`]+`) \| (.*) \|$", run.stdout, re.MULTILINE)
    }
    (writes, bytes_, _), (fewer, less, _) = (rows[f"`refresh_after={n}`"] for n in (0, 60))
    assert (writes, fewer) == (1, 0)
    assert bytes_ > 50
    assert less < 1
    spread_out, compact = (rows[f"`hash-max-listpack-value {n}`"][0] for n in (64, 2048))
    assert compact < 0.85 * spread_out
    text = (ROOT / "docs/performance.md").read_text()
    assert "`python -m benchmarks.advice`" in text
    assert all(f"| {name} | " in text for name in rows)
