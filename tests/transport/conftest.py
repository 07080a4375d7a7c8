"""Event loops of both kinds."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Runs what a test asks for, once on each kind of event loop."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner
