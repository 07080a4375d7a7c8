"""The tables and plots of docs/scale.md, and what follows from them by arithmetic."""

from math import ceil
from pathlib import Path
from typing import Any

from .contenders import BY_NAME
from .figures import HERE, Figures, number, stamp, table
from .scale import AT_ONCE, FIELDS, MEMORY, PROCESSES, STORED, WRITES, middle

DOCS = HERE.parent / "docs"
#: The example: so many sessions, requests a second, and workers.
SESSIONS, REQUESTS, WORKERS = 100_000_000, 100_000, 200
#: Of a node's memory, and of its processor, so much is planned for.
NODE_GB, SHARE_OF_NODE = 32, 0.6
#: A process has so many connections to each node, as was measured with 1,000 clients.
LINKS = 2
VALUE_BYTES = {"f10": 10 * 16, "f50": 50 * 16, "f200": 200 * 16}


def about(result: dict[str, Any]) -> str:
    return stamp(result["scale"]["meta"])


def one_table(result: dict[str, Any]) -> str:
    """What one Redis is asked for, and what it takes for it."""
    rows, lines = result["scale"]["capacity"], []
    for mix in WRITES:
        for processes in PROCESSES:
            which = {"where": "one", "mix": mix, "processes": processes}
            rate, spent = (middle(rows, what, **which) for what in ("rate", "redis_us"))
            share = f"{rate * spent / 1e6:.0%}"
            cells = [mix, f"{processes}", number(rate, 0), number(spent), share]
            lines.append([*cells, number(1e6 / spent, 0)])
    head = ["", "processes", "requests/s here", "Redis CPU µs per request", "share of a core"]
    return table([*head, "requests/s of a whole core (computed)"], lines)


def cluster_table(result: dict[str, Any]) -> str:
    """What each of three masters takes for a request, beside one server."""
    every, lines = result["scale"]["capacity"], []
    for mix in WRITES:
        for at_once in (AT_ONCE, 3 * AT_ONCE):
            rows = [
                row
                for row in every
                if (row["where"], row["mix"], row["at_once"]) == ("cluster", mix, at_once)
            ]
            nodes = [middle([{"us": row["redis_us"][n]} for row in rows], "us") for n in range(3)]
            alone = middle(every, "redis_us", where="one", mix=mix, processes=4)
            cells = [mix, f"{at_once}", number(alone), *map(number, nodes), number(sum(nodes))]
            lines.append([*cells, f"{alone / max(nodes):.1f} ×"])
    head = ["", "at once", "one server: CPU µs per request", "node 1", "node 2", "node 3"]
    return table([*head, "all nodes", "what three cores carry, to one (computed)"], lines)


def workers_table(result: dict[str, Any]) -> str:
    """How many busy workers one core of Redis serves: the worker's CPU by Redis' CPU."""
    figures, lines = Figures(result), []
    for title, workload in (("read", "read"), ("write", "write")):
        own, redis = (figures.middle("ours", workload, 64, w) for w in ("cpu_us", "redis_us"))
        lines.append([title, number(own, 0), number(redis), number(own / redis)])
    head = ["", "worker's CPU µs per request", "Redis CPU µs", "busy workers per Redis core"]
    return table(head, lines)


def memory_table(result: dict[str, Any]) -> str:
    memory, lines = result["scale"]["memory"], []
    lines.append(["the values alone", *[number(VALUE_BYTES[size], 0) for size in MEMORY]])
    for name, sizes in memory.items():
        title = BY_NAME[name].title
        cells = [
            f"{number(sizes[size], 0)} ({sizes[size] / VALUE_BYTES[size]:.1f} ×)" for size in MEMORY
        ]
        lines.append([f"**{title}**" if BY_NAME[name].ours else title, *cells])
    return table(["bytes per session", "10 fields", "50 fields", "200 fields"], lines)


def example(result: dict[str, Any]) -> str:
    """100 million sessions: memory, nodes and connections, computed from what was measured."""
    each = result["scale"]["memory"]["ours"]["f10"]
    gigabytes = each * SESSIONS / 1e9
    by_memory = ceil(gigabytes / (NODE_GB * SHARE_OF_NODE))
    spent = middle(
        result["scale"]["capacity"], "redis_us", where="one", mix="20 % writes", processes=4
    )
    by_processor = ceil(REQUESTS * spent / 1e6 / SHARE_OF_NODE)
    nodes = max(3, by_memory, by_processor)
    lines = [
        ["memory", f"{each} bytes × {SESSIONS:,}", f"{gigabytes:.0f} GB"],
        [
            f"nodes for the memory, {NODE_GB} GB each, {SHARE_OF_NODE:.0%} of it planned for",
            f"{gigabytes:.0f} GB / {NODE_GB * SHARE_OF_NODE:.1f} GB",
            f"{by_memory}",
        ],
        [
            f"nodes for {REQUESTS:,} requests/s, 20 % writes, {SHARE_OF_NODE:.0%} of a core",
            f"{REQUESTS:,} × {spent:.1f} µs / {SHARE_OF_NODE}",
            f"{by_processor}",
        ],
        ["masters, and as many replicas", "the larger of both", f"{nodes}"],
        [
            f"connections of {WORKERS} workers, at each node",
            f"{WORKERS} × {LINKS}",
            f"{WORKERS * LINKS:,}",
        ],
        ["connections of one worker", f"{nodes} × {LINKS}", f"{nodes * LINKS}"],
    ]
    return table(["100 million sessions of 10 fields", "computed as", "result"], lines)


def plots(result: dict[str, Any], folder: Path = DOCS) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (only this needs it)

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "the same file for the same figures"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    for what, numbers, label in (
        ("fields", FIELDS, "fields of the session"),
        ("sessions", STORED, "sessions in Redis"),
    ):
        rows = result["scale"][what]
        figure, axes = plt.subplots(figsize=(8, 4))
        for cost, title in (("load_us", "load"), ("commit_us", "commit of one field")):
            values = [middle(rows, cost, **{what: count}) for count in numbers]
            axes.plot(numbers, values, marker="o", markersize=4, label=title)
        axes.set(xscale="log", xlabel=label, ylabel="µs of Redis' CPU")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=True, alpha=0.2)
        axes.legend()
        figure.tight_layout()
        figure.savefig(folder / f"scale_{what}.svg", metadata={"Date": None})
        plt.close(figure)


SECTIONS = {
    "scale_about": about,
    "scale_one": one_table,
    "scale_cluster": cluster_table,
    "scale_workers": workers_table,
    "scale_memory": memory_table,
    "scale_example": example,
}
