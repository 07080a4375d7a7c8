"""
Processor instructions that a contender takes for a request: the same on a quiet machine and on a
busy one, so small changes can be seen. Counted by valgrind, in the app's process, without a server.

    python -m benchmarks.instructions [CONTENDER …]

Each request is one ASGI call on uvloop, 64 at once; the difference between a long and a short run
is what the requests took, without the start-up. What the kernel does is not counted.
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

ROOT = Path(__file__).parent.parent
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


def count(contender: str, workload: str, redis_url: str) -> float:
    """Instructions per request."""
    with ThreadPoolExecutor() as both:
        long, short = both.map(
            lambda rounds: _count(contender, workload, rounds, redis_url), (LONG, SHORT)
        )
    return (long - short) / (LONG - SHORT) / AT_ONCE


def _count(contender: str, workload: str, rounds: int, redis_url: str) -> int:
    python = ROOT / BY_NAME[contender].environment / "bin" / "python"
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


def main() -> None:
    if sys.argv[1:2] == ["--drive"]:
        import uvloop  # noqa: PLC0415  (of the contender's environment)

        uvloop.run(drive(sys.argv[2], sys.argv[3], int(sys.argv[4])))
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install it (Debian and Ubuntu: apt-get install valgrind).")
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
