"""Two hundred users in the example shop for two minutes, by Locust, as part of the report."""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asgi_redis_session.devserver import DevServer

from . import load
from .contenders import Contender
from .figures import number, stamp, table
from .machine import describe

USERS, SECONDS = 200, 120
SHOP = Contender(name="shop", title="the example shop", baseline=None, environment=".venv")


def measure(users: int = USERS, seconds: int = SECONDS) -> dict[str, Any]:
    """What Locust has counted of each kind of request, and of all (*Aggregated*)."""
    with DevServer(search=False) as server, TemporaryDirectory() as folder:
        load.pin(server.pid, load.OTHER_CPUS)
        with load.worker(SHOP, server.url, app="examples.shop:app") as target:
            target.ready()
            load.run(
                *(sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless"),
                *("-u", str(users), "-r", str(max(1, users // 10)), "-t", f"{seconds}s"),
                *("--host", target.url, "--only-summary", "--csv", f"{folder}/run"),
                *("--exit-code-on-error", "0"),
            )
        with Path(folder, "run_stats.csv").open() as file:
            rows = list(csv.DictReader(file))
        found = [
            {
                "request": f"{row['Type']} {row['Name']}".strip(),
                "requests": int(row["Request Count"]),
                "failures": int(row["Failure Count"]),
                "rate": float(row["Requests/s"]),
                **{p: float(row[f"{p}%"]) for p in ("50", "95", "99")},
            }
            for row in rows
        ]
        about = {"users": users, "seconds": seconds}
        return {"meta": describe(server.version), **about, "requests": found}


def shoppers_table(result: dict[str, Any]) -> str:
    run = result["shoppers"]
    lines = [
        [
            row["request"].replace("Aggregated", "**all**"),
            number(row["requests"], 0),
            number(row["rate"]),
            *(number(row[p], 0) for p in ("50", "95", "99")),
            number(row["failures"], 0),
        ]
        for row in run["requests"]
    ]
    head = ["", "requests", "requests/s", "p50 ms", "p95", "p99", "failures"]
    says = f"{run['users']} users for {run['seconds']} s. {stamp(run['meta'])}"
    return f"{says}\n\n{table(head, lines)}"
