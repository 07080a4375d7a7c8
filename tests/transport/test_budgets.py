"""A verb of several steps has one time budget, not one for each step."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionUnavailable

from ..support.gate import Gate, gate_to
from ..support.internals import Send, around_scripts, load_scripts, open_session, stop_pruning
from ..support.sessions import create

pytestmark = pytest.mark.one_node

#: The steps of a renewal of a user's session.
STEPS = ["move", "save", "confirm", "release"]
TIMEOUT = 2.0


@pytest.fixture
def gate(session_redis_url: str) -> Iterator[Gate]:
    with gate_to(session_redis_url) as gate:
        yield gate


async def test_the_steps_of_a_verb_share_one_timeout(gate: Gate, admin: Any, prefix: str) -> None:
    """Each of four steps takes less than half of the timeout, and the last is not sent any more."""
    async with gate.store(prefix=prefix, timeout=TIMEOUT) as store:
        stop_pruning(store)
        load_scripts(admin)
        session = open_session(store, await create(store, user="ann"))
        await session.login("ann")
        await session.save()
        sent: list[str] = []

        async def note(name: str, send: Send) -> object:
            sent.append(name)
            return await send()

        restore = around_scripts(store, note)
        gate.slow(replies=0.45 * TIMEOUT)
        session.renew()
        with pytest.raises(SessionUnavailable, match="did not answer within 2 s"):
            await session.save()
        assert sent == STEPS[: len(sent)]
        assert len(sent) < len(STEPS)
        gate.slow()
        restore()


async def test_what_else_takes_time_is_not_charged(gate: Gate, prefix: str) -> None:
    """Between the steps, another handler blocks the event loop for longer than the timeout."""
    async with gate.store(prefix=prefix, timeout=TIMEOUT) as store:
        stop_pruning(store)
        session = open_session(store, await create(store, user="ann"))
        await session.login("ann")
        await session.save()
        sent: list[str] = []

        async def block(name: str, send: Send) -> object:
            sent.append(name)
            time.sleep(0.6 * TIMEOUT)  # noqa: ASYNC251  (that is the fault)
            return await send()

        restore = around_scripts(store, block)
        session.renew()
        await session.save()
        assert sent == STEPS
        restore()
