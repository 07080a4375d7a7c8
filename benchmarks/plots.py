"""The plots of the contenders, side by side."""

from pathlib import Path
from statistics import median
from typing import Any

from .contenders import BY_NAME, CONTENDERS
from .figures import Figures
from .rates import P99_LIMIT, Verdict, verdict


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
