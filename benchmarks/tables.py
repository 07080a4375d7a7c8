"""The tables of the contenders, side by side."""

from statistics import median
from typing import Any

from .contenders import BY_NAME, CONTENDERS
from .figures import COLLECTED, FOREIGN_LIMIT, Figures, number, spread, table
from .rates import Verdict, proven


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
            cells.append(number(figures.middle(name, workload, 64, "rate"), 0))
            cells.append(number(figures.middle(name, workload, 64, "p99")))
            added = number(figures.added(name, workload), 0)
            cells.append("–" if contender.baseline is None else added)
            redis = number(figures.middle(name, workload, 64, "redis_us"))
            cells.append(redis if contender.in_redis else "–")
        alone = number(figures.middle(name, "read", 1, "p50"), 2)
        cells.append(alone)
        lines.append(cells)
    head = [""]
    for workload in ("read", "write"):
        head += [f"{workload}: requests/s", "p99 ms", "added CPU µs", "Redis CPU µs"]
    return table([*head, "one connection: read, p50 ms"], lines)


def latency_table(result: dict[str, Any], workload: str) -> str:
    """Everything that was counted at 64 connections, with the spread of the rounds."""
    figures = Figures(result)
    lines = []
    for contender in CONTENDERS:
        if figures.get(contender.name, workload, 64, "rate") is None:
            continue

        def cell(what: str, digits: int = 1, name: str = contender.name) -> str:
            return spread(figures.get(name, workload, 64, what), digits)

        lines.append(
            [
                contender.title,
                cell("rate", 0),
                *(cell(what) for what in ("p50", "p90", "p99", "p99.9")),
                number(sum(r["errors"] for r in figures.rows(contender.name, workload, 64)), 0),
                cell("cpu_us", 0),
                number(figures.added(contender.name, workload), 0) if contender.baseline else "–",
                number(figures.middle(contender.name, workload, 64, "redis_commands")),
                number(figures.middle(contender.name, workload, 64, "redis_us"), 1),
                number(figures.middle(contender.name, workload, 64, "redis_connections"), 0),
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
            cells.append(number(figures.middle(contender.name, workload, 64, "rate"), 0))
            cells.append(number(figures.middle(contender.name, workload, 64, "p99")))
        lines.append(cells)
    head = [""]
    for name in ("9 reads, 1 write", "untouched", "login, logout", "big: read 1", "big: write 1"):
        head += [f"{name}: requests/s", "p99 ms"]
    return table(head, lines)


def connections_table(result: dict[str, Any]) -> str:
    figures = Figures(result)
    measured = {row.get("connections") for row in result["rows"] if row["workload"] == "read"}
    counts = [count for count in (1, 8, 64, 256, 1000) if count in measured]
    lines = []
    for contender in CONTENDERS:
        cells = [contender.title]
        for connections in counts:
            rows = figures.rows(contender.name, "read", connections)
            cells.append(number(figures.middle(contender.name, "read", connections, "p50"), 2))
            cells.append(number(figures.middle(contender.name, "read", connections, "p99"), 1))
            cells.append(number(sum(row["errors"] for row in rows), 0) if rows else "–")
        last = figures.middle(contender.name, "read", 1000, "redis_connections")
        if contender.main:
            lines.append([*cells, number(last, 0)])
    head = [""]
    for count in counts:
        head += [f"{count:,}: p50 ms", "p99", "errors"]
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
        held = spread(figures.p99(contender.name, limit.highest)) if limit.highest else "–"
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
    rate, late = f"{limit.above:,}", spread(figures.p99(name, limit.above))
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
            p99s = [spread(figures.get(name, workload, 64, "p99")) for name in names]
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
                spread(figures.get(name, "read", 1, "p50"), 3),
                spread(figures.get(name, "read", 64, "p50"), 2),
                spread(figures.get(name, "read", 64, "p99"), 2),
                spread(figures.get(name, "read", 64, "redis_us"), 1),
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
