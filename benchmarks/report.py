"""
From rows to medians, tables and plots.

    python -m benchmarks.report    publish results/latest.json again
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .contenders import BY_NAME, CONTENDERS
from .rates import P99_LIMIT, Limit, Verdict, by_rate, proven, verdict

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
DOCUMENTS = [
    HERE / "README.md",
    HERE.parent / "README.md",
    HERE.parent / "docs" / "performance.md",
]
SECTION = re.compile(r"(<!-- benchmark (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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


def _number(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:  # noqa: PLR0124  (NaN: not measured)
        return "–"
    return f"{value:,.{digits}f}"


def _spread(spread: Spread | None, digits: int = 1) -> str:
    if spread is None:
        return "–"
    middle, least, most = (_number(value, digits) for value in spread)
    return middle if least == most else f"{middle} ({least}–{most})"


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def short_table(result: dict[str, Any]) -> str:
    """Reads and writes at 64 connections."""
    figures = Figures(result)
    lines = []
    for contender in CONTENDERS:
        name = contender.name
        if figures.get(name, "read", 64, "rate") is None or name == "starlette_old":
            continue
        cells = [f"**{contender.title}**" if contender.ours else contender.title]
        for workload in ("read", "write"):
            cells.append(_number(figures.middle(name, workload, 64, "rate"), 0))
            cells.append(_number(figures.middle(name, workload, 64, "p99")))
            added = _number(figures.added(name, workload), 0)
            cells.append("–" if contender.baseline is None else added)
        lines.append(cells)
    head = ["", "read: requests/s", "p99 ms", "added CPU µs"]
    return table([*head, "write: requests/s", "p99 ms", "added CPU µs"], lines)


def latency_table(result: dict[str, Any], workload: str) -> str:
    """Everything that was counted at 64 connections, with the spread of the rounds."""
    figures = Figures(result)
    lines = []
    for contender in CONTENDERS:
        if figures.get(contender.name, workload, 64, "rate") is None:
            continue

        def cell(what: str, digits: int = 1, name: str = contender.name) -> str:
            return _spread(figures.get(name, workload, 64, what), digits)

        lines.append(
            [
                contender.title,
                cell("rate", 0),
                *(cell(what) for what in ("p50", "p90", "p99", "p99.9")),
                _number(sum(r["errors"] for r in figures.rows(contender.name, workload, 64)), 0),
                cell("cpu_us", 0),
                _number(figures.added(contender.name, workload), 0) if contender.baseline else "–",
                _number(figures.middle(contender.name, workload, 64, "redis_commands")),
                _number(figures.middle(contender.name, workload, 64, "redis_us"), 0),
                _number(figures.middle(contender.name, workload, 64, "redis_connections"), 0),
            ]
        )
    head = ["", "requests/s", "p50 ms", "p90", "p99", "p99.9", "errors", "CPU µs", "added"]
    return table([*head, "Redis commands", "Redis CPU µs", "Redis connections"], lines)


def workloads_table(result: dict[str, Any]) -> str:
    figures = Figures(result)
    workloads = ("mixed", "untouched", "login_logout", "big_read", "big_write")
    lines = []
    for contender in CONTENDERS:
        if contender.clone is None or not contender.main:
            continue
        cells = [contender.title]
        for workload in workloads:
            cells.append(_number(figures.middle(contender.name, workload, 64, "rate"), 0))
            cells.append(_number(figures.middle(contender.name, workload, 64, "p99")))
        lines.append(cells)
    head = [""]
    for name in ("9 reads, 1 write", "untouched", "login, logout", "big: read 1", "big: write 1"):
        head += [f"{name}: requests/s", "p99 ms"]
    return table(head, lines)


def connections_table(result: dict[str, Any]) -> str:
    figures = Figures(result)
    measured = {row.get("connections") for row in result["rows"] if row["workload"] == "read"}
    numbers = [number for number in (1, 8, 64, 256, 1000) if number in measured]
    lines = []
    for contender in CONTENDERS:
        cells = [contender.title]
        for connections in numbers:
            rows = figures.rows(contender.name, "read", connections)
            cells.append(_number(figures.middle(contender.name, "read", connections, "p50"), 2))
            cells.append(_number(figures.middle(contender.name, "read", connections, "p99"), 1))
            cells.append(_number(sum(row["errors"] for row in rows), 0) if rows else "–")
        last = figures.middle(contender.name, "read", 1000, "redis_connections")
        if contender.main:
            lines.append([*cells, _number(last, 0)])
    head = [""]
    for number in numbers:
        head += [f"{number:,}: p50 ms", "p99", "errors"]
    return table([*head, "Redis connections at 1,000"], lines)


def rates_table(result: dict[str, Any]) -> str:
    """Open loop: the highest rate that each holds, and what is in the way of the next."""
    figures = Figures(result)
    lines = []
    for contender in CONTENDERS:
        samples = figures.offered(contender.name)
        if not samples:
            continue
        limit = figures.limit(contender.name)
        held = _spread(figures.p99(contender.name, limit.highest)) if limit.highest else "–"
        lines.append(
            [contender.title, f"{limit.highest:,}", held, *_obstacle(figures, contender.name)]
        )
    head = ["", "highest rate with p99 < 20 ms", "p99 ms", "next rate", "p99 ms", "whose limit"]
    return table(head, lines)


def _obstacle(figures: Figures, name: str) -> tuple[str, str, str]:
    """The first rate that was not held, its p99, and whose limit that is."""
    limit, samples = figures.limit(name), figures.offered(name)
    if limit.why is None:
        return "–", "–", "none: no higher rate was tried"
    rows = samples[limit.above]
    kept, errors = len(proven(rows)), median(row["errors"] for row in rows)
    rate, late = f"{limit.above:,}", _spread(figures.p99(name, limit.above))
    if limit.why is Verdict.VOID:
        return rate, late, f"the generator's: kept its schedule in 0 of {len(rows)} samples"
    return (
        rate,
        late,
        (
            f"the contender's: {kept} of {len(rows)} samples"
            f" kept their schedule{f', {errors:,.0f} errors' if errors else ''}"
        ),
    )


def collector_table(result: dict[str, Any]) -> str:
    figures = Figures(result)
    lines = []
    for base in COLLECTED:
        for workload in ("read", "write"):
            cells = [BY_NAME[base].title, workload]
            names = [f"{base}@{gc}" for gc in ("usual", "freeze", "freeze+thresholds")]
            p99s = [_spread(figures.get(name, workload, 64, "p99")) for name in names]
            lines.append([*cells, *p99s])
    return table(
        ["", "", "p99 ms as it comes", "`gc.freeze()`", "and `gc.set_threshold(50_000, 20, 100)`"],
        lines,
    )


def growth_table(result: dict[str, Any]) -> str:
    figures = Figures(result)
    lines = []
    for count in (1_000, 100_000, 1_000_000):
        name = f"ours#{count}"
        lines.append(
            [
                f"{count:,}",
                _spread(figures.get(name, "read", 1, "p50"), 3),
                _spread(figures.get(name, "read", 64, "p50"), 2),
                _spread(figures.get(name, "read", 64, "p99"), 2),
                _spread(figures.get(name, "read", 64, "redis_us"), 1),
            ]
        )
    head = ["sessions stored", "p50 ms, 1 connection", "p50 ms, 64", "p99 ms, 64", "Redis CPU µs"]
    return table(head, lines)


def memory_table(result: dict[str, Any]) -> str:
    lines = [
        [BY_NAME[name].title, *(f"{sizes[size]:,}" for size in ("small", "cart"))]
        for name, sizes in result["memory"].items()
    ]
    return table(["", "5 fields: bytes", "with a cart of 1 KB: bytes"], lines)


def _proof(own: Limit, peer: Limit) -> str:
    """What the ratio of two highest rates leaves open."""
    unknown = [
        f"; {whose} may be higher, the generator's limit came first"
        for whose, limit in (("ours", own), ("the peer's", peer))
        if limit.why is not Verdict.EXCEEDED
    ]
    return "".join(unknown)


#: Figure, target, what was measured (lazy; and with autoload, where it makes a difference).
Target = tuple[str, str, list[tuple[str, bool]]]


def targets(result: dict[str, Any]) -> list[Target]:
    """What was to be reached: figure, target, and whether what was measured has reached it."""
    figures = Figures(result)
    peers = [c.name for c in CONTENDERS if c.in_redis and not c.ours]
    main_peers = [name for name in peers if BY_NAME[name].main]
    found: list[Target] = []

    def ratio(figure: str, own: Sequence[float], other: float, most: float, of: str) -> None:
        values = [(f"{value / other:.2f} ×", value / other <= most) for value in own]
        found.append((figure, f"≤ {most:g} × {of}", values))

    def both(name: str, workload: str) -> list[float]:
        return [figures.added(mode, workload) for mode in (name, f"{name}_autoload")]

    sdk, cookie, peer = "fastapi_redis_sdk", "signed_cookie", "starsessions_redis"
    for workload, most in (("read", 1.0), ("write", 1.3)):
        on_fastapi = both("ours_fastapi", workload)
        own, figure = both("ours", workload), f"added CPU, {workload}"
        ratio(figure, own, figures.added(cookie, workload), most, "signed cookie")
        if workload == "read":
            ratio(figure, own, figures.added(peer, workload), 0.2, "starsessions")
        ratio(f"{figure}, on FastAPI", on_fastapi, figures.added(sdk, workload), 0.2, sdk)
    for workload in ("read", "write"):
        best = min(figures.middle(name, workload, 64, "p99") for name in peers)
        own = [figures.middle(name, workload, 64, "p99") for name in ("ours", "ours_autoload")]
        ratio(f"p99, {workload}", own, best, 0.5, "the best Redis peer")
    for workload in ("read", "write"):
        none, frozen = (
            figures.middle(f"{n}@freeze", workload, 64, "p99") for n in ("starlette", "ours")
        )
        ratio(f"p99 with gc.freeze(), {workload}", [frozen], none, 2.5, "no session, frozen too")
    best_limit = max((figures.limit(name) for name in main_peers), key=lambda limit: limit.highest)
    limit = figures.limit("ours")
    rate = limit.highest / max(1, best_limit.highest)
    found.append(
        (
            "open-loop rate with p99 < 20 ms",
            "≥ 3 × the best Redis peer",
            [(f"{rate:.2f} ×{_proof(limit, best_limit)}", rate >= 3)],
        )
    )
    rows = figures.rows("ours", "read", 1000)
    errors, links = sum(r["errors"] for r in rows), max(r["redis_connections"] for r in rows)
    found.append(
        (
            "1,000 connections",
            "0 errors, ≤ 4 Redis connections",
            [(f"{errors} errors, {links} Redis connections", errors == 0 and links <= 4)],
        )
    )
    small, large = (figures.middle(f"ours#{n}", "read", 1, "p50") for n in (1_000, 1_000_000))
    ratio("load latency, 1,000,000 stored", [large], small, 1.2, "1,000 stored")
    stored = result["memory"]
    least = min(stored[name]["small"] for name in peers)
    small = stored["ours"]["small"]
    ratio("memory of a 5-field session", [small], least, 1.3, "the smallest peer")
    none = figures.middle("starlette", "read", 1, "p50")
    best = min(
        figures.middle(name, "read", 1, "p50") for name in main_peers if "fastapi" not in name
    )
    added = [figures.middle("ours", "read", 1, "p50") - none]
    ratio("latency added at 1 connection, read", added, best - none, 0.6, "the best Redis peer")
    return found


def targets_table(result: dict[str, Any]) -> str:
    lines = []
    for figure, target, (measured, *more) in targets(result):
        cells = [f"{text}, {'yes' if reached else '**no**'}" for text, reached in (measured, *more)]
        lines.append([figure, target, *cells, *["–"] * (2 - len(cells))])
    return table(["figure", "target", "as it comes", "with `autoload=True`"], lines)


def about(result: dict[str, Any]) -> str:
    meta = result["meta"]
    versions = ", ".join(f"{n} {v}" for n, v in meta["packages"][".venv-bench"].items())
    old = ", ".join(f"{n} {v}" for n, v in meta["packages"][".venv-bench-old"].items())
    foreign = median(row["foreign"] for row in result["rows"])
    again = sum(row["taken"] > 1 for row in result["rows"])
    disturbed = sum(row["foreign"] > FOREIGN_LIMIT for row in result["rows"])
    void = sum(not row.get("kept_schedule", True) for row in result["rows"])
    return (
        f"Measured on {meta['date'][:10]} at commit {meta['commit']}: {meta['cpu']}, "
        f"{meta['cores']} cores, {meta['system']}, Python {meta['python']}, Redis {meta['redis']}; "
        f"{versions}. starlette-session has an environment of its own: {old}.\n\n"
        f"Others (programs, and workers that were not under test) took a median of {foreign:.1%} "
        f"of one core during the {len(result['rows'])} samples; {again} were taken again because "
        f"of them, and the quietest was kept, which still was disturbed for {disturbed}. {void} "
        "open-loop samples did not keep their schedule; they are void, and counted neither for nor "
        "against anybody."
    )


def quick(result: dict[str, Any]) -> str:
    """What a short run shows: the tables that it has samples for."""
    rows = result["rows"]
    disturbed = f"{sum(row['foreign'] > FOREIGN_LIMIT for row in rows)} of {len(rows)}"
    return "\n\n".join(
        (
            "## Reads and writes at 64 connections",
            short_table(result),
            "## Reads at more connections",
            connections_table(result),
            "## Reads at fixed rates",
            rates_table(result),
            f"One short round; others disturbed {disturbed} samples. `make bench` takes medians.",
        )
    )


# --- Plots ---


def plots(result: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (only this needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figures = Figures(result)
    folder.mkdir(exist_ok=True)
    _plot_rates(plt, figures, folder / "p99_by_rate.png")
    _plot_added(plt, figures, folder / "added_cpu.png")
    _plot_distribution(plt, figures, folder / "latency_distribution.png")


def _style(name: str) -> dict[str, Any]:
    ours, plain = BY_NAME[name].ours, BY_NAME[name].clone is None
    colors = {
        "signed_cookie": "#8c8c8c",
        "by_hand": "#e08214",
        "guide": "#b35806",
        "starsessions_redis": "#7b3294",
        "fastapi_redis_sdk": "#2166ac",
    }
    return {
        "color": "#1a9850" if ours else "#cccccc" if plain else colors.get(name, "#555555"),
        "linewidth": 3 if ours else 1.5,
        "label": BY_NAME[name].title,
    }


def _plot_rates(plt: Any, figures: Figures, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 5))
    for contender in CONTENDERS:
        samples = figures.offered(contender.name)
        proved = [rate for rate in sorted(samples) if verdict(samples[rate]) is not Verdict.VOID]
        # A median of answers that were refused would look fast.
        rates = [rate for rate in proved if not median(row["errors"] for row in samples[rate])]
        late = [found.middle for rate in rates if (found := figures.p99(contender.name, rate))]
        if rates:
            axes.plot(rates, late, marker="o", markersize=4, **_style(contender.name))
    axes.axhline(P99_LIMIT / 1000, color="black", linestyle=":", linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="offered requests per second",
        ylabel="p99 in ms, from due time",
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(plt.FixedLocator((500, 1000, 2000, 4000, 8000, 16_000)))
    axes.xaxis.set_minor_locator(plt.NullLocator())
    axes.set_title("One worker, reads at a fixed rate: where does p99 leave 20 ms?")
    _save(plt, figure, axes, path)


def _plot_added(plt: Any, figures: Figures, path: Path) -> None:
    names = [
        c.name for c in CONTENDERS if c.baseline and figures.get(c.name, "write", 64, "cpu_us")
    ]
    figure, axes = plt.subplots(figsize=(9, 5))
    places = range(len(names))
    for offset, workload, shade in ((0.2, "read", 0.55), (-0.2, "write", 1.0)):
        values = [figures.added(name, workload) for name in names]
        colors = [_style(name)["color"] for name in names]
        bars = axes.barh(
            [place + offset for place in places], values, 0.38, color=colors, alpha=shade
        )
        axes.bar_label(bars, [f"{workload} {value:.0f}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(list(places), [BY_NAME[name].title for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("µs of the worker's CPU per request, beyond the same app without sessions")
    axes.set_title("What a session adds to a request")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_distribution(plt: Any, figures: Figures, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 5))
    quantiles = ("50", "75", "90", "95", "99", "99.5", "99.9")
    for contender in CONTENDERS:
        rows = figures.rows(contender.name, "read", 64)
        if rows and contender.main:
            middle = [median(row["latency"][q] for row in rows) / 1000 for q in quantiles]
            axes.plot(
                range(len(quantiles)), middle, marker="o", markersize=4, **_style(contender.name)
            )
    axes.set_xticks(range(len(quantiles)), [f"p{q}" for q in quantiles])
    axes.set(yscale="log", ylabel="latency in ms", xlabel="share of requests that were faster")
    axes.set_title("Reads at 64 connections: from the typical request to the slowest")
    _save(plt, figure, axes, path)


def _save(plt: Any, figure: Any, axes: Any, path: Path) -> None:
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


# --- Publishing ---

SECTIONS = {
    "about": about,
    "short": short_table,
    "targets": targets_table,
    "read": lambda result: latency_table(result, "read"),
    "write": lambda result: latency_table(result, "write"),
    "workloads": workloads_table,
    "connections": connections_table,
    "rates": rates_table,
    "collector": collector_table,
    "growth": growth_table,
    "memory": memory_table,
}


def publish(result: dict[str, Any]) -> None:
    """Write the JSON, the plots, and the tables between their marks in the documents."""
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(result, indent=1) + "\n")
    plots(result, HERE / "plots")
    for document in DOCUMENTS:
        document.write_text(SECTION.sub(lambda m: fill_in(m, result), document.read_text()))


def fill_in(section: re.Match[str], result: dict[str, Any]) -> str:
    return f"{section[1]}\n{SECTIONS[section[2]](result)}\n\n{section[3]}"


if __name__ == "__main__":
    publish(json.loads(LATEST.read_text()))
