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
from itertools import cycle
from typing import Any, Literal

from redis.crc import key_slot

from asgi_redis_session.devserver import DevServer

#: Commands without a key, as far as this library and redis-py send any.
_KEYLESS = {b"HELLO", b"CLIENT", b"PING", b"TIME", b"INFO", b"CONFIG", b"SELECT", b"AUTH", b"ACL"}
_EVERYWHERE = {b"HELLO", b"SELECT", b"SCRIPT", b"FLUSHDB"}
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
