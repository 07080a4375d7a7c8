"""
A client that sends many requests at the same moment, each on a connection of its own.

    python -m benchmarks.burst PORT COUNT COOKIES

All connections are open before the first request leaves. Prints a JSON list with one entry for each
request: its status (0: no answer), the milliseconds until its answer came, and `x-had-ms`.
"""

import asyncio
import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import uvloop

#: Connections that are made at once: fewer than a listening socket lets wait.
MAKING = 500
#: Who has no answer by then (s) gets none.
PATIENCE = 60


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[tuple[int, float, float]] = loop.create_future()
        self._loop = loop
        self._received = b""

    def connection_made(self, transport: Any) -> None:  # uvloop's are of no class of asyncio
        self._transport = transport

    def send(self, cookie: str) -> None:
        self._sent_at = self._loop.time()
        self._transport.write(
            f"GET /read HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: session={cookie}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if end and not self.answer.done():
            had = re.search(rb"(?i)x-had-ms: ([\d.]+)", head)
            took = (self._loop.time() - self._sent_at) * 1000
            self.answer.set_result((int(head.split()[1]), took, float(had[1]) if had else -1.0))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result((0, 0.0, -1.0))


async def burst(port: int, count: int, cookies: list[str]) -> list[tuple[int, float, float]]:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for start in range(0, count, MAKING):
        made = [
            loop.create_connection(Client, "127.0.0.1", port)
            for _ in range(min(MAKING, count - start))
        ]
        clients += [client for _, client in await asyncio.gather(*made)]
    await asyncio.sleep(0.2)  # the server has accepted them by then, and is idle
    for number, client in enumerate(clients):
        client.send(cookies[number % len(cookies)])
    answers = [client.answer for client in clients]
    await asyncio.wait(answers, timeout=PATIENCE)
    return [answer.result() if answer.done() else (0, PATIENCE * 1e3, -1.0) for answer in answers]


def main() -> None:
    port, count, cookies = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lines = Path(cookies).read_text().splitlines()
    print(json.dumps(uvloop.run(burst(int(port), int(count), lines))))


if __name__ == "__main__":
    main()
