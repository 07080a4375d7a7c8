"""
What one request costs, in counts that do not depend on the machine.

    make counts

For each kind of request, alone and 50 at once: Redis commands and batches (round trips of the
lane), Python function calls (ours, redis-py's and asyncio's; no ASGI server) and how many more the
budget allows, blocks of memory that are taken from Python's allocator, whether they are given back
or not, objects that the collector has to look at because requests hold them while they wait for
Redis, and objects that only the collector can free when a request is over.

The pruning that follows a login or a renewal, and that no request waits for, is left out: how many
commands it takes depends on chance.
"""

import asyncio
import ctypes
import gc
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import redis

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer
from tests.support.internals import new_id, open_session, stop_pruning

Scope = MutableMapping[str, Any]
#: By kind of request, by number of requests at once, and by what is counted.
Counts = dict[str, dict[str, dict[str, float]]]
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


async def login(session: Session) -> None:
    await session.login("ada")


async def renew(session: Session) -> None:
    (await session.load()).renew()


async def logout(session: Session) -> None:
    await session.logout()


class Budget(NamedTuple):
    """
    What a request of a kind may cost; each of 50 at once shares its batches with the others.

    *trips*: batches for which it waits. Any other command may ride along with a later one.
    """

    commands: int
    trips: int
    #: Python calls alone, and of each of 50 at once: measured on CPython 3.11 with redis-py 8.1.
    calls: dict[str, int]

    def allowed(self, at_once: str) -> float:
        """So many Python calls, a quarter more than measured: versions of Python differ."""
        return self.calls[at_once] * 1.25


Kind = Callable[[Session], Awaitable[None]]
KINDS: dict[Kind, Budget] = {
    untouched: Budget(0, 0, {"1": 26, "50": 48}),
    read: Budget(2, 1, {"1": 180, "50": 102}),
    write: Budget(3, 2, {"1": 377, "50": 202}),
    nested: Budget(3, 2, {"1": 412, "50": 237}),
    fetch: Budget(1, 1, {"1": 180, "50": 102}),
    increment: Budget(1, 1, {"1": 184, "50": 106}),
    login: Budget(5, 4, {"1": 716, "50": 345}),
    renew: Budget(6, 5, {"1": 815, "50": 340}),
    logout: Budget(2, 2, {"1": 337, "50": 159}),
}
#: Kinds after which a cookie is worth nothing any more, and whose sessions they take.
ONCE: dict[Kind, str | None] = {login: None, renew: "ada", logout: "ada"}
FIELDS = {"user": "ada", "n": 1, "theme": "dark", "cart": ["SKU-1"], "currency": "EUR"}


class Meter:
    """Drives one kind of request through the middleware, without a server around it."""

    def __init__(self, store: SessionStore, kind: Kind) -> None:
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

    async def measure(self, cookies: Iterable[bytes], at_once: int) -> dict[str, float]:
        """All counts. Each request takes the next of the *cookies*."""
        cookies = iter(cookies)
        for _ in range(3):
            await asyncio.gather(*[self.request(next(cookies)) for _ in range(at_once)])
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

    async def drive(self, cookies: Iterator[bytes], at_once: int) -> None:
        for _ in range(REQUESTS // at_once):
            if at_once == 1:
                await self.request(next(cookies))
            else:
                await asyncio.gather(*[self.request(next(cookies)) for _ in range(at_once)])

    async def _blocks(self, cookies: Iterator[bytes], at_once: int) -> int:
        """Blocks of up to 512 bytes taken from the allocator; free lists are not asked."""
        gc.collect()
        gc.disable()
        with nothing_given_back():
            before = sys.getallocatedblocks()
            await self.drive(cookies, at_once)
            taken = sys.getallocatedblocks() - before
        gc.enable()
        return taken

    async def _held(self, cookies: Iterator[bytes], at_once: int) -> int:
        """Objects that the collector tracks while all requests wait for Redis."""
        gc.collect()
        gc.disable()
        before = gc.get_count()[0]
        requests = [asyncio.ensure_future(self.request(next(cookies))) for _ in range(at_once)]
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


async def make_sessions(
    store: SessionStore, number: int, data: dict[str, Any], user: str | None = None
) -> dict[bytes, str]:
    """Store so many sessions; returns the handle of each by its cookie."""
    made = {}
    for _ in range(number):
        session = await open_session(store).load()
        if user is not None:
            await session.login(user)
        session.update(data)
        await session.save()
        made[f"session={new_id(session)}".encode()] = session.handle or ""
    return made


async def measure(url: str) -> Counts:
    """All counts, by kind of request and by number of requests at once."""
    result: Counts = {}
    async with SessionStore.from_url(url, prefix="counts") as store:
        stop_pruning(store)
        made = await make_sessions(store, 50, FIELDS)
        for kind in KINDS:
            result[kind.__name__] = {}
            for at_once in (1, 50):
                if kind in ONCE:
                    number = 2 * REQUESTS + 4 * at_once
                    cookies = iter([*await make_sessions(store, number, FIELDS, ONCE[kind])])
                else:
                    cookies = cycle([*made][:at_once])
                counts = await Meter(store, kind).measure(cookies, at_once)
                result[kind.__name__][str(at_once)] = counts
        for handle in made.values():
            await store.revoke(handle)
        await store.users.revoke_all("ada")
    return result


def pieces(url: str) -> int:
    """
    In how many pieces the replies to one batch may arrive, each of which lets those requests go on
    whose replies it has: Redis sends them in one piece since 7.0.
    """
    with redis.Redis.from_url(url) as client:
        version: str = client.info("server")["redis_version"]
    return 1 if int(version.partition(".")[0]) >= 7 else 2


def table(result: Counts, most_pieces: int) -> str:
    """The counts as a Markdown table, and what is not as the budget says."""
    head = ["request", "at once", "Redis commands", "batches", "Python calls", "to spare"]
    head += ["blocks taken", "objects held", "left"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for kind, budget in KINDS.items():
        for at_once, counts in result[kind.__name__].items():
            figures = [f"{value:g}" for value in counts.values()]
            figures.insert(3, f"{budget.allowed(at_once) - counts['calls']:+.0f}")
            lines.append(f"| {' | '.join([kind.__name__, at_once, *figures])} |")
    return "\n".join([*lines, *beyond(result, most_pieces)])


def beyond(result: Counts, most_pieces: int) -> list[str]:
    """What is not as the budget says, a sentence for each."""
    wrong = []
    for kind, budget in KINDS.items():
        for at_once, counts in result[kind.__name__].items():
            allowed, batches = budget.allowed(at_once), budget.trips / int(at_once)
            most = batches if at_once == "1" else batches * most_pieces
            most += (budget.commands - budget.trips) / int(at_once)
            limits = {
                "commands": (budget.commands, budget.commands),
                "batches": (batches, most),
                "calls": (0, allowed),
                "left for the collector": (0, 0),
            }
            wrong += [
                f"{kind.__name__}, {at_once} at once: {counts[name]:g} {name}, "
                + (f"not {least:g}." if least == most else f"not {least:g} to {most:g}.")
                for name, (least, most) in limits.items()
                if not least <= counts[name] <= most
            ]
    return wrong


if __name__ == "__main__":
    with DevServer(search=False) as server:
        counts, most_pieces = asyncio.run(measure(server.url)), pieces(server.url)
    print(json.dumps(counts, indent=2) if "--json" in sys.argv else table(counts, most_pieces))
    sys.exit(bool(beyond(counts, most_pieces)))
