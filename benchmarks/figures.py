"""The rows of a run, to be asked for medians, and cells that show them."""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .contenders import BY_NAME
from .rates import Limit, by_rate, proven

HERE = Path(__file__).parent
#: A sample during which others had more of the machine than this is disturbed.
FOREIGN_LIMIT = 0.15
#: Whose garbage collector is tuned as well.
COLLECTED = ("starlette", "by_hand", "starsessions_redis", "ours")

Row = dict[str, Any]


class Spread(NamedTuple):
    """The median of some rounds, and the least and the most of them."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


class Figures:
    """The rows of one run, to be asked for medians."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        self._rows: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in result["rows"]:
            key = (row["contender"], row["workload"], row.get("connections", row.get("offered")))
            self._rows[row["mode"], *key].append(row)

    def rows(self, name: str, workload: str, connections: int, mode: str = "closed") -> list[Row]:
        return self._rows[mode, name, workload, connections]

    def get(self, name: str, workload: str, connections: int, what: str) -> Spread | None:
        rows = self.rows(name, workload, connections)
        if not rows:
            return None
        if what.startswith("p"):
            return Spread.of([row["latency"][what[1:]] / 1000 for row in rows])
        return Spread.of([row[what] for row in rows])

    def middle(self, name: str, workload: str, connections: int, what: str) -> float:
        spread = self.get(name, workload, connections, what)
        return float("nan") if spread is None else spread.middle

    def added(self, name: str, workload: str) -> float:
        """CPU per request (µs) beyond the same app without sessions."""
        own = self.middle(name, workload, 64, "cpu_us")
        baseline = BY_NAME[name.partition("@")[0]].baseline
        return own - self.middle(baseline, workload, 64, "cpu_us") if baseline else 0.0

    def offered(self, name: str) -> dict[int, list[Row]]:
        """The open-loop samples, by rate."""
        return by_rate(
            row for key, some in self._rows.items() if key[:2] == ("open", name) for row in some
        )

    def limit(self, name: str) -> Limit:
        return Limit.of(self.offered(name))

    def p99(self, name: str, rate: int) -> Spread | None:
        """Of the open-loop samples that kept their schedule (ms)."""
        late = [row["latency"]["99"] / 1000 for row in proven(self.offered(name).get(rate, ()))]
        return Spread.of(late) if late else None


def number(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:  # noqa: PLR0124  (NaN: not measured)
        return "–"
    return f"{value:,.{digits}f}"


def spread(found: Spread | None, digits: int = 1) -> str:
    if found is None:
        return "–"
    middle, least, most = (number(value, digits) for value in found)
    return middle if least == most else f"{middle} ({least}–{most})"


def stamp(meta: dict[str, Any]) -> str:
    """When and on what a part of a run was measured."""
    return (
        f"Measured on {meta['date'][:10]} at commit {meta['commit']}: {meta['cpu']}, "
        f"{meta['cores']} cores, Python {meta['python']}, Redis {meta['redis']}."
    )


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
