"""
A connection that the network drops while it is idle, without a word to either side.

Runs in a network namespace of its own (test_hosted.py starts it so); the server has another one,
and a cable leads from here to there. Prints what is wrong, if anything.
"""

import asyncio
import faulthandler
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis.asyncio import Redis

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.internals import open_session
from ..support.sessions import create, load

#: For documentation (RFC 5737): outside of these namespaces nobody has them.
HERE, THERE = "192.0.2.1", "192.0.2.2"
PORT = 6379
#: The options that redis-py sets to 30, 5 and 3, so that this takes three seconds.
QUICK = {socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 2}


class Cable:
    """From here to the network of a process."""

    def __init__(self, pid: int) -> None:
        self._there = ("nsenter", f"--net=/proc/{pid}/ns/net")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
        _run("ip", "link", "set", "there", "netns", str(pid))
        _run("ip", "address", "add", f"{HERE}/24", "dev", "here")
        _run("ip", "link", "set", "here", "up")
        _run(*self._there, "ip", "address", "add", f"{THERE}/24", "dev", "there")
        _run(*self._there, "ip", "link", "set", "there", "up")

    def drop(self) -> None:
        """What the other side sends, acknowledgements included, is lost from now on."""
        _run(*self._there, "ip", "route", "add", "blackhole", f"{HERE}/32")

    def carry(self) -> None:
        """Work again."""
        _run(*self._there, "ip", "route", "delete", "blackhole", f"{HERE}/32")


@contextmanager
def server_elsewhere() -> Iterator[DevServer]:
    """A server with a network of its own; DevServer talks to it by a unix socket."""
    with DevServer(search=False, unix=True) as here:
        program = Path(f"/proc/{here.pid}/exe").resolve()
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder, "redis-server")
        wrapper.write_text(f'#!/bin/sh\nexec unshare --net "{program}" "$@"\n')
        wrapper.chmod(0o755)
        options: dict[str, str | int] = {"port": PORT, "bind": "0.0.0.0", "protected-mode": "no"}
        with DevServer(binary=wrapper, unix=True, search=False, options=options) as server:
            yield server


def connected() -> int:
    """How many connections from here to the server the system believes in."""
    lines = [line.split() for line in _table().splitlines()[1:]]
    return sum(line[2].endswith(f":{PORT:04X}") and line[3] == "01" for line in lines)


async def ended() -> None:
    """Return when the system has given the connection up."""
    deadline = time.monotonic() + 150
    while connected():
        assert time.monotonic() < deadline, _table()
        await asyncio.sleep(0.05)


async def main() -> None:
    with server_elsewhere() as server:
        cable = Cable(server.pid)
        client = Redis(host=THERE, port=PORT, socket_keepalive_options=QUICK)
        async with SessionStore(client, timeout=20) as store:
            session_id = await create(store, n=1)
            session = await open_session(store, session_id).load()
            await store.drain()
            assert connected() == 1
            cable.drop()
            await ended()
            cable.carry()
            session["n"] = 2
            await session.save()
            assert await load(store, session_id) == 2
            assert store.stats.errors == 0
        await client.aclose()


def _table() -> str:
    return Path("/proc/self/net/tcp").read_text()


def _run(*command: str) -> None:
    path = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
    subprocess.run([path, *command[1:]], check=True)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(180, exit=True)
    asyncio.run(main())
