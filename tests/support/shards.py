"""
One endpoint in front of several servers, as hosted services have it.

The proxy sends each command to the server that its first key belongs to, and commands without a key
to one after the other. So `TIME` and `INFO` may come from any of them. What it does with a script
whose keys belong to different servers is the caller's choice.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import cycle
from typing import Any, Literal

from redis.crc import key_slot

from asgi_redis_session.devserver import DevServer

#: Commands without a key, as far as this library and redis-py send any.
_KEYLESS = {b"HELLO", b"CLIENT", b"PING", b"TIME", b"INFO", b"CONFIG", b"SELECT", b"AUTH", b"ACL"}
_EVERYWHERE = {b"HELLO", b"SELECT", b"SCRIPT", b"FLUSHDB"}
#: The slots of each of three masters.
_RUNS = ((0, 5461), (5462, 10_923), (10_924, 16_383))
_CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"


class Shards:
    """
    The servers, and what the proxy does with two keys on different ones.

    *apart*: `"refused"`, as a Cluster does; `"unnoticed"`: the script runs where its first key is.
    """

    def __init__(self, number: int = 3, *, apart: Literal["refused", "unnoticed"]) -> None:
        self.servers = [DevServer(search=False) for _ in range(number)]
        self.apart = apart
        #: How many commands were refused.
        self.refused = 0
        self.url = ""
        self._turns = cycle(range(number))
        self._clients: set[asyncio.StreamWriter] = set()

    def of(self, key: bytes) -> int:
        """The number of the server that a key belongs to."""
        return key_slot(key) * len(self.servers) // 16_384

    # --- The proxy ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection: a command, its reply, the next command."""
        self._clients.add(writer)
        links = [await asyncio.open_connection("127.0.0.1", one.port) for one in self.servers]
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = await _command(reader)
                writer.write(await self._answer(links, command))
        self._clients.remove(writer)
        for end in (writer, *[link for _, link in links]):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()

    async def end(self, listening: asyncio.Server) -> None:
        """Close all connections. No task is cancelled: one that connects would leave a socket."""
        listening.close()
        for client in self._clients:
            client.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=60)

    async def _answer(self, links: list[Any], command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name in _EVERYWHERE:
            replies = [await _ask(link, command) for link in links]
            return replies[0]
        keys = _keys_of(name, command)
        if not keys:
            return await _ask(links[next(self._turns)], command)
        places = [self.of(key) for key in keys]
        if self.apart == "refused" and len({key_slot(key) for key in keys}) > 1:
            self.refused += 1
            return _CROSSSLOT
        return await _ask(links[places[0]], command)


@contextmanager
def shards(number: int = 3, *, apart: Literal["refused", "unnoticed"]) -> Iterator[Shards]:
    """Several servers, and a proxy in front of them with an event loop of its own."""
    found = Shards(number, apart=apart)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with ExitStack() as stack:
        for server in found.servers:
            stack.enter_context(server)
        listening = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(found.serve, "127.0.0.1", 0), loop
        ).result(20)
        found.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
        try:
            yield found
        finally:
            asyncio.run_coroutine_threadsafe(found.end(listening), loop).result(60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()


class Spanning:
    """
    Three nodes of a Cluster, each of which answers for all of it, as Search does from Redis 8 on.

    Behind them is one server. What it would refuse, because it is no Cluster, is answered here.
    """

    def __init__(self) -> None:
        self.server = DevServer()
        self.ports: list[int] = []
        #: How many questions each node was asked.
        self.asked = [0, 0, 0]
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """All nodes, as a store takes them."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.ports)}"

    async def start(self) -> list[asyncio.Server]:
        """Listen on a port for each node."""
        listening = [
            await asyncio.start_server(partial(self._serve, number), "127.0.0.1", 0)
            for number in range(3)
        ]
        self.ports = [server.sockets[0].getsockname()[1] for server in listening]
        return listening

    async def end(self, listening: list[asyncio.Server]) -> None:
        """Close all connections."""
        for server in listening:
            server.close()
        for client in self._clients:
            client.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=60)

    async def _serve(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._clients.add(writer)
        link = await asyncio.open_connection("127.0.0.1", self.server.port)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = await _command(reader)
                self.asked[number] += command[0] == b"FT.AGGREGATE"
                writer.write(self._own_answer(number, command) or await _ask(link, command))
        self._clients.remove(writer)
        for end in (writer, link[1]):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()

    def _own_answer(self, number: int, command: list[bytes]) -> bytes | None:
        name = b" ".join(command[:2]).upper()
        if name == b"CLUSTER SLOTS":
            return b"*3\r\n" + b"".join(
                b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % (*run, port)
                for run, port in zip(_RUNS, self.ports, strict=True)
            )
        if name == b"CLUSTER NODES":
            lines = [
                f"{'abc'[node] * 40} 127.0.0.1:{port}@1 {'myself,' * (node == number)}master "
                f"- 0 0 1 connected {run[0]}-{run[1]}\n"
                for node, (run, port) in enumerate(zip(_RUNS, self.ports, strict=True))
            ]
            text = "".join(lines).encode()
            return b"$%d\r\n%b\r\n" % (len(text), text)
        return b"+OK\r\n" if command[0].upper() == b"ASKING" else None


@contextmanager
def spanning() -> Iterator[Spanning]:
    """Such a Cluster, with an event loop of its own."""
    found = Spanning()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with found.server:
        listening = asyncio.run_coroutine_threadsafe(found.start(), loop).result(20)
        try:
            yield found
        finally:
            asyncio.run_coroutine_threadsafe(found.end(listening), loop).result(60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()


def _keys_of(name: bytes, command: list[bytes]) -> list[bytes]:
    if name in (b"EVAL", b"EVALSHA"):
        return command[3 : 3 + int(command[2])]
    return [] if name in _KEYLESS else command[1:2]


# --- The Redis protocol, just enough of it ---


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    return [await _bulk(reader, await reader.readuntil(b"\r\n")) for _ in range(count)]


async def _bulk(reader: asyncio.StreamReader, head: bytes) -> bytes:
    return (await reader.readexactly(int(head[1:]) + 2))[:-2]


async def _ask(link: Any, command: list[bytes]) -> bytes:
    reader, writer = link
    parts = [b"$%d\r\n%b\r\n" % (len(part), part) for part in command]
    writer.write(b"*%d\r\n%b" % (len(command), b"".join(parts)))
    return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """One reply as it is, with all that is nested in it."""
    head = await reader.readuntil(b"\r\n")
    kind, rest = head[:1], head[1:-2]
    if kind in b"$=!" and int(rest) >= 0:
        return head + await reader.readexactly(int(rest) + 2)
    if kind in b"*~>%" and int(rest) >= 0:
        count = int(rest) * (2 if kind == b"%" else 1)
        return head + b"".join([await _reply(reader) for _ in range(count)])
    return head
