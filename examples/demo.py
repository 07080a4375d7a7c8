"""
How does a demo run where no Redis is installed?

    python -m examples.shop [--port N]

`DevServer` starts a private redis-server that ends with the demo. Set $REDIS_URL to use your own
Redis instead.
"""

import os
import signal
import socket
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from asgi_redis_session.devserver import DevServer, DevServerError

PORT = 8000


def run(make_app: Callable[[str], Any]) -> None:
    """Serve `make_app(redis_url)` on the loopback interface until Ctrl-C or SIGTERM."""
    parser = ArgumentParser(prog="python -m examples.shop", description="Run the example shop.")
    parser.add_argument("--port", type=int, help=f"default: {PORT}, or a free one if it is taken")
    port = parser.parse_args().port
    # uvicorn shuts down first, then raises the signal again, which leaves the `with` block.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # The warning is about cookies over plain HTTP; nobody can listen on loopback.
    warnings.filterwarnings("ignore", "CookiePolicy.for_development")
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(port))
            url = os.environ.get("REDIS_URL") or stack.enter_context(DevServer()).url
            server = uvicorn.Server(uvicorn.Config(make_app(url), log_level="warning"))
            at = "http://{}:{}".format(*listener.getsockname())
            print(f"Shop on {at} (Redis at {place(url)}); stop with Ctrl-C", flush=True)
            server.run(sockets=[listener])
    except (DevServerError, OSError, ValueError) as error:
        sys.exit(str(error))


def listen(port: int | None) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", PORT if port is None else port))
    except OSError:
        if port is not None:
            raise
        return socket.create_server(("127.0.0.1", 0))


def place(redis_url: str) -> str:
    """The address of this Redis, without user and password."""
    parts = urlsplit(redis_url)
    return parts.netloc.rpartition("@")[2] or parts.path
