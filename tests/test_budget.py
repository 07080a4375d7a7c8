"""The regression guard: what a request costs, counted, never timed."""

import sys

import pytest

from benchmarks.counts import measure, table

pytestmark = pytest.mark.anyio

#: kind of request: (Redis commands, Python calls alone, Python calls of each of 50 at once, objects
#: that each of 50 holds while it waits for Redis). Measured on CPython 3.11 with redis-py 8.1;
#: other versions may call 5 % more.
BUDGET = {
    "untouched": (0, 25, 47, 2),
    "read": (1, 179, 100, 25),
    "write": (2, 368, 191, 23),
    "nested": (2, 404, 227, 23),
    "fetch": (1, 175, 96, 28),
    "increment": (1, 176, 97, 28),
}


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage's tracer adds calls of its own")
async def test_requests_stay_within_their_budget(session_redis_url: str) -> None:
    """Commands are exact, batches shared, calls and objects don't creep up; the output tells."""
    counts = await measure(session_redis_url)
    print(table(counts))
    for kind, (commands, alone, together, held) in BUDGET.items():
        assert counts[kind]["1"]["commands"] == commands
        assert counts[kind]["1"]["batches"] == commands
        assert counts[kind]["50"]["commands"] == commands
        assert counts[kind]["50"]["batches"] <= 2 * commands / 50
        assert counts[kind]["1"]["calls"] <= alone * 1.05
        assert counts[kind]["50"]["calls"] <= together * 1.05
        assert counts[kind]["50"]["objects held"] <= held + 2
        assert counts[kind]["1"]["left for the collector"] <= 1.5
