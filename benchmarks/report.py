"""
From rows to medians, tables and plots.

    python -m benchmarks.report    publish results/latest.json again
"""

import json
import re
from typing import Any

from . import history, scale_report
from .figures import HERE
from .instructions import instructions_table
from .overload import overload_table
from .plots import plots
from .shoppers import shoppers_table
from .tables import (
    about,
    collector_table,
    connections_table,
    growth_table,
    latency_table,
    memory_table,
    rates_table,
    short_table,
    workloads_table,
)
from .targets import missed_table, targets_table

LATEST = HERE / "results" / "latest.json"
DOCUMENTS = [
    HERE / "README.md",
    HERE.parent / "README.md",
    HERE.parent / "docs" / "performance.md",
    HERE.parent / "docs" / "scale.md",
]
SECTION = re.compile(r"(<!-- benchmark (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Parts of a run that are measured on their own; an older result lacks them.
PARTS = ("instructions", "overload", "scale", "shoppers")
SECTIONS = {
    "about": about,
    "short": short_table,
    "targets": targets_table,
    "missed": missed_table,
    "read": lambda result: latency_table(result, "read"),
    "write": lambda result: latency_table(result, "write"),
    "workloads": workloads_table,
    "connections": connections_table,
    "rates": rates_table,
    "collector": collector_table,
    "growth": growth_table,
    "memory": memory_table,
    "instructions": instructions_table,
    "overload": overload_table,
    "shoppers": shoppers_table,
    **scale_report.SECTIONS,
}


def published() -> dict[str, Any]:
    """The figures of the last run that was published."""
    found: dict[str, Any] = json.loads(LATEST.read_text())
    return found


def publish(result: dict[str, Any]) -> None:
    """Write the JSON, the plots, and the tables between their marks in the documents."""
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(result, indent=1) + "\n")
    plots(result, HERE / "plots")
    history.append(result)
    history.plot(HERE / "plots" / "history.png")
    if "scale" in result:
        scale_report.plots(result)
    for document in DOCUMENTS:
        document.write_text(SECTION.sub(lambda m: fill_in(m, result), document.read_text()))


def fill_in(section: re.Match[str], result: dict[str, Any]) -> str:
    part = section[2].partition("_")[0]
    is_missing = part in PARTS and part not in result
    text = "Not measured yet." if is_missing else SECTIONS[section[2]](result)
    return f"{section[1]}\n{text}\n\n{section[3]}"


if __name__ == "__main__":
    publish(published())
