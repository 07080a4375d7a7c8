"""A real uvicorn, in a thread of the test process or in processes of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import uvicorn

#: How long (seconds) a client of the tests waits: only for what will never come. A server keeps an
#: idle connection for as long, because a client on a busy machine may rest for more than 5 s.
PATIENCE = 100


@contextmanager
def serve(app: Any, **options: Any) -> Iterator[str]:
    """Serve *app* on a free loopback port; yields its URL."""
    usual = {"lifespan": "auto", "timeout_keep_alive": PATIENCE}
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", **{**usual, **options}
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(PATIENCE * 100):
        if server.started:
            break
        if not thread.is_alive():
            raise RuntimeError("uvicorn did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "uvicorn did not stop"


def stop(process: "subprocess.Popen[Any]") -> int:
    """
    Ask a server to end, and wait until it has; returns its exit code.

    One that does not is killed, with all of its process group if it leads one, and the test fails:
    to wait for it would hang the whole run.
    """
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        raise


@contextmanager
def serve_apart(
    app: str,
    *options: str,
    environment: Mapping[str, str],
    folder: Path = Path(__file__).parents[2],
    listener: socket.socket | None = None,
    inside: Sequence[str] = (),
) -> Iterator[str]:
    """
    Serve the app of this name by `uvicorn`, with these options; yields its URL.

    *listener*: a socket that stays open, so that another app can take over without refusing
    anybody; else one for this app alone. *inside*: what the command begins with. *folder*: where
    the module of the app is.
    """
    own = socket.create_server(("127.0.0.1", 0)) if listener is None else nullcontext(listener)
    with own as listening:
        number = listening.fileno()
        with subprocess.Popen(
            [
                *(*inside, sys.executable, "-m", "uvicorn", app, "--fd", str(number)),
                *("--timeout-keep-alive", str(PATIENCE), *options),
            ],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[number],
        ) as process:
            try:
                yield "http://127.0.0.1:{1}".format(*listening.getsockname())
            finally:
                stop(process)
