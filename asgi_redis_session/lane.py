"""
A lane: one connection that carries everybody's commands.

While one batch is on its way, the commands of all other callers gather; when its replies are in,
they leave together as the next one. At one caller a batch is one command and nothing waits; at
five hundred it is large. So a process needs one connection however many requests it serves.

Rules kept here:
- a caller who is cancelled or fails never harms the batch, nor another caller;
- every reply must name what its caller asked for, else the connection is thrown away before
  anybody sees another reply of it;
- a caller's deadline runs from the moment it queued; when it passes, so does the connection;
- nothing is retried here: the lane does not know what a command does.

It uses redis-py's documented `ConnectionPool` and `Connection`, and knows nothing about sessions.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["Lane", "LaneBroken", "private_pool"]

#: Give the connection back to its pool this often (seconds), so that what redis-py does there
#: happens: a new password of a credential provider, a new master found by Sentinel.
_CHECKOUT = 30.0


class LaneBroken(Exception):
    """The reply did not come: no connection, a lost one, a broken one, or the deadline."""


class _Call(NamedTuple):
    packed: bytes
    echo: bytes
    reply: "asyncio.Future[list[Any]]"
    deadline: float


def private_pool(client: Redis) -> ConnectionPool:
    """
    A pool that reaches the same server as *client*, with settings that are safe for a lane.

    Address, credentials, TLS and RESP version are the client's. Its retries, timeouts and decoding
    are not: redis-py's defaults retry writes, wait up to a minute, and (8.1) hand out
    connections with an unread reply on them.
    """
    theirs = client.connection_pool
    ours = {
        name: value
        for name, value in theirs.connection_kwargs.items()
        if name not in ("connection_pool", "retry_on_timeout", "himport_registry")
    } | {
        "decode_responses": False,
        "socket_timeout": None,  # the lane has a deadline of its own for the whole batch
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "max_connections": 4,
    }
    if "maint_notifications_config" in inspect.signature(ConnectionPool.__init__).parameters:
        # With these on, redis-py 8.1 accepts a connection that has stray data on it (8.0 has
        # neither).
        ours["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if isinstance(theirs, SentinelConnectionPool):
        return SentinelConnectionPool(  # type: ignore[no-untyped-call]
            theirs.service_name,
            theirs.sentinel_manager,
            connection_class=theirs.connection_class,
            is_master=theirs.is_master,
            **ours,
        )
    return ConnectionPool(connection_class=theirs.connection_class, **ours)


class Lane:
    """
    One connection, shared by all callers of one event loop.

    *timeout*: how long, in seconds, a caller waits at the most, connecting included.
    """

    __slots__ = (
        "_connection",
        "_distrusted",
        "_keeper",
        "_loop",
        "_pending",
        "_pool",
        "_return_at",
        "_runner",
        "_timeout",
        "batches",
        "commands",
    )

    def __init__(self, pool: ConnectionPool, *, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Call] = []
        self._runner: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._keeper: AsyncGenerator[None, None] | None = None
        self._return_at = 0.0
        self._distrusted = False
        self.batches = 0
        self.commands = 0

    @property
    def backlog(self) -> int:
        """How many commands wait for the next batch."""
        return len(self._pending)

    def submit(
        self, command: Sequence[Any], echo: bytes, deadline: float | None = None
    ) -> "asyncio.Future[list[Any]]":
        """
        Queue one command whose reply is a list that begins with *echo*; await the result.

        The command is encoded here, so that a value that can't be fails its own caller only.
        The future raises redis-py's `ResponseError` if Redis answers with an error, and
        `LaneBroken` if no answer can be had before *deadline* (event-loop time).
        """
        if deadline is None:
            deadline = self._loop.time() + self._timeout
        reply: asyncio.Future[list[Any]] = self._loop.create_future()
        packed = pack_command(command if type(command) is tuple else tuple(command))
        # As `_Call(…)`, without the Python function that a named tuple has for that.
        self._pending.append(tuple.__new__(_Call, (packed, echo, reply, deadline)))
        if self._runner is None:
            self._runner = self._loop.create_task(self._run())
        return reply

    async def drain(self) -> None:
        """Return when everything that was queued has been answered."""
        while self._runner is not None:
            await asyncio.wait((self._runner,))

    async def aclose(self) -> None:
        """Drain, then close the connection. The next `submit` opens a new one."""
        await self.drain()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()

    async def _keep(self) -> AsyncGenerator[None, None]:
        """
        Hold the pool open until `aclose`, or until the event loop ends: whoever runs a loop closes
        its async generators last (`loop.shutdown_asyncgens`), so a lane that nobody closed goes
        quietly.
        """
        try:
            yield
        finally:
            await self._give_back()
            await self._pool.aclose()

    async def _run(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._exchange([call for call in batch if not call.reply.done()])
        finally:
            self._runner = None
            _fail(self._pending, "the event loop is shutting down")

    async def _exchange(self, batch: list[_Call]) -> None:
        if not batch:
            return
        try:
            # Mostly the first one's; a load that is tried again may have less time left.
            async with asyncio.timeout_at(min([call.deadline for call in batch])):
                connection = await self._connected()
                await connection.send_packed_command(b"".join([call.packed for call in batch]))
                for call in batch:
                    try:
                        answer = await connection.read_response()
                    except ResponseError as error:
                        self._refuse(call, error)
                    else:
                        _resolve(call, answer)
            self.batches += 1
            self.commands += len(batch)
        except BaseException as error:
            # Whatever it was (also a TypeError out of asyncio's transports, redis-py #4287), the
            # replies that are still to come would reach the wrong callers.
            self._distrusted = True
            _fail(batch, self._reason(error))
            if not isinstance(error, Exception):
                raise
        finally:
            if self._distrusted:
                await self._drop()

    def _refuse(self, call: _Call, error: ResponseError) -> None:
        if "READONLY" in str(error):  # a master that was demoted: look for the new one
            self._distrusted = True
        if not call.reply.done():
            call.reply.set_exception(error)

    async def _connected(self) -> Any:
        if self._connection is not None:
            if self._loop.time() < self._return_at and not await self._is_stale():
                return self._connection
            await self._give_back()
        if self._keeper is None:
            self._keeper = self._keep()
            await anext(self._keeper)
        self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        self._return_at = self._loop.time() + _CHECKOUT
        return self._connection

    async def _is_stale(self) -> bool:
        """Whether the idle connection was closed by the server, or has a stray reply on it."""
        try:
            stale: bool = await self._connection.can_read()
        except (OSError, RedisError):
            stale = True
        if stale:
            await self._connection.disconnect(nowait=True)
        return stale

    async def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)

    async def _drop(self) -> None:
        self._distrusted = False
        if self._connection is not None:
            with suppress(OSError, RedisError):
                await self._connection.disconnect(nowait=True)
            await self._give_back()

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"{self.address} did not answer within {self._timeout:g} s"
        if isinstance(error, AuthenticationError):
            return f"{self.address} refused the credentials ({error})"
        if isinstance(error, LaneBroken):
            return str(error)
        return f"{self.address} can't be used ({type(error).__name__}: {error})"

    @property
    def address(self) -> str:
        """Where this lane leads, without credentials."""
        options = self._pool.connection_kwargs
        if isinstance(self._pool, SentinelConnectionPool):
            return f"the Redis master {self._pool.service_name!r}"
        where = options.get("path") or f"{options.get('host')}:{options.get('port')}"
        return f"Redis at {where}, database {options.get('db') or 0},"


def _resolve(call: _Call, answer: Any) -> None:
    if type(answer) is not list or not answer or answer[0] != call.echo:
        raise LaneBroken("a reply belongs to another command")
    if not call.reply.done():
        call.reply.set_result(answer)


def _fail(calls: Sequence[_Call], reason: str) -> None:
    for call in calls:
        if not call.reply.done():
            call.reply.set_exception(LaneBroken(reason))
