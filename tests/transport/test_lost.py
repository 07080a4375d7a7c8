"""
A connection that is lost between the check that it is good and the command that is sent on it.

Its transport is closed then. What that raises depends on the event loop and on the version of
Python: a RuntimeError, an AttributeError or a TypeError, which no caller expects from a client of
Redis.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from redis.asyncio import Connection, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.pool import private_pool

from ..support.servers import Cluster, Sentinels
from ..support.sessions import create, load


async def lose(connection: Any) -> None:
    """End a connection as a reset does that has just arrived."""
    connection._writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


class Checked(Connection):
    """Is lost whenever its pool has found it good."""

    async def can_read(self) -> bool:
        found: bool = await super().can_read()
        await lose(self)
        return found


@contextmanager
def no_problems(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """No task fails without anybody who is told."""
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, problem: problems.append(problem))
    yield
    gc.collect()  # a task that has failed says so when it is forgotten
    assert problems == []


@asynccontextmanager
async def losing(server: DevServer, prefix: str) -> AsyncIterator[SessionStore]:
    """A store that loses every connection to its server."""
    client = Redis(port=server.port)
    client.connection_pool.connection_class = Checked
    async with SessionStore(client, prefix=prefix, timeout=20) as store:
        yield store


def test_a_failure_to_send_is_an_error_of_redis(runner: asyncio.Runner, alone: DevServer) -> None:
    """Not one of the transport, which says nothing of a connection."""

    async def send() -> None:
        pool = private_pool(Redis.from_url(alone.url))
        connection: Any = await pool.get_connection()  # type: ignore[no-untyped-call]
        await lose(connection)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await connection.connect()
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await pool.release(connection)
        await pool.aclose()

    runner.run(send())


def test_the_doctor_reports_it(runner: asyncio.Runner, alone: DevServer, prefix: str) -> None:
    """As a server that was not reached; `store.check` never raises for what it finds."""

    async def check() -> None:
        async with losing(alone, prefix) as store:
            report = await store.check(write=False)
        (found,) = [finding for finding in report.findings if finding.name == "reach"]
        assert str(alone.port) in str(found.server)

    runner.run(check())


def test_a_pass_and_a_request_raise_what_they_document(
    runner: asyncio.Runner, alone: DevServer, prefix: str
) -> None:
    """`SessionUnavailable`, which names the server."""

    async def use() -> None:
        async with losing(alone, prefix) as store:
            for what in (store.count(), create(store, n=1)):
                with pytest.raises(SessionUnavailable, match=str(alone.port)):
                    await what

    runner.run(use())


def test_the_next_sentinel_is_asked(runner: asyncio.Runner, prefix: str) -> None:
    """If the connection to one Sentinel is lost, another one names the master."""

    async def use(sentinels: Sentinels) -> None:
        places = [("127.0.0.1", sentinel.port) for sentinel in sentinels.sentinels]
        sentinel = Sentinel(places)  # type: ignore[no-untyped-call]
        sentinel.sentinels[0].connection_pool.connection_class = Checked
        client = sentinel.master_for(sentinels.SERVICE)
        async with SessionStore(client, prefix=prefix, timeout=20) as store:
            assert await load(store, await create(store, n=1)) == 1
            report = await store.check(write=False)
        assert [finding for finding in report.findings if finding.name == "sentinel"]

    with Sentinels() as sentinels:
        sentinels.await_master()
        with no_problems(runner.get_loop()):
            runner.run(use(sentinels))


def test_the_next_node_lists_the_slots(runner: asyncio.Runner, prefix: str) -> None:
    """If the connection to one node is lost, another one is asked, and no task fails."""
    lost: list[int] = []

    class First(Connection):
        """The first connection is lost as soon as it is made."""

        async def connect(self) -> None:
            await super().connect()  # type: ignore[no-untyped-call]
            if not lost:
                lost.append(self.port)
                await lose(self)

    async def use(cluster: Cluster) -> None:
        nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
        client = RedisCluster(startup_nodes=nodes)
        client.connection_kwargs["connection_class"] = First
        async with SessionStore(client, prefix=prefix, timeout=20) as store:
            assert await load(store, await create(store, n=1)) == 1

    with Cluster() as cluster, no_problems(runner.get_loop()):
        runner.run(use(cluster))
    assert len(lost) == 1
