"""Every test talks to a real redis-server, through the fixtures that users get as well."""

import asyncio
import fcntl
import gc
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck, settings

from asgi_redis_session import SessionEvent, SessionStore, devserver
from asgi_redis_session.devserver import DevServer

from .support.servers import Cluster, ask_all, plain_client

pytest_plugins = ["asgi_redis_session.testing", "tests.support.fixtures"]

# No example of a property is too slow: the machine may have other things to do.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def ports() -> Iterator[None]:
    """
    A share of the ports for this process alone: of all test runs, and of the workers of each
    (pytest-xdist), so that a server which was killed finds its port free when it comes back.
    """
    shares, whole = 32, devserver._PORTS
    with ExitStack() as stack:
        for number in range(shares):
            name = f"asgi-redis-session-{os.getuid()}-ports-{number}.lock"
            lock = stack.enter_context(Path(tempfile.gettempdir(), name).open("w"))
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                devserver._PORTS = whole[number::shares]  # type: ignore[misc]
                break
        yield
        devserver._PORTS = whole  # type: ignore[misc]


@pytest.fixture(scope="session", autouse=True)
def certificates() -> Iterator[None]:
    """
    Those of all authorities are read once. By default, each client of httpx reads them again, which
    takes 30 ms, although it speaks plain HTTP to loopback.
    """
    with pytest.MonkeyPatch.context() as patch:
        once = cache(httpx.create_ssl_context)
        patch.setattr("httpx._transports.default.create_ssl_context", once)
        yield


if os.environ.get("SESSION_TEST_LOOP") == "uvloop":  # `make matrix` asks for it
    import uvloop

    def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Every test runs on this kind of event loop."""
        return {"uvloop": uvloop.new_event_loop}


#: Folders whose tests start servers and processes. Side by side, their files begin first: one that
#: takes a minute would else run alone at the end, while the other processes have nothing to do.
LONGEST = (
    *("attacks", "cluster", "faults", "docs", "examples", "gateways", "frameworks", "browser"),
    *("deployment", "cli", "testing", "observability", "benchmarks", "versions", "middleware"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Side by side, begin with the longest files. On a Cluster, leave out what belongs to one server;
    it shows among the skipped.
    """
    if hasattr(config, "workerinput"):
        ranks = {folder: rank for rank, folder in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.parent.name, len(ranks)))
    if os.environ.get("SESSION_TEST_SERVER") == "cluster":
        for item in items:
            if mark := item.get_closest_marker("one_node"):
                item.add_marker(pytest.mark.skip(reason=f"{mark.name}: see pyproject.toml"))


def pytest_collection_finish() -> None:
    """
    Let the garbage collector leave alone what lives until the end: modules, tests, strategies.
    Looking at all that again and again takes a fifth of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_redis_url() -> Iterator[str]:
    """The server, or the Cluster, and the RESP version that `make matrix` asks for."""
    protocol = os.environ.get("SESSION_TEST_PROTOCOL", "3")
    binary = os.environ.get("SESSION_TEST_SERVER")
    with Cluster(search=True) if binary == "cluster" else DevServer(binary=binary) as server:
        yield f"{server.url}?protocol={protocol}"


@pytest.fixture(scope="session")
def has_search(session_redis_url: str) -> bool:
    """Whether that server has Redis Search."""
    with plain_client(session_redis_url) as client:
        is_cluster = isinstance(client, redis.RedisCluster)
        any_node = {"target_nodes": client.get_random_node()} if is_cluster else {}
        try:
            client.execute_command("FT._LIST", **any_node)
        except redis.ResponseError:
            return False
    return True


@pytest.fixture(autouse=True)
def skipped_without_search(request: pytest.FixtureRequest) -> None:
    """Skip what is marked `needs_search` on a server without it."""
    is_marked = request.node.get_closest_marker("needs_search") is not None
    if is_marked and not request.getfixturevalue("has_search"):
        pytest.skip("this Redis has no Search")


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Litestar sets the level of the root logger for all; the next test finds it as it was."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="module")
def leftovers(session_redis_url: str) -> Iterator[None]:
    """What the tests of a module leave goes with it: others look at all keys of the server."""
    yield
    with plain_client(session_redis_url) as client:
        ask_all(client, "FLUSHALL")


@pytest.fixture
def prefix(leftovers: None) -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def events() -> list[SessionEvent]:
    """What the `store` fixture has reported."""
    return []


@pytest.fixture
async def store(
    session_redis_url: str, prefix: str, events: list[SessionEvent]
) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, timeout=20, on_event=events.append
    ) as store:
        yield store


@pytest.fixture
def admin(session_redis_url: str) -> Iterator[Any]:
    """A plain client for looking at Redis, and for planting what should not be there."""
    with plain_client(session_redis_url) as client:
        yield client
