"""TCP proxies in front of Redis that a test can shut, open again, or let hang."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from asgi_redis_session import SessionStore


class Gate:
    """Forwards bytes both ways; every method works from any thread."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_shut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._replies_flow = asyncio.Event()
        self._replies_flow.set()
        self._server: Any = None
        self.accepted = 0

    @property
    def url(self) -> str:
        """The URL of Redis, but through the gate."""
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f"127.0.0.1:{port}"))

    def store(self, **options: Any) -> SessionStore:
        """A store that reaches Redis through the gate."""
        return SessionStore.from_url(self.url, **options)

    def shut(self) -> None:
        """Reset all connections, and each new one."""
        self._call(self._shut)

    def hang(self) -> None:
        """Take bytes, deliver none."""
        self._call(self._flows.clear)

    def hold_replies(self) -> None:
        """Deliver commands, but no answer to them."""
        self._call(self._replies_flow.clear)

    def open(self) -> None:
        """Work again; what was held back is delivered."""
        self._call(self._open)

    def _shut(self) -> None:
        self._is_shut = True
        self._flows.set()
        self._replies_flow.set()
        for writer in self._writers:
            writer.transport.abort()

    def _open(self) -> None:
        self._is_shut = False
        self._flows.set()
        self._replies_flow.set()

    def _call(self, what: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(what)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._is_shut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, back}
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._pump(reader, back, self._flows),
                self._pump(there, writer, self._replies_flow),
            )
        self._writers -= {writer, back}

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_flow: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                await may_flow.wait()
                if self._is_shut:
                    break
                sink.write(data)
                await sink.drain()
        sink.close()

    def run(self) -> None:
        """The thread's work."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        self._shut()
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Gates:
    """A gate in front of each node of a Cluster; what is done is done to all."""

    def __init__(self, gates: dict[int, Gate]) -> None:
        self._gates = gates

    def store(self, **options: Any) -> SessionStore:
        """A store that reaches every node through its gate."""
        ports = {port: urlsplit(gate.url).port or 0 for port, gate in self._gates.items()}
        client = RedisCluster(
            startup_nodes=[ClusterNode("127.0.0.1", port) for port in ports.values()],
            address_remap=lambda place: (place[0], ports.get(place[1], place[1])),
        )
        return SessionStore(client, **options)

    def shut(self) -> None:
        """Reset all connections, and each new one."""
        for gate in self._gates.values():
            gate.shut()

    def hang(self) -> None:
        """Take bytes, deliver none."""
        for gate in self._gates.values():
            gate.hang()

    def hold_replies(self) -> None:
        """Deliver commands, but no answer to them."""
        for gate in self._gates.values():
            gate.hold_replies()

    def open(self) -> None:
        """Work again; what was held back is delivered."""
        for gate in self._gates.values():
            gate.open()


@contextmanager
def gates_to(url: str) -> Iterator[Gate | Gates]:
    """A gate in front of the Redis at *url*, or one in front of each node of a Cluster."""
    if "+cluster://" not in url:
        with gate_to(url) as gate:
            yield gate
        return
    parts = urlsplit(url.replace("+cluster://", "://"))
    with ExitStack() as stack:
        gates = {}
        for place in parts.netloc.split(","):
            node = parts._replace(netloc=place).geturl()
            gates[urlsplit(node).port or 0] = stack.enter_context(gate_to(node))
        yield Gates(gates)


@contextmanager
def gate_to(url: str) -> Iterator[Gate]:
    """A gate in front of the Redis at *url*."""
    gate = Gate(url)
    thread = threading.Thread(target=gate.run, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(gate.start(), gate._loop).result(10)
    try:
        yield gate
    finally:
        asyncio.run_coroutine_threadsafe(gate.stop(), gate._loop).result(10)
        gate._loop.call_soon_threadsafe(gate._loop.stop)
        thread.join(10)
