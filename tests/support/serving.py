"""A real uvicorn in a thread of the test process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

#: How long (seconds) a client of the tests waits: only for what will never come.
PATIENCE = 100


@contextmanager
def serve(app: Any, **options: Any) -> Iterator[str]:
    """Serve *app* on a free loopback port; yields its URL."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", **{"lifespan": "auto", **options}
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
