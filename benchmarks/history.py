"""
One line for each published run, and a plot of them.

A run that is published again replaces its own line.
"""

import json
from pathlib import Path
from typing import Any

from .figures import HERE, Figures
from .targets import reached, targets

HISTORY = HERE / "results" / "history.jsonl"
#: What a line holds of the targets, and what is plotted: ratios, as the library comes.
RATIOS = (
    "added CPU, read ≤ 0.9 × signed cookie",
    "added CPU, write ≤ 1.1 × signed cookie",
    "p99, read ≤ 0.4 × the best Redis peer",
    "p99, write ≤ 0.5 × the best Redis peer",
    "Redis CPU, read ≤ 1.5 × one pipeline by hand",
    "Redis CPU, write ≤ 2.2 × one pipeline by hand",
)


def line_of(result: dict[str, Any]) -> dict[str, Any]:
    """What remains of a run."""
    found, figures, meta = targets(result), Figures(result), result["meta"]
    values = {f"{t.figure} {t.bound}": t.measured[0].value for t in found}
    kept, measured = reached(found)
    return {
        "date": meta["date"],
        "commit": meta["commit"],
        "reached": kept,
        "measured": measured,
        "ratios": {name: round(values[name], 2) for name in RATIOS if values[name] > 0},
        **{
            f"{workload} requests/s": round(figures.middle("ours", workload, 64, "rate"))
            for workload in ("read", "write")
        },
    }


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in HISTORY.read_text().splitlines()]


def append(result: dict[str, Any]) -> None:
    """Add the line of this run, or replace it."""
    new = line_of(result)
    known = lines() if HISTORY.exists() else []
    others = [line for line in known if line["date"] != new["date"]]
    every = sorted([*others, new], key=lambda line: str(line["date"]))
    HISTORY.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in every))


def plot(path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (only this needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    known = lines()
    names = [f"{line['date'][:10]}\n{line['commit']}" for line in known]
    figure, axes = plt.subplots(figsize=(9, 5))
    for ratio in RATIOS:
        values = [line["ratios"].get(ratio, float("nan")) for line in known]
        axes.plot(range(len(known)), values, marker="o", markersize=4, label=ratio)
    axes.set_xticks(range(len(known)), names, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ratio (less is better)")
    axes.set_title("Published runs: what was measured, by what is to be reached")
    axes.grid(visible=True, alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
