"""The regression guard: what a request costs, counted, never timed."""

import sys

import pytest

from benchmarks.counts import measure, nothing_given_back, table

#: kind of request: (Redis commands, Python calls alone, Python calls of each of 50 at once, blocks
#: taken alone, blocks taken by each of 50, objects that each of 50 holds while it waits for Redis).
#: Measured on CPython 3.11 with redis-py 8.1; other versions may need 5 % more.
BUDGET = {
    "untouched": (0, 26, 48, 21, 37, 2),
    "read": (1, 176, 96, 192, 107, 20),
    "write": (2, 366, 187, 390, 212, 18),
    "nested": (2, 401, 222, 425, 248, 18),
    "fetch": (1, 176, 96, 182, 98, 25),
    "increment": (1, 177, 97, 187, 102, 26),
}


def test_blocks_are_counted_that_were_given_back() -> None:
    """A thousand buffers, one after the other, are a thousand blocks."""
    with nothing_given_back():
        before = sys.getallocatedblocks()
        for _ in range(1000):
            bytes(100)
        taken = sys.getallocatedblocks() - before
    assert 1000 <= taken <= 1800  # the numbers up to 1000 are objects, too


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage's tracer adds calls of its own")
async def test_requests_stay_within_their_budget(session_redis_url: str) -> None:
    """Commands are exact, batches shared, nothing is left over, and the rest does not creep up."""
    counts = await measure(session_redis_url)
    print(table(counts))
    for kind, budget in BUDGET.items():
        commands, alone, together, blocks_alone, blocks_together, held = budget
        assert counts[kind]["1"]["commands"] == commands
        assert counts[kind]["1"]["batches"] == commands
        assert counts[kind]["50"]["commands"] == commands
        assert counts[kind]["50"]["batches"] <= 2 * commands / 50
        assert counts[kind]["1"]["calls"] <= alone * 1.05
        assert counts[kind]["50"]["calls"] <= together * 1.05
        assert counts[kind]["1"]["blocks"] <= blocks_alone * 1.05
        assert counts[kind]["50"]["blocks"] <= blocks_together * 1.05
        assert counts[kind]["50"]["objects held"] <= held + 2
        assert counts[kind]["1"]["left for the collector"] == 0
        assert counts[kind]["50"]["left for the collector"] == 0
