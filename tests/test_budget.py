"""The regression guard: what a request costs, counted, never timed."""

import sys

import pytest

from benchmarks.counts import measure, table

pytestmark = pytest.mark.anyio

#: kind of request: (Redis commands, Python calls alone, Python calls of each of 50 at once).
#: Measured on CPython 3.11 with redis-py 8.1; other versions may call 5 % more.
BUDGET = {
    "untouched": (0, 25, 46),
    "read": (1, 193, 117),
    "write": (2, 386, 216),
    "nested": (2, 421, 251),
    "fetch": (1, 177, 101),
    "increment": (1, 176, 100),
}


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage's tracer adds calls of its own")
async def test_requests_stay_within_their_budget(session_redis_url: str) -> None:
    """Commands are exact, batches are shared, calls do not creep up; the table is in the output."""
    counts = await measure(session_redis_url)
    print(table(counts))
    for kind, (commands, alone, together) in BUDGET.items():
        assert counts[kind]["1"]["commands"] == commands
        assert counts[kind]["1"]["batches"] == commands
        assert counts[kind]["50"]["commands"] == commands
        assert counts[kind]["50"]["batches"] <= 2 * commands / 50
        assert counts[kind]["1"]["calls"] <= alone * 1.05
        assert counts[kind]["50"]["calls"] <= together * 1.05
