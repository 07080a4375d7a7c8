"""One server for the tests of a module, a gate for each test, and figures that long runs find."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore

from ..support.gate import Gate, gate_to
from ..support.internals import handle_of, open_session
from ..support.sessions import create
from .servers import Server

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@dataclass
class World:
    """
    A server, a store that reaches it through a gate, one that reaches it directly, and Redis.

    *hasty* goes through the gate, too, and gives up after a second; the others wait for a machine
    that has other things to do.
    """

    server: Server
    gate: Gate
    store: SessionStore
    hasty: SessionStore
    direct: SessionStore
    admin: Any
    prefix: str

    async def create(self, **fields: object) -> str:
        """A session with these fields, made behind the gate's back; returns its id."""
        return await create(self.direct, **fields)

    def key(self, session_id: str) -> str:
        return f"{self.prefix}:{handle_of(self.direct, session_id)}"

    async def fields(self, session_id: str) -> dict[str, Any]:
        """What Redis holds."""
        info = await self.direct.get(handle_of(self.direct, session_id))
        return {} if info is None else info.fields

    async def loaded(self, session_id: str, *, hasty: bool = False) -> Session:
        return await open_session(self.hasty if hasty else self.store, session_id).load()

    def connections(self) -> int:
        """How many connections the server knows, but for the one that asks."""
        return len(self.admin.client_list()) - 1


@pytest.fixture
async def world(server: Server, prefix: str) -> AsyncIterator[World]:
    admin = server.admin
    with ExitStack() as stack:
        gate = stack.enter_context(gate_to(server.url))
        async with (
            SessionStore.from_url(gate.url, prefix=prefix, timeout=20) as store,
            SessionStore.from_url(gate.url, prefix=prefix, timeout=1) as hasty,
            SessionStore.from_url(server.url, prefix=prefix, timeout=20) as direct,
        ):
            yield World(server, gate, store, hasty, direct, admin, prefix)
    admin.flushall()
    admin.close()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keep one sentence with a measured figure; all are shown when the run has ended."""
    found: list[str] = request.config.stash.setdefault(_FIGURES, [])
    return found.append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the figures."""
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.section("measured")
        for sentence in figures:
            terminalreporter.write_line(sentence)
