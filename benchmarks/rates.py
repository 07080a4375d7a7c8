"""
The highest rate at which a contender still answers in time: which sample it takes to know, and
what the samples say.

A sample whose generator did not keep its schedule is void: it says nothing about the contender,
neither that it is fast enough nor that it isn't.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

Row = dict[str, Any]
Samples = Mapping[int, Sequence[Row]]
#: 99 of 100 answers have to come within this time (µs) of the instant at which they were due.
P99_LIMIT = 20_000


class Verdict(StrEnum):
    """What the samples at one rate say."""

    HELD = "held"
    EXCEEDED = "exceeded"
    VOID = "void"


def proven(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["kept_schedule"]]


def verdict(rows: Sequence[Row]) -> Verdict | None:
    """By the medians of those that kept their schedule; `None` without a sample."""
    if not rows:
        return None
    if not (kept := proven(rows)):
        return Verdict.VOID
    late = median(row["latency"]["99"] for row in kept) >= P99_LIMIT
    wrong = median(row["errors"] for row in kept) > 0
    return Verdict.EXCEEDED if late or wrong else Verdict.HELD


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """
    The rates to try, and how: up in strides, then by halves, then in *rounds* on either side of
    the limit. A rate with void samples is tried *tries* times before the generator is given up.
    """

    rates: Sequence[int]
    stride: int
    rounds: int
    tries: int

    def next_rate(self, samples: Samples) -> int | None:
        """The rate at which one more sample says most; `None` if the limit is known."""
        held, limit = self._edge(samples)
        if limit is None and held < len(self.rates) - 1:
            return self.rates[min(held + self.stride, len(self.rates) - 1)]
        if limit is not None and limit - held > 1:
            return self.rates[(held + limit) // 2]
        edge = [self.rates[place] for place in (held, limit) if place is not None and place >= 0]
        open_ = [rate for rate in edge if not self._decided(samples.get(rate, ()))]
        return min(open_, key=lambda rate: len(samples.get(rate, ())), default=None)

    def _edge(self, samples: Samples) -> tuple[int, int | None]:
        """Places of the last rate that is held (-1: none), and of the first that isn't."""
        held = -1
        for place, rate in enumerate(self.rates):
            said = verdict(samples.get(rate, ()))
            if said is Verdict.HELD:
                held = place
            elif said is not None:
                return held, place
        return held, None

    def _decided(self, rows: Sequence[Row]) -> bool:
        return len(proven(rows)) >= self.rounds or len(rows) >= self.tries


@dataclass(frozen=True)
class Limit:
    """*highest* was held (0: none was), *above* was not (0: there was no higher one)."""

    highest: int
    above: int
    why: Verdict | None

    @classmethod
    def of(cls, samples: Samples) -> "Limit":
        highest = 0
        for rate in sorted(samples):
            why = verdict(samples[rate])
            if why is not Verdict.HELD:
                return cls(highest, rate, why)
            highest = rate
        return cls(highest, 0, None)


def by_rate(rows: Iterable[Row]) -> dict[int, list[Row]]:
    samples: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        samples[row["offered"]].append(row)
    return samples
