"""A redis-server that may be killed, frozen, and started again with what it had on its disk."""

import os
import shutil
import signal
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from asgi_redis_session.devserver import DevServer

from ..support.servers import client_of, frozen

#: What `make matrix` asks for.
BINARY = os.environ.get("SESSION_TEST_SERVER")
PROTOCOL = os.environ.get("SESSION_TEST_PROTOCOL", "3")


class Server:
    """
    One redis-server with a disk of its own: `disk` outlives the process.

    *options* are lines of redis.conf; each start reads them again.
    """

    def __init__(self, **options: str | int) -> None:
        self.disk = Path(tempfile.mkdtemp(prefix="redis-disk-"))
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        self._binary = BINARY
        self._port: int | None = None
        self._process: DevServer | None = None

    def start(self) -> Self:
        """Start it, on the port that it had before; returns when it has loaded its disk."""
        options = {"dir": f'"{self.disk}"', **self.options}
        self._process = DevServer(
            options=options, search=False, binary=self._binary, port=self._port
        )
        self._process.start()
        self._port = self._process.port
        # Another start must not fall back on another version when this one refuses its disk.
        self._binary = str(Path(f"/proc/{self._process.pid}/exe").readlink())
        return self

    @property
    def process(self) -> DevServer:
        """The process that runs now."""
        assert self._process is not None
        return self._process

    @property
    def port(self) -> int:
        """The same for all its lives."""
        return self.process.port

    @property
    def url(self) -> str:
        """As the library takes it, with the RESP version that is tested."""
        return f"{self.process.url}?protocol={PROTOCOL}"

    @property
    def admin(self) -> Any:
        """A new client for looking at it; waits no longer than 10 seconds for anything."""
        return client_of(self.process)

    @property
    def version(self) -> tuple[int, ...]:
        """Such as (7, 4, 1)."""
        return tuple(map(int, self.process.version.split(".")))

    def kill(self) -> None:
        """SIGKILL: it gets no chance to write anything more."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stop()

    def stop(self) -> None:
        """SIGTERM: it writes what its configuration says, and ends."""
        self.process.stop()

    def frozen(self) -> AbstractContextManager[None]:
        """SIGSTOP while the block runs: connections stay open, and nobody answers."""
        return frozen(self.process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self.disk, ignore_errors=True)
