"""
A lane: one connection that carries everybody's commands.

While one batch is on its way, the commands of all other callers gather; when its replies are in,
they leave together as the next one. At one caller a batch is one command and nothing waits; at
five hundred it is large. So a process needs one connection however many requests it serves.

Rules kept here:
- a caller who is cancelled or fails never harms the batch, nor another caller;
- every reply must name what its caller asked for, else the connection is thrown away before
  anybody sees another reply of it (a query across sessions can't, and has a lane of its own);
- a caller's deadline runs from the moment it queued; when it passes, so does the connection;
- nothing is retried here: the lane does not know what a command does.

It uses redis-py's documented `ConnectionPool` and `Connection`, and knows nothing about sessions.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AuthenticationError, RedisError, ResponseError

__all__ = ["Barrier", "Lane", "LaneBroken", "NotReached", "address_of"]

#: Give the connection back to its pool this often (seconds), so that what redis-py does there
#: happens: a new password of a credential provider, a new master found by Sentinel.
_CHECKOUT = 30.0
#: After a connection could not be made, the next attempt comes this much later (seconds), for all
#: who have queued meanwhile.
_REST = 0.1
#: How often to ask the Sentinels who the master is, and how long to wait for them (seconds).
_LOOK, _LOOK_PATIENCE = 0.5, 0.1
#: The part of a caller's time that a barrier may take.
_BARRIER_SHARE = 0.9


class LaneBroken(Exception):
    """The reply did not come: no connection, a lost one, a broken one, or the deadline."""


class NotReached(Exception):
    """The command was done, *reply* is its reply, but the barrier behind it was not reached."""

    def __init__(self, reply: list[Any], reason: str) -> None:
        super().__init__(reason)
        self.reply = reply


class Barrier(Protocol):
    """A command at the end of each batch, whose reply says how far the batch has got."""

    def command(self, within_ms: int) -> Sequence[Any]:
        """What to send; it is to answer within this many milliseconds."""
        ...

    def shortfall(self, answer: Any) -> str | None:
        """What is missing, by its answer (which may be an exception); None if nothing is."""
        ...


class _Call(NamedTuple):
    packed: bytes
    echo: bytes | None
    reply: "asyncio.Future[Any]"
    deadline: float
    has_prelude: bool


class Lane:
    """
    One connection, shared by all callers of one event loop.

    *timeout*: how long, in seconds, a caller waits at the most, connecting included. *barrier*:
    what every batch ends with; no caller hears of a reply before it is answered. *siblings*: lanes
    to the same server, which have to leave an old master when this one does.
    """

    __slots__ = (
        "_barrier",
        "_connection",
        "_distrusted",
        "_keeper",
        "_look",
        "_look_at",
        "_loop",
        "_outdated",
        "_pending",
        "_pool",
        "_rest_until",
        "_return_at",
        "_runner",
        "_siblings",
        "_timeout",
        "batches",
        "commands",
    )

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        timeout: float,
        barrier: Barrier | None = None,
        siblings: Callable[[], Sequence["Lane"]] = tuple,
    ) -> None:
        self._pool = pool
        self._siblings = siblings
        self._timeout = timeout
        self._barrier = barrier
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Call] = []
        self._runner: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._keeper: AsyncGenerator[None, None] | None = None
        self._look: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._outdated: Any = None
        self._return_at = 0.0
        self._rest_until = 0.0
        self._distrusted = False
        self.batches = 0
        self.commands = 0

    @property
    def backlog(self) -> int:
        """How many commands wait for the next batch."""
        return len(self._pending)

    def submit(
        self,
        packed: bytes,
        echo: bytes | None,
        deadline: float | None = None,
        prelude: bytes = b"",
    ) -> "asyncio.Future[Any]":
        """
        Queue one command, packed, whose reply is a list that begins with *echo*; await the result.
        None: a command that does not name itself in its reply, on a lane that carries no user's
        data.

        The future raises redis-py's `ResponseError` if Redis answers with an error, and
        `LaneBroken` if no answer can be had before *deadline* (event-loop time); `NotReached` if
        the lane has a barrier and that is not reached. *prelude*: a packed command that has to
        stand right before this one; its reply is skipped.
        """
        if deadline is None:
            deadline = self._loop.time() + self._timeout
        reply: asyncio.Future[Any] = self._loop.create_future()
        call = (prelude + packed, echo, reply, deadline, bool(prelude))
        # As `_Call(…)`, without the Python function that a named tuple has for that.
        self._pending.append(tuple.__new__(_Call, call))
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
        if self._look is not None:
            self._look.cancel()
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
            deadline = min([call.deadline for call in batch])
            async with asyncio.timeout_at(deadline):
                connection = await self._connected()
                data = b"".join([call.packed for call in batch])
                if self._barrier is None:
                    await connection.send_packed_command(data)
                    await self._read(connection, batch)
                else:
                    await self._exchange_held(connection, data, batch, self._barrier, deadline)
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

    async def _exchange_held(
        self,
        connection: Any,
        data: bytes,
        batch: list[_Call],
        barrier: Barrier,
        deadline: float,
    ) -> None:
        """With a barrier at the end: before it is answered, nobody hears of a reply."""
        # Sooner than the deadline, so that its answer, if only how far it got, comes in time.
        within = int((deadline - self._loop.time()) * _BARRIER_SHARE * 1000)
        closing = pack_command(tuple(barrier.command(max(within, 1))))
        await connection.send_packed_command(data + closing)
        held: list[tuple[_Call, list[Any]]] = []
        await self._read(connection, batch, lambda call, answer: held.append((call, answer)))
        try:
            answer = await connection.read_response()
        except ResponseError as error:
            answer = error
        missing = barrier.shortfall(answer)
        for call, reply in held:
            if call.reply.done():
                continue
            if missing is None:
                call.reply.set_result(reply)
            else:
                call.reply.set_exception(NotReached(reply, f"{self.address} {missing}"))

    async def _read(
        self,
        connection: Any,
        batch: list[_Call],
        deliver: Callable[[_Call, Any], None] | None = None,
    ) -> None:
        """Read all replies; *deliver* takes them, else their callers hear of them at once."""
        for call in batch:
            _, echo, reply, _, has_prelude = call
            if has_prelude:
                await connection.read_response()
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                self._refuse(call, error)
                continue
            is_theirs = type(answer) is list and answer and answer[0] == echo
            if not is_theirs and echo is not None:
                raise LaneBroken("a reply belongs to another command")
            if deliver is not None:
                deliver(call, answer)
            elif not reply.done():
                reply.set_result(answer)

    def _refuse(self, call: _Call, error: ResponseError) -> None:
        if "READONLY" in str(error):  # a master that was demoted: look for the new one
            self._distrusted = True
        if not call.reply.done():
            call.reply.set_exception(error)

    async def _connected(self) -> Any:
        if self._connection is not None:
            if isinstance(self._pool, SentinelConnectionPool):
                await self._look_for_master(self._pool)
            if self._loop.time() < self._return_at and not await self._is_stale():
                return self._connection
            await self._give_back()
        if self._keeper is None:
            self._keeper = self._keep()
            await anext(self._keeper)
        if (rest := self._rest_until - self._loop.time()) > 0:
            await asyncio.sleep(rest)
        try:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except BaseException:
            self._rest_until = self._loop.time() + _REST
            raise
        self._return_at = self._loop.time() + _CHECKOUT
        if isinstance(self._pool, SentinelConnectionPool):  # perhaps to a new master
            self._warn_siblings()
        return self._connection

    async def _look_for_master(self, pool: SentinelConnectionPool) -> None:
        """
        Ask the Sentinels now and then who the master is. After a planned failover the old one takes
        writes for ten seconds more, until it is told; they would be lost.
        """
        if self._look is None and self._loop.time() >= self._look_at:
            self._look = self._loop.create_task(self._compare(pool, self._connection))
            # Slow Sentinels must not delay anybody for long: the look goes on without us.
            await asyncio.wait((self._look,), timeout=_LOOK_PATIENCE)

    async def _compare(self, pool: SentinelConnectionPool, connection: Any) -> None:
        try:
            # While no Sentinel knows, the connection is as good as any.
            with suppress(OSError, RedisError):
                master = await pool.get_master_address()  # type: ignore[no-untyped-call]
                if master != (connection.host, connection.port):
                    self._outdated = connection
                    self._warn_siblings()
        finally:
            self._look = None
            self._look_at = self._loop.time() + _LOOK

    def _warn_siblings(self) -> None:
        """
        Have the others look before their next batch. One request uses several lanes: if one of them
        spoke to the old master still, it would not find what another one has just seen on the new.
        """
        for lane in self._siblings():
            lane._look_at = 0.0  # noqa: SLF001

    async def _is_stale(self) -> bool:
        """Whether the idle connection has ended, or has a stray reply on it."""
        try:
            # redis-py sees a FIN and stray data; a reset is known to asyncio's reader only.
            reader = self._connection._reader  # noqa: SLF001
            is_reset = reader is None or reader.exception() is not None
            is_outdated = self._connection is self._outdated
            stale: bool = is_reset or is_outdated or await self._connection.can_read()
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
        return address_of(self._pool)


def address_of(pool: ConnectionPool) -> str:
    """Where the connections of a pool lead, without credentials; ends so that a verb may follow."""
    options = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        return f"the Redis master {pool.service_name!r}"
    where = options.get("path") or f"{options.get('host')}:{options.get('port')}"
    return f"Redis at {where}, database {options.get('db') or 0},"


def _fail(calls: Sequence[_Call], reason: str) -> None:
    for call in calls:
        if not call.reply.done():
            call.reply.set_exception(LaneBroken(reason))
