"""
Processor instructions that a contender takes for a request: the same on a quiet machine and on a
busy one, so small changes can be seen. Counted by valgrind, in the app's process, without a server.

    python -m benchmarks.instructions [CONTENDER …]
    python -m benchmarks.instructions --ceilings    what `make counts` asks: nothing costs more

Each request is one ASGI call on uvloop, 64 at once; the difference between a long and a short run
is what the requests took, without the start-up. What the kernel does is not counted.

A ceiling is 3 % above what was reached, with as many full collections as a run may have: one more
makes each request 7,000 instructions dearer. Another build of Python takes other numbers of
instructions for the same work, so a ceiling is scaled by what the app without sessions takes in the
same run.
"""

import asyncio
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from asgi_redis_session.devserver import DevServer

from .contenders import BY_NAME
from .figures import stamp, table
from .machine import describe

ROOT = Path(__file__).parent.parent
#: What was reached, with and without sessions: whoever makes a request cheaper, or more expensive
#: for a reason, writes the new figures here, in the same commit.
REACHED = {
    "starlette": {"read": 123_000, "write": 132_000},
    "ours": {"read": 340_000, "write": 565_000},
}
ALLOWED = 1.03
AT_ONCE, SHORT, LONG = 64, 10, 60
WORKLOADS = {
    "untouched": ("GET", "/untouched"),
    "read": ("GET", "/read"),
    "write": ("POST", "/write"),
    "login": ("POST", "/login"),
}


class Browser:
    """One client: sends its cookie, keeps what it is given."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookie = b""

    async def ask(self, method: str, path: str) -> None:
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"cookie", b"session=" + self.cookie)],
            "state": {},
        }
        await self.app(scope, _receive, self._send)

    async def _send(self, message: Any) -> None:
        for name, value in message.get("headers", ()):
            if name.lower() == b"set-cookie" and not self.cookie:
                self.cookie = value.partition(b";")[0].removeprefix(b"session=")


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def drive(contender: str, workload: str, rounds: int) -> None:
    app = importlib.import_module(f"benchmarks.contenders.{contender}").app
    async with app.router.lifespan_context(app):
        browsers = [Browser(app) for _ in range(AT_ONCE)]
        for browser in browsers:
            await browser.ask("POST", "/start/small")
        for _ in range(rounds):
            await asyncio.gather(*[browser.ask(*WORKLOADS[workload]) for browser in browsers])


def count(contender: str, workload: str, redis_url: str, python: Path | None = None) -> float:
    """Instructions per request. *python*: that of the contender's own environment by default."""
    python = python or ROOT / BY_NAME[contender].environment / "bin" / "python"
    with ThreadPoolExecutor() as both:
        long, short = both.map(
            lambda rounds: _count(contender, workload, rounds, redis_url, python), (LONG, SHORT)
        )
    return (long - short) / (LONG - SHORT) / AT_ONCE


def _count(contender: str, workload: str, rounds: int, redis_url: str, python: Path) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
            *(str(python), "-m", "benchmarks.instructions"),
            *("--drive", contender, workload, str(rounds)),
        ],
        cwd=ROOT,
        env=os.environ
        | {"BENCH_REDIS_URL": redis_url, "PYTHONHASHSEED": "0", "BENCH_TIMEOUT": "60"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None
    return int(found[1].replace(",", ""))


#: Whose instructions are part of a published run.
PUBLISHED = ("starlette", "signed_cookie", "shared_pipeline", "starsessions_redis")


def measure() -> dict[str, Any]:
    """Instructions per read and per write, of those that the targets are about, and of peers."""
    require()
    names = (*PUBLISHED, "ours", "ours_autoload")
    with DevServer(search=False) as server:
        counts = {
            name: {
                workload: round(count(name, workload, server.url)) for workload in ("read", "write")
            }
            for name in names
        }
        return {"meta": describe(server.version), "counts": counts}


def instructions_table(result: dict[str, Any]) -> str:
    counts = result["instructions"]["counts"]
    lines = []
    for name, found in counts.items():
        cells = [BY_NAME[name].title]
        for workload in ("read", "write"):
            added = found[workload] - counts["starlette"][workload]
            cells += [f"{found[workload]:,}", f"{added:,}" if added else "–"]
        lines.append(cells)
    head = ["instructions per request", "read", "added", "write", "added"]
    return f"{stamp(result['instructions']['meta'])}\n\n{table(head, lines)}"


def ceilings() -> list[str]:
    """Print what requests take here, beside their ceilings; returns what is too much."""
    require()
    lines, wrong = [], []
    with DevServer(search=False) as server:
        for workload in ("read", "write"):
            bare, own = (
                count(name, workload, server.url, Path(sys.executable)) for name in REACHED
            )
            ceiling = ceiling_of(workload, bare)
            cells = [f"{value:,.0f}" for value in (bare, own - bare, ceiling, ceiling - own + bare)]
            lines.append([workload, *cells])
            if own - bare > ceiling:
                wrong.append(f"{workload}: {own - bare:,.0f} instructions, not {ceiling:,.0f}.")
    head = ["request", "Starlette alone", "added instructions", "ceiling", "to spare"]
    print(table(head, lines))
    return wrong


def ceiling_of(workload: str, bare: float) -> float:
    """How many instructions a session may add, where the app without sessions takes *bare*."""
    before = REACHED["starlette"][workload]
    added = REACHED["ours"][workload] - before
    return added * ALLOWED * bare / before


def require() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: `make debian` installs it, or your package manager.")


def main() -> None:
    if sys.argv[1:] == ["--ceilings"]:
        sys.exit("\n".join(ceilings()) or None)
    if sys.argv[1:2] == ["--drive"]:
        import uvloop  # noqa: PLC0415  (of the contender's environment)

        uvloop.run(drive(sys.argv[2], sys.argv[3], int(sys.argv[4])))
        return
    require()
    names = sys.argv[1:] or ["starlette", "signed_cookie", "by_hand", "starsessions_redis", "ours"]
    with DevServer(search=False) as server:
        print(f"| | {' | '.join(WORKLOADS)} |\n{'| --- ' * (len(WORKLOADS) + 1)}|")
        for name in names:
            counts = [count(name, workload, server.url) for workload in WORKLOADS]
            print(
                f"| {BY_NAME[name].title} | {' | '.join(f'{n:,.0f}' for n in counts)} |", flush=True
            )


if __name__ == "__main__":
    main()
