"""
Processes and load: a uvicorn for a contender, wrk for closed loops, pace for open ones.

CPU is what the kernel has counted for a process (/proc, in nanoseconds), so it needs Linux.
"""

import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from redis import Redis

from .contenders import Contender

ROOT = Path(__file__).parent.parent
PACE = ROOT / ".bench" / "pace"
_CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
#: The worker under test has a processor for itself; Redis and the load share the others.
WORKER_CPUS, OTHER_CPUS = ({*_CPUS[:1]}, {*_CPUS[1:]}) if len(_CPUS) > 1 else ({*_CPUS}, {*_CPUS})


def require() -> None:
    """Say in one sentence what is missing, before anything is started."""
    if sys.platform != "linux":
        sys.exit("The benchmark reads CPU times from /proc and paces with epoll: it needs Linux.")
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: install it (Debian and Ubuntu: apt-get install wrk).")
    if not PACE.exists():
        sys.exit("The open-loop generator isn't built: run this through `make bench`.")


def cpu_ns(pid: int) -> int:
    """The processor time that all threads of a process have had."""
    return sum(
        int((thread / "schedstat").read_text().split()[0])
        for thread in Path(f"/proc/{pid}/task").iterdir()
    )


def redis_us(redis: Redis) -> float:
    """The processor time that a server says it has had, in microseconds (INFO cpu)."""
    spent: Any = redis.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"]) * 1e6


def forget_peak(pid: int) -> None:
    """From now on `peak_mb` counts anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    """The most memory that a process has had at one time."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def machine_busy_ns() -> int:
    """The processor time that anybody on this machine has had."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) * (10**9 // os.sysconf("SC_CLK_TCK"))


def pin(pid: int, cpus: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


#: A process that has less of a processor than this for so long (s) has nothing left to do.
IDLE_SHARE, IDLE_SECONDS = 0.1, 0.03
MOST_WAIT = 20.0


def settle(pids: Mapping[str, int]) -> None:
    """
    Return when none of these processes works any more: what one load has left in the queue must
    not be worked off while the next is measured.
    """
    until = time.monotonic() + MOST_WAIT
    while busy := _busy(pids):
        if time.monotonic() > until:
            raise SystemExit(
                f"{busy[0]} still works {MOST_WAIT:g} s after its load has ended; "
                "nothing beside it could be measured."
            )


def _busy(pids: Mapping[str, int]) -> list[str]:
    before, begun = {name: cpu_ns(pid) for name, pid in pids.items()}, time.monotonic_ns()
    time.sleep(IDLE_SECONDS)
    idle = IDLE_SHARE * (time.monotonic_ns() - begun)
    return [name for name, pid in pids.items() if cpu_ns(pid) - before[name] > idle]


@dataclass
class Worker:
    """A uvicorn process that serves one contender, from `ready` on."""

    contender: Contender
    port: int
    process: subprocess.Popen[bytes]
    complaints: IO[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, cookie: str | None = None) -> tuple[int, str, str]:
        """One request as a browser sends it: status, body, Set-Cookie."""
        headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
        ask = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(ask, timeout=10) as reply:
                return reply.status, reply.read().decode(), reply.headers.get("set-cookie", "")
        except urllib.error.HTTPError as reply:
            return reply.code, reply.read().decode(), reply.headers.get("set-cookie", "")

    def ready(self, cpus: set[int] = WORKER_CPUS) -> None:
        """Wait until it answers; from then on it stays on its processor."""
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return pin(self.pid, cpus)
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.complaints.seek(0)
        error = self.complaints.read().decode().strip().splitlines()
        raise SystemExit(f"A contender did not start: {error[-1] if error else 'no reason given'}")


#: Below every system's range for outgoing connections, so that none takes the port meanwhile.
_PORTS = range(10_000, 20_000)


def _free_port() -> int:
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", secrets.choice(_PORTS))) as free:
            port: int = free.getsockname()[1]
            return port


@contextmanager
def worker(
    contender: Contender,
    redis_url: str,
    *,
    gc: str = "usual",
    workers: int = 1,
    app: str | None = None,
) -> Iterator[Worker]:
    """
    Serve a contender from its environment: one worker, uvloop, httptools, no access log. Several
    can be started at once; wait for each with `Worker.ready`. *app*: what
    uvicorn serves, if not the contender's own module.
    """
    app = app or f"benchmarks.contenders.{contender.name}:app"
    port = _free_port()
    complaints = tempfile.TemporaryFile()  # noqa: SIM115  (a pipe would fill up)
    process = subprocess.Popen(
        [
            *(str(ROOT / contender.environment / "bin" / "python"), "-m", "uvicorn"),
            *(app, "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
            *("--log-level", "critical", "--backlog", "4096", "--workers", str(workers)),
        ],
        cwd=ROOT,
        env=os.environ
        | {"BENCH_REDIS_URL": redis_url, "REDIS_URL": redis_url, "BENCH_GC": gc}
        | {"BENCH_APP": contender.name},
        stdin=subprocess.DEVNULL,
        stderr=complaints,
    )
    try:
        yield Worker(contender, port, process, complaints)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        complaints.close()


def closed(
    target: Worker, workload: str, cookies: Path, *, connections: int, seconds: float
) -> dict[str, Any]:
    """wrk: each connection sends its next request when it has its answer."""
    output = run(
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"),
        *("-s", str(ROOT / "benchmarks" / "wrk.lua"), target.url, "--"),
        *(workload, str(cookies), str(connections)),
    )
    line = next((line for line in output.splitlines() if line.startswith("JSON")), None)
    if line is None:
        raise SystemExit(f"wrk said nothing of its figures:\n{output}")
    figures: dict[str, Any] = json.loads(line.removeprefix("JSON"))
    figures["errors"] += figures.pop("timeouts")
    figures["rate"] = figures["requests"] / figures["seconds"]
    # When wrk leaves, each connection has a request on its way, which the worker still answers.
    figures["handled"] = figures["requests"] + connections
    return figures


#: A run in which one request in a hundred left later than this (µs) proves nothing.
MOST_LAG = 2_000
_REQUESTS = {"read": ("GET", "/read"), "write": ("POST", "/write")}


def opened(
    target: Worker, workload: str, cookies: Path, *, rate: int, seconds: float, connections: int
) -> dict[str, Any]:
    """pace: requests leave on a schedule, whether the answers come or not."""
    method, path = _REQUESTS[workload]
    figures: dict[str, Any] = json.loads(
        run(
            *(str(PACE), str(target.port), method, path),
            *(str(rate), str(seconds), str(connections), str(cookies)),
        )
    )
    unanswered = figures["scheduled"] - figures["answered"]
    figures["requests"], figures["handled"] = figures["answered"], figures["sent"]
    figures["errors"] = figures.pop("refused") + unanswered
    figures["rate"] = figures["answered"] / figures["seconds"]
    figures["kept_schedule"] = figures["lag"]["99"] <= MOST_LAG
    return figures


def warm_up(target: Worker, cookies: Path) -> None:
    """What is made once, such as a pool's connections, is made before anything is measured."""
    opened(target, "read", cookies, rate=50_000, seconds=0.01, connections=64)


def run(*command: str | Path) -> str:
    """What a load generator prints; it shares the processors that no worker has."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHER_CPUS),
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def children_ns() -> int:
    """The processor time of load generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((used.ru_utime + used.ru_stime) * 1e9)
