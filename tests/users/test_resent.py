"""A connection that breaks before a reply has arrived."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.gate import Gate, gate_to
from ..support.internals import give_place_back, handle_of, take_place
from ..support.sessions import log_in


@pytest.fixture
def gate(session_redis_url: str) -> Iterator[Gate]:
    with gate_to(session_redis_url) as gate:
        yield gate


Act = Callable[[SessionStore, str], Awaitable[Any]]
#: What begins by reading an index.
VERBS: dict[str, Act] = {
    "list": lambda store, _: store.users.list("ann"),
    "count": lambda store, _: store.users.count("ann"),
    "revoke": lambda store, handle: store.users.revoke("ann", handle),
    "revoke_all": lambda store, _: store.users.revoke_all("ann"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_reading_an_index_is_sent_once_more(gate: Gate, prefix: str, verb: str) -> None:
    """The first reply is lost with its connection: it may run twice, so nobody notices."""
    async with gate.store(prefix=prefix, timeout=20) as store:
        session_id = await log_in(store, "ann")
        await store.users.count("ann")
        await store.drain()
        gate.cut("replies", after=1)
        assert await VERBS[verb](store, handle_of(store, session_id))


async def test_giving_a_place_back_is_sent_once_more(gate: Gate, prefix: str) -> None:
    """As a logout does it, after its session has ended."""
    async with gate.store(prefix=prefix, timeout=20) as store:
        await take_place(store, "ann", "0" * 32)
        await store.users.count("ann")
        await store.drain()
        gate.cut("replies", after=1)
        await give_place_back(store, "ann", "0" * 32)
        assert await store.users.count("ann") == 0
