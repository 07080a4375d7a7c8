"""What was to be reached, what was measured, and whether that is enough."""

from collections.abc import Sequence
from typing import Any

from .contenders import BY_NAME, CONTENDERS
from .figures import Figures, table
from .rates import Limit, Verdict


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
