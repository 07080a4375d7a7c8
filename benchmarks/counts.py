"""
What one request costs, in counts that do not depend on the machine.

    make counts

For each kind of request, alone and 50 at once: Redis commands and batches (round trips of the
lane), Python function calls (ours, redis-py's and asyncio's; no ASGI server), blocks of memory that
are taken from Python's allocator, whether they are given back or not, objects that the collector
has to look at because requests hold them while they wait for Redis, and objects that only the
collector can free when a request is over.
"""

import asyncio
import ctypes
import gc
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer
from tests.support.internals import cookie_change, open_session

Scope = MutableMapping[str, Any]
REQUESTS = 200


async def untouched(session: Session) -> None:
    """The app never looks at it."""


async def read(session: Session) -> None:
    (await session.load())["user"]


async def write(session: Session) -> None:
    await session.load()
    session["n"] += 1


async def nested(session: Session) -> None:
    cart = (await session.load())["cart"]
    cart[0] = "SKU-1" if cart[0] == "SKU-2" else "SKU-2"


async def fetch(session: Session) -> None:
    await session.fetch("user")


async def increment(session: Session) -> None:
    await session.increment("n")


KINDS: tuple[Callable[[Session], Awaitable[None]], ...] = (
    untouched,
    read,
    write,
    nested,
    fetch,
    increment,
)
FIELDS = {"user": "ada", "n": 1, "theme": "dark", "cart": ["SKU-1"], "currency": "EUR"}


class Meter:
    """Drives one kind of request through the middleware, without a server around it."""

    def __init__(self, store: SessionStore, kind: Callable[[Session], Awaitable[None]]) -> None:
        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await kind(scope["session"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        self._store = store
        policy = CookiePolicy(name="session", secure=False)
        # The cost of an untouched request is what it waits for; its refresh has its own row.
        self._app = SessionMiddleware(app, store=store, cookie=policy, refresh="load")

    async def request(self, cookie: bytes) -> None:
        scope: Scope = {"type": "http", "headers": [(b"host", b"app"), (b"cookie", cookie)]}
        await self._app(scope, _receive, _send)

    async def measure(self, cookies: list[bytes], at_once: int) -> dict[str, float]:
        for _ in range(3):
            await asyncio.gather(*[self.request(cookies[0]) for _ in range(at_once)])
        before = self._store.stats
        gc.collect()
        gc.disable()
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        try:
            await self.drive(cookies, at_once)
        finally:
            sys.setprofile(None)
            left = gc.collect()
            gc.enable()
        after = self._store.stats
        blocks = await self._blocks(cookies, at_once)
        held = await self._held(cookies, at_once)
        return {
            "commands": (after.commands - before.commands) / REQUESTS,
            "batches": (after.batches - before.batches) / REQUESTS,
            "calls": round(calls / REQUESTS, 1),
            "blocks": round(blocks / REQUESTS, 1),
            "objects held": round(held / at_once, 1),
            "left for the collector": round(left / REQUESTS, 2),
        }

    async def drive(self, cookies: list[bytes], at_once: int) -> None:
        for _ in range(REQUESTS // at_once):
            if at_once == 1:
                await self.request(cookies[0])
            else:
                await asyncio.gather(*[self.request(c) for c in cookies[:at_once]])

    async def _blocks(self, cookies: list[bytes], at_once: int) -> int:
        """Blocks of up to 512 bytes taken from the allocator; free lists are not asked."""
        gc.collect()
        gc.disable()
        with nothing_given_back():
            before = sys.getallocatedblocks()
            await self.drive(cookies, at_once)
            taken = sys.getallocatedblocks() - before
        gc.enable()
        return taken

    async def _held(self, cookies: list[bytes], at_once: int) -> int:
        """Objects that the collector tracks while all requests wait for Redis."""
        gc.collect()
        gc.disable()
        before = gc.get_count()[0]
        requests = [asyncio.ensure_future(self.request(c)) for c in cookies[:at_once]]
        await asyncio.sleep(0)  # each of them runs until it has to wait
        held = gc.get_count()[0] - before
        gc.enable()
        await asyncio.gather(*requests)
        return held


class _Allocator(ctypes.Structure):
    """`PyMemAllocatorEx`, as Python's C API documents it."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


@contextmanager
def nothing_given_back() -> Iterator[None]:
    """
    Make Python forget its small blocks instead of freeing them, so that those in use are all that
    were ever taken. What is forgotten here stays forgotten: some megabytes, until we end.
    """
    api = ctypes.pythonapi
    # A C function that looks at no argument and changes nothing stands in for both `free`s.
    idle = ctypes.cast(api.Py_GetCompiler, ctypes.c_void_p).value
    usual = {domain: _Allocator() for domain in (1, 2)}  # PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ
    for domain, allocator in usual.items():
        api.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        forgetful = _Allocator.from_buffer_copy(allocator)
        forgetful.free = idle
        api.PyMem_SetAllocator(domain, ctypes.byref(forgetful))
    try:
        yield
    finally:
        for domain, allocator in usual.items():
            api.PyMem_SetAllocator(domain, ctypes.byref(allocator))


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    return None


async def make_sessions(store: SessionStore, number: int, data: dict[str, Any]) -> dict[bytes, str]:
    """Store so many sessions; returns the handle of each by its cookie."""
    made = {}
    for _ in range(number):
        session = await open_session(store).load()
        session.update(data)
        await session.save()
        change = cookie_change(session)
        assert change is not None
        made[f"session={change.session_id}".encode()] = session.handle or ""
    return made


async def measure(url: str) -> dict[str, dict[str, dict[str, float]]]:
    """All counts, by kind of request and by number of requests at once."""
    async with SessionStore.from_url(url, prefix="counts") as store:
        made = await make_sessions(store, 50, FIELDS)
        result = {
            kind.__name__: {
                str(at_once): await Meter(store, kind).measure([*made], at_once)
                for at_once in (1, 50)
            }
            for kind in KINDS
        }
        for handle in made.values():
            await store.revoke(handle)
        return result


def table(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """The counts as a Markdown table."""
    head = ["request", "at once", "Redis commands", "batches", "Python calls"]
    head += ["blocks taken", "objects held", "left"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for kind, by_number in result.items():
        for at_once, counts in by_number.items():
            cells = [kind, at_once, *[f"{value:g}" for value in counts.values()]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with DevServer(search=False) as server:
        counts = asyncio.run(measure(server.url))
    print(json.dumps(counts, indent=2) if "--json" in sys.argv else table(counts))
