"""
The benchmark: every contender, interleaved, on one Redis.

    make bench          everything; publishes benchmarks/README.md, plots, results/latest.json
    make bench-quick    about a minute; prints the short table
    python -m benchmarks.run contenders    that part alone; the others stay as published

Each row of the result is one sample: a contender, a workload, a number of connections or a rate.
`report.py` turns rows into medians, tables and plots.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from asgi_redis_session.devserver import DevServer

from . import fill, instructions, load, overload, report, scale, shoppers, tables, verify
from .bench import Bench, Plan
from .contenders import BY_NAME, CONTENDERS
from .figures import COLLECTED
from .machine import describe
from .rates import Ladder, by_rate

FULL = Plan(
    sessions=100_000,
    big_sessions=20_000,
    rounds=5,
    seconds=1,
    more_rounds=3,
    connections=(1, 8, 256, 1000),
    rates=Ladder(
        rates=(
            *(500, 600, 700, 850, 1000, 1200, 1400, 1700, 2000, 2400, 2800, 3400),
            *(4000, 4800, 5600, 6800, 8000, 9500, 11_000, 13_500, 16_000),
        ),
        stride=4,
        rounds=3,
        tries=5,
    ),
    stored=(1_000, 100_000, 1_000_000),
    gc=("usual", "freeze", "freeze+thresholds"),
    contenders=CONTENDERS,
    retakes=60,
)
QUICK = Plan(
    sessions=5_000,
    big_sessions=0,
    rounds=1,
    seconds=1,
    more_rounds=0,
    connections=(1000,),
    rates=Ladder(rates=(1000, 3000), stride=1, rounds=1, tries=1),
    stored=(),
    gc=(),
    contenders=[c for c in CONTENDERS if c.main or c.name == "fastapi_bare"],
    retakes=5,
)
# --- The parts of a run ---


def prepare(bench: Bench) -> None:
    """Start, verify and fill every contender."""
    bench.result["verified"] = {}
    for contender in bench.plan.contenders:
        bench.add(contender)
    for contender in bench.plan.contenders:
        target = bench.workers[contender.name]
        target.ready()
        with bench.redis(contender.name) as redis:
            try:
                seen = verify.verify(target, redis)
            except verify.NotVerified as error:
                raise SystemExit(verify.describe(contender, error)) from None
            redis.flushdb()
        bench.result["verified"][contender.name] = seen
        sizes = {"small": bench.plan.sessions}
        if contender.main and contender.in_redis and bench.plan.big_sessions:
            sizes["big"] = bench.plan.big_sessions
        bench.fill(contender.name, **sizes)
        say(f"{contender.title}: does its work, {sum(sizes.values()):,} sessions stored")


def reads_and_writes(bench: Bench) -> None:
    for number, contender in rounds(bench.plan.rounds, bench.plan.contenders):
        for workload in ("read", "write"):
            bench.closed(contender.name, workload, 64, bench.plan.seconds, round=number)


def other_workloads(bench: Bench) -> None:
    main = [c for c in bench.plan.contenders if c.main and c.clone is not None]
    for number, contender in rounds(bench.plan.more_rounds, main):
        for workload in ("mixed", "untouched", "login_logout", "big_read", "big_write"):
            if contender.in_redis or not workload.startswith("big"):
                bench.closed(contender.name, workload, 64, 1, round=number)


def more_connections(bench: Bench) -> None:
    main = [c for c in bench.plan.contenders if c.main]
    for number, contender in rounds(max(1, bench.plan.more_rounds), main):
        for connections in bench.plan.connections:
            bench.closed(contender.name, "read", connections, 1, round=number)


def fixed_rates(bench: Bench) -> None:
    """A sample of each in turn, at the rate that says most, until all limits are known."""
    names = [c.name for c in bench.plan.contenders if c.main]
    while names:
        for name in list(names):
            taken = by_rate(r for r in bench.rows if (r["mode"], r["contender"]) == ("open", name))
            rate = bench.plan.rates.next_rate(taken)
            if rate is None:
                names.remove(name)
            else:
                bench.opened(name, "read", rate)


def collector(bench: Bench) -> None:
    """What gc.freeze() and higher thresholds do, to every contender alike."""
    names = [(base, gc, f"{base}@{gc}") for base in COLLECTED for gc in bench.plan.gc]
    with bench.guests():
        for base, gc, name in names:
            bench.add(BY_NAME[base], name, gc)
        for _, _, name in names:
            bench.workers[name].ready()
            bench.fill(name, small=bench.plan.sessions)
        for number, (_, _, name) in rounds(bench.plan.more_rounds, names):
            for workload in ("read", "write"):
                bench.closed(name, workload, 64, bench.plan.seconds, round=number)


def growth(bench: Bench) -> None:
    """Does a load take longer where many sessions are stored?"""
    names = [f"ours#{count}" for count in bench.plan.stored]
    with bench.guests():
        for name in names:
            bench.add(BY_NAME["ours"], name)
        for name, count in zip(names, bench.plan.stored, strict=True):
            bench.workers[name].ready()
            bench.fill(name, small=count)
        for number, name in rounds(bench.plan.rounds, names):
            for connections in (1, 64):
                bench.closed(name, "read", connections, 1, round=number, part="growth")


def memory(bench: Bench) -> None:
    """What Redis keeps of one session: 20,000 copies of what each contender has stored."""
    bench.result["memory"] = {}
    if not bench.plan.more_rounds:
        return
    for contender in bench.plan.contenders:
        if contender.in_redis:
            target = bench.workers[contender.name]
            with bench.redis(contender.name) as redis:
                bench.result["memory"][contender.name] = {
                    size: fill.bytes_each(target, redis, size, 20_000) for size in ("small", "cart")
                }


def run(plan: Plan) -> dict[str, Any]:
    started = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(
            DevServer(search=False, options={"databases": 64, "maxclients": 10_000})
        )
        load.pin(server.pid, load.OTHER_CPUS)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(plan, server, folder, stack)
        bench.result["meta"] = describe(server.version)
        for part in (
            prepare,
            reads_and_writes,
            other_workloads,
            more_connections,
            fixed_rates,
            collector,
            growth,
            memory,
        ):
            begun = time.monotonic()
            part(bench)
            say(f"{part.__name__}: {time.monotonic() - begun:.0f} s")
        bench.result["meta"]["load_average_after"] = os.getloadavg()
        bench.result["meta"]["seconds"] = round(time.monotonic() - started)
        return bench.result | {"rows": bench.rows}


# --- Helpers ---


def rounds(count: int, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Interleaved: all items once, then all items again, each time from another one on."""
    for number in range(count):
        shift = number % max(1, len(items))
        for item in [*items[shift:], *items[:shift]]:
            yield number, item


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


#: What is measured on its own, and published beside the rest.
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "instructions": instructions.measure,
    "overload": overload.measure,
    "scale": scale.measure,
    "shoppers": shoppers.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    choices = ["contenders", *PARTS]
    parser.add_argument(
        "part", nargs="*", choices=[*choices, []], help="all if none is named; the others stay"
    )
    parser.add_argument("--quick", action="store_true", help="about a minute; publishes nothing")
    parser.add_argument("--save", type=Path, help="write the figures here, and publish nothing")
    options = parser.parse_args()
    load.require()
    if options.quick:
        print(tables.quick(run(QUICK)))
        return
    result = report.published()
    for part in options.part or choices:
        begun = time.monotonic()
        result |= run(FULL) if part == "contenders" else {part: PARTS[part]()}
        say(f"{part}: {time.monotonic() - begun:.0f} s in all")
    if options.save:
        options.save.write_text(json.dumps(result, indent=1) + "\n")
    else:
        report.publish(result)


if __name__ == "__main__":
    main()
