"""Real proxies of the distribution in front of an app that knows nothing of sessions."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..support.documents import blocks
from ..support.serving import stop

#: How each proxy is started with a configuration, in a folder.
COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "nginx": lambda conf, folder: ["nginx", "-p", str(folder), "-c", str(conf)],
    "caddy": lambda conf, _: ["caddy", "run", "--adapter", "caddyfile", "--config", str(conf)],
    "haproxy": lambda conf, _: ["haproxy", "-db", "-f", str(conf)],
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def documented(name: str) -> dict[str, str]:
    """The files of a proxy's configuration in docs/gateways.md, by their names."""
    found = {}
    for kind in ("nginx", "caddy", "haproxy", "lua"):
        for block in blocks("docs/gateways.md", kind):
            match = re.match(r"(?:#|--) (\S+)", block)
            assert match is not None, block
            found[match[1]] = block
    return {file: text for file, text in found.items() if name in file}


def _moved(text: str, folder: Path, ports: dict[str, int]) -> str:
    for documented_port, port in ports.items():
        text = re.sub(rf"\b{documented_port}\b", str(port), text)
    return text.replace("/etc/haproxy/", f"{folder}/")


@contextmanager
def proxy(name: str, folder: Path, ports: dict[str, int]) -> Iterator[str]:
    """
    Start the documented configuration of a proxy; yields its URL.

    *ports*: where the documented addresses are in this test.
    """
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip(f"{name} is missing: `sudo make debian` installs it")
    listening = free_port()
    files = documented(name)
    for file, text in files.items():
        (folder / file).write_text(_moved(text, folder, {**ports, "8080": listening}))
    main = next(file for file in files if not file.endswith(".lua"))
    command = COMMANDS[name](folder / main, folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *command[1:]], cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{listening}"
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                httpx.get(f"{url}/public", timeout=20)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield url
    finally:
        stop(process)
