"""
TCP proxies in front of Redis that do to a connection what networks do.

They know bytes, not commands, in two directions: `commands` (to Redis) and `replies` (from it).
Each can be slow, held, swallowed, cut after byte N or handed on in small pieces.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from asgi_redis_session import SessionStore

#: How long (seconds) the gate's own thread may take for what it does at once.
PATIENCE = 60
#: How a connection ends: RST; FIN to both sides; FIN to the client alone, whose commands still
#: arrive; or not at all, it only carries nothing any more.
Ending = Literal["reset", "close", "half-close", "lose"]


class Direction:
    """What happens to the bytes that go one way, on all connections."""

    def __init__(self) -> None:
        self.flows = asyncio.Event()
        self.carried = 0
        self.reset()

    def reset(self) -> None:
        """Carry everything, at once."""
        self.flows.set()
        self.delay = 0.0
        self.piece = 65_536
        self.skips = 0
        self.left: int | None = None
        self.ending: Ending = "reset"

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What is handed on of *data*, and whether the connection ends after it."""
        skipped = data[self.skips :]
        self.skips = max(0, self.skips - len(data))
        if self.left is None:
            return skipped, False
        handed_on = skipped[: self.left]
        self.left -= len(handed_on)
        if self.left:
            return handed_on, False
        self.left = None  # one cut; the next connection works
        return handed_on, True


class Gate:
    """Forwards bytes both ways; every method works from any thread."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._links: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._lost: set[asyncio.StreamWriter] = set()
        self._half_closed: set[asyncio.StreamWriter] = set()
        self._commands = Direction()
        self._replies = Direction()
        self._is_shut = False
        self._server: Any = None
        self.accepted = 0

    @property
    def url(self) -> str:
        """The URL of Redis, but through the gate."""
        login, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    @property
    def port(self) -> int:
        """Where the gate listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many go through it now."""
        return len(self._links)

    @property
    def carried(self) -> tuple[int, int]:
        """How many bytes of commands and of replies have gone through."""
        return self._commands.carried, self._replies.carried

    def store(self, **options: Any) -> SessionStore:
        """A store that reaches Redis through the gate."""
        return SessionStore.from_url(self.url, **options)

    # --- All connections ---

    def shut(self) -> None:
        """Reset all connections, and each new one."""
        self._call(self._shut)

    def open(self) -> None:
        """Work again; what was held back is delivered, what was lost is not."""
        self._call(self._open)

    def hang(self) -> None:
        """Take bytes, deliver none."""
        self._call(self._commands.flows.clear)
        self._call(self._replies.flows.clear)

    def lose(self) -> None:
        """Make black holes of the connections that are open; new ones work."""
        self._call(lambda: self._lost.update(self._links))

    async def is_idle(self) -> None:
        """Wait until the connections that somebody else has ended are gone."""
        async with asyncio.timeout(PATIENCE):
            while self._links:
                await asyncio.sleep(0.01)

    def cut_now(self, ending: Ending = "reset") -> None:
        """End the connections that are open; new ones work."""
        self._call(lambda: self._end_all(ending))

    # --- One direction ---

    def hold_replies(self) -> None:
        """Deliver commands, but no answer to them."""
        self._call(self._replies.flows.clear)

    def skip_replies(self, count: int) -> None:
        """Swallow the next *count* bytes of replies, and deliver what follows."""
        self._call(partial(setattr, self._replies, "skips", count))

    def inject(self, reply: bytes) -> None:
        """Deliver what Redis never said."""
        for client in list(self._links):
            self._call(partial(client.write, reply))

    def slow(self, commands: float = 0.0, replies: float = 0.0) -> None:
        """Hand each packet on so many seconds late."""
        self._call(partial(setattr, self._commands, "delay", commands))
        self._call(partial(setattr, self._replies, "delay", replies))

    def crumble(self, piece: int = 1) -> None:
        """Hand on pieces of so many bytes, each a packet of its own."""
        for direction in (self._commands, self._replies):
            self._call(partial(setattr, direction, "piece", piece))

    def cut(
        self, which: Literal["commands", "replies"], after: int, ending: Ending = "reset"
    ) -> None:
        """Let *after* more bytes through (the last of them included), then end the connection."""

        def arm() -> None:
            direction = self._commands if which == "commands" else self._replies
            direction.left, direction.ending = after, ending

        self._call(arm)

    # --- Inside ---

    def _shut(self) -> None:
        self._is_shut = True
        self._commands.flows.set()
        self._replies.flows.set()
        self._end_all("reset")

    def _open(self) -> None:
        self._is_shut = False
        self._commands.reset()
        self._replies.reset()

    def _end_all(self, ending: Ending) -> None:
        for client in list(self._links):
            self._end(client, ending)

    def _end(self, client: asyncio.StreamWriter, ending: Ending) -> None:
        for writer in (client, self._links[client]):
            if ending == "reset":
                _reset(writer)
            elif ending == "close":
                writer.close()
        if ending == "half-close":
            client.write_eof()
            self._half_closed.add(client)
        elif ending == "lose":
            self._lost.add(client)

    def _call(self, what: Callable[[], object]) -> None:
        """Return when it is done, and when what it has closed is closed: transports take turns."""

        async def do() -> None:
            what()
            await _turns()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(PATIENCE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._is_shut:
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        except (OSError, asyncio.CancelledError):  # Redis itself is away, or the gate ends
            _reset(writer)
            return
        self._links[writer] = back
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._pump(writer, reader, back, self._commands),
                self._pump(writer, there, writer, self._replies),
            )
        self._lost.discard(writer)
        self._half_closed.discard(writer)
        del self._links[writer]

    async def _pump(
        self,
        client: asyncio.StreamWriter,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(direction.piece):
                await direction.flows.wait()
                if direction.delay:
                    await asyncio.sleep(direction.delay)
                if self._is_shut:
                    break
                if client in self._lost:
                    continue
                if sink is client and client in self._half_closed:
                    continue
                direction.carried += len(data)
                handed_on, ends = direction.take(data)
                sink.write(handed_on)
                await sink.drain()
                if ends:
                    self._end(client, direction.ending)
        if client not in self._lost:
            sink.close()

    def run(self) -> None:
        """The thread's work."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        # A server that is closed while a connection is on its way from `accept` to `_serve` would
        # leave its socket to the garbage collector, at the cost of whatever test runs then.
        for listener in self._server.sockets:
            self._loop.remove_reader(listener.fileno())
        self._is_shut = True
        await _turns()
        self._server.close()
        self._shut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _turns()


async def _turns() -> None:
    """Let the loop do what it has put off: it takes up, and closes, connections step by step."""
    for _ in range(5):
        await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN, as from a peer that has crashed."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Gates:
    """A gate in front of each node of a Cluster; what is done is done to all."""

    def __init__(self, gates: dict[int, Gate]) -> None:
        self._gates = gates

    def store(self, **options: Any) -> SessionStore:
        """A store that reaches every node through its gate."""
        ports = {port: gate.port for port, gate in self._gates.items()}
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
    asyncio.run_coroutine_threadsafe(gate.start(), gate._loop).result(PATIENCE)
    try:
        yield gate
    finally:
        asyncio.run_coroutine_threadsafe(gate.stop(), gate._loop).result(PATIENCE)
        gate._loop.call_soon_threadsafe(gate._loop.stop)
        thread.join(PATIENCE)
