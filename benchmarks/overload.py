"""
Many requests at the same moment: who is answered, who is refused at once, who fails late.

A request has failed late if its error came after the app had had it for a while: its user has
waited for nothing, and the process has worked for nothing.
"""

import json
import resource
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from asgi_redis_session.devserver import DevServer

from . import fill, load
from .contenders import BY_NAME
from .figures import Row, number, stamp, table
from .machine import describe

CONTENDERS = ("ours", "starsessions_redis", "fastapi_redis_sdk")
AT_ONCE = (100, 300, 1_000, 3_000, 10_000)
ROUNDS = 3
TIMED = "benchmarks.contenders.timed:app"
#: A refusal that takes longer (ms) is a late failure.
AT_ONCE_MS = 100


def measure(at_once: tuple[int, ...] = AT_ONCE, rounds: int = ROUNDS) -> dict[str, Any]:
    """A row for each burst. Each round has fresh workers, so that memory is that of its bursts."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows: list[Row] = []
    with (
        DevServer(search=False, options={"maxclients": 10_000}) as server,
        TemporaryDirectory() as folder,
        Redis.from_url(server.url) as redis,
    ):
        load.pin(server.pid, load.OTHER_CPUS)
        for _ in range(rounds):
            for name in CONTENDERS:
                redis.flushall()
                with ExitStack() as stack:
                    target = stack.enter_context(load.worker(BY_NAME[name], server.url, app=TIMED))
                    target.ready()
                    cookies = Path(folder, name)
                    filled = fill.fill(target, redis, {"small": max(at_once)})["small"]
                    cookies.write_text("\n".join(filled) + "\n")
                    load.warm_up(target, cookies)
                    for count in at_once:
                        load.settle({"Redis": server.pid, name: target.pid})
                        rows.append({"contender": name} | _burst(target, count, cookies))
        return {"meta": describe(server.version), "rows": rows}


def _burst(target: load.Worker, count: int, cookies: Path) -> Row:
    load.forget_peak(target.pid)
    answers = json.loads(
        load.run(sys.executable, "-m", "benchmarks.burst", str(target.port), str(count), cookies)
    )
    return {"at_once": count, "memory_mb": load.peak_mb(target.pid)} | classify(answers)


def classify(answers: list[tuple[int, float, float]]) -> Row:
    """Count answers by what became of them; *p99* is that of all who were answered well."""
    good = sorted(took for status, took, _ in answers if 200 <= status < 400)
    failed = [had for status, _, had in answers if not 200 <= status < 400]
    at_once = sum(0 <= had <= AT_ONCE_MS for had in failed)
    rank = max(0, -(-len(good) * 99 // 100) - 1)
    return {
        "answered": len(good),
        "refused": at_once,
        "late": len(failed) - at_once,
        "p99_ms": good[rank] if good else None,
    }


def overload_table(result: dict[str, Any]) -> str:
    rows, lines = result["overload"]["rows"], []
    for count in AT_ONCE:
        for name in CONTENDERS:
            taken = [row for row in rows if (row["contender"], row["at_once"]) == (name, count)]
            if not taken:
                continue
            title = BY_NAME[name].title
            cells = [f"{count:,}", f"**{title}**" if BY_NAME[name].ours else title]
            cells += [number(median(r[what] for r in taken), 0) for what in ("answered", "refused")]
            cells.append(number(max(row["late"] for row in taken), 0))
            p99s = [row["p99_ms"] for row in taken if row["p99_ms"] is not None]
            cells.append(number(median(p99s), 0) if p99s else "–")
            lines.append([*cells, number(median(row["memory_mb"] for row in taken), 0)])
    head = ["requests at once", "", "answered", "refused at once", "failed late", "p99 ms"]
    return f"{stamp(result['overload']['meta'])}\n\n{table([*head, 'memory MB'], lines)}"
