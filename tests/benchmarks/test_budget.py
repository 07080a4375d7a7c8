"""The regression guard: what a request costs, counted, never timed."""

import gc
import sys

import pytest

from benchmarks.counts import KINDS, beyond, measure, nothing_given_back, pieces, table


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
    """Commands and batches are exact, nothing is left over, and Python calls don't creep up."""
    gc.collect()
    gc.freeze()  # `measure` collects 72 times, which takes long if it looks at all other tests
    counts = await measure(session_redis_url)
    most_pieces = pieces(session_redis_url)
    print(table(counts, most_pieces))
    assert list(counts) == [kind.__name__ for kind in KINDS]
    assert beyond(counts, most_pieces) == []


def test_each_kind_of_excess_is_named() -> None:
    """A command more, a batch more, something left over, a quarter more calls: a sentence each."""
    exact = {
        kind.__name__: {
            at_once: {
                "commands": budget.commands,
                "batches": budget.trips / int(at_once),
                "calls": budget.calls[at_once],
                "left for the collector": 0.0,
            }
            for at_once in ("1", "50")
        }
        for kind, budget in KINDS.items()
    }
    assert beyond(exact, 1) == []
    exact["read"]["1"]["commands"] += 1
    exact["write"]["50"]["batches"] += 0.03
    exact["login"]["50"]["left for the collector"] = 0.01
    exact["renew"]["1"]["calls"] *= 1.26
    assert [found.partition(":")[0] for found in beyond(exact, 1)] == [
        "read, 1 at once",
        "write, 50 at once",
        "login, 50 at once",
        "renew, 1 at once",
    ]
