"""What was to be reached, what was measured, and whether that is enough."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import isnan
from typing import Any, NamedTuple

from .contenders import BY_NAME, CONTENDERS
from .figures import Figures, table
from .rates import Limit, Verdict

PEERS = [c.name for c in CONTENDERS if c.is_peer]
#: Those that are measured with other numbers of connections, too.
MAIN_PEERS = [name for name in PEERS if BY_NAME[name].main]
BEST = "the best Redis peer"


class Measured(NamedTuple):
    """A figure, and whether it reaches its target; None: it was not measured."""

    text: str
    reached: bool | None
    #: The figure alone, for the history.
    value: float = float("nan")

    def __str__(self) -> str:
        return f"{self.text}{ {True: ', yes', False: ', **no**', None: ''}[self.reached] }"


class Target(NamedTuple):
    """*measured*: as it comes, and with `autoload=True` where that makes a difference."""

    figure: str
    bound: str
    measured: list[Measured]


def targets(result: dict[str, Any]) -> list[Target]:
    """All targets, with what this run has measured."""
    figures = Figures(result)
    return [
        *_added(figures),
        *_instructions(result),
        *_latency(figures),
        *_redis(figures),
        _rate(figures),
        _many_clients(figures),
        *_kept(figures, result),
    ]


def targets_table(result: dict[str, Any]) -> str:
    return _table(targets(result))


def missed_table(result: dict[str, Any]) -> str:
    """Those that are not reached as the library comes."""
    return _table(target for target in targets(result) if target.measured[0].reached is False)


def _table(rows: Iterable[Target]) -> str:
    lines = []
    for target in rows:
        cells = [str(measured) for measured in target.measured]
        lines.append([target.figure, target.bound, *cells, *["–"] * (2 - len(cells))])
    return table(["figure", "target", "as it comes", "with `autoload=True`"], lines)


def _ratio(figure: str, own: Iterable[float], other: float, most: float, of: str) -> Target:
    measured = []
    for value in own:
        ratio = value / other
        found = Measured("–", None) if isnan(ratio) else Measured(f"{ratio:.2f} ×", ratio <= most)
        measured.append(found._replace(value=ratio))
    return Target(figure, f"≤ {most:g} × {of}", measured)


def _added(figures: Figures) -> Iterator[Target]:
    """The worker's CPU that a session adds to a request."""
    for workload, cookie, starsessions, sdk in (
        ("read", 0.9, 0.2, 0.2),
        ("write", 1.1, 0.35, 0.25),
    ):
        added = partial(figures.added, workload=workload)
        own = [added("ours"), added("ours_autoload")]
        figure = f"added CPU, {workload}"
        yield _ratio(figure, own, added("signed_cookie"), cookie, "signed cookie")
        yield _ratio(figure, own, added("starsessions_redis"), starsessions, "starsessions")
        on_fastapi = [added("ours_fastapi"), added("ours_fastapi_autoload")]
        peer = added("fastapi_redis_sdk")
        yield _ratio(f"{figure}, on FastAPI", on_fastapi, peer, sdk, "fastapi-redis-sdk")


def _instructions(result: dict[str, Any]) -> Iterator[Target]:
    """The worker's instructions that a session adds to a request."""
    counted = result.get("instructions", {}).get("counts", {})
    for workload, most in (("read", 138_000), ("write", 280_000)):
        measured = []
        for name in ("ours", "ours_autoload"):
            if name in counted:
                added = counted[name][workload] - counted["starlette"][workload]
                measured.append(Measured(f"{added:,.0f}", added <= most, added))
            else:
                measured.append(Measured("–", None))
        yield Target(f"added instructions, {workload}", f"≤ {most:,}", measured)


def _latency(figures: Figures) -> Iterator[Target]:
    """What a user waits for: the slowest of many, and a request alone."""
    for workload, most in (("read", 0.4), ("write", 0.5)):
        p99 = partial(figures.middle, workload=workload, connections=64, what="p99")
        own = [p99("ours"), p99("ours_autoload")]
        yield _ratio(f"p99, {workload}", own, _least(map(p99, PEERS)), most, BEST)
    for workload in ("read", "write"):
        p99 = partial(figures.middle, workload=workload, connections=64, what="p99")
        figure, of = f"p99 with gc.freeze(), {workload}", "no session, frozen too"
        yield _ratio(figure, [p99("ours@freeze")], p99("starlette@freeze"), 2.5, of)
    alone = partial(figures.middle, workload="read", connections=1, what="p50")
    none, best = alone("starlette"), _least(alone(n) for n in MAIN_PEERS if "fastapi" not in n)
    own = [alone("ours") - none]
    yield _ratio("latency added at 1 connection, read", own, best - none, 0.6, BEST)


def _redis(figures: Figures) -> Iterator[Target]:
    """The CPU of Redis, which all workers share."""
    for workload, most in (("read", 1.5), ("write", 2.2)):
        spent = partial(figures.middle, workload=workload, connections=64, what="redis_us")
        own, least = [spent("ours"), spent("ours_autoload")], spent("shared_pipeline")
        yield _ratio(f"Redis CPU, {workload}", own, least, most, "one pipeline by hand")


def _rate(figures: Figures) -> Target:
    """The highest rate in the open loop."""
    limit = figures.limit("ours")
    best = max((figures.limit(name) for name in MAIN_PEERS), key=lambda peer: peer.highest)
    bound = f"≥ 4 × {BEST}"
    if not best.highest:
        return Target("open-loop rate with p99 < 20 ms", bound, [Measured("–", None)])
    rate = limit.highest / best.highest
    text = f"{rate:.2f} ×{_proof(limit, best)}"
    return Target("open-loop rate with p99 < 20 ms", bound, [Measured(text, rate >= 4, rate)])


def _proof(own: Limit, peer: Limit) -> str:
    """What the ratio of two highest rates leaves open."""
    unknown = [
        f"; {whose} may be higher, the generator's limit came first"
        for whose, limit in (("ours", own), ("the peer's", peer))
        if limit.why is not Verdict.EXCEEDED
    ]
    return "".join(unknown)


def _many_clients(figures: Figures) -> Target:
    rows = figures.rows("ours", "read", 1000)
    errors = sum(row["errors"] for row in rows)
    links = max((row["redis_connections"] for row in rows), default=0)
    text, reached = f"{errors} errors, {links} Redis connections", errors == 0 and links <= 4
    measured = Measured(text, reached, links) if rows else Measured("–", None)
    return Target("1,000 connections", "0 errors, ≤ 4 Redis connections", [measured])


def _kept(figures: Figures, result: dict[str, Any]) -> Iterator[Target]:
    """What must not get worse."""
    small, large = (figures.middle(f"ours#{n}", "read", 1, "p50") for n in (1_000, 1_000_000))
    yield _ratio("load latency, 1,000,000 stored", [large], small, 1.2, "1,000 stored")
    stored = result["memory"]
    if "ours" in stored:
        least = _least(stored[name]["small"] for name in PEERS)
        own = [stored["ours"]["small"]]
        yield _ratio("memory of a 5-field session", own, least, 1.3, "the smallest peer")


def _least(values: Iterable[float]) -> float:
    """The least of those that were measured."""
    return min((value for value in values if not isnan(value)), default=float("nan"))


def reached(targets: Sequence[Target]) -> tuple[int, int]:
    """How many targets are reached as the library comes, and how many were measured."""
    known = [target.measured[0].reached for target in targets]
    return sum(found is True for found in known), sum(found is not None for found in known)
