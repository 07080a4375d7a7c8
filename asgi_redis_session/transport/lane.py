"""
A lane: one connection that all callers of an event loop share.

While one batch of commands is on its way, the lane collects those of other callers. When the
replies are in, it sends them together as the next batch. With one caller, a batch is one command,
and nothing waits; with five hundred callers it is large. So a process needs one connection, however
many requests it serves.

The rules of a lane:
- A caller that is cancelled, or whose command fails, never harms the batch or another caller.
- Every reply but an error must begin with the key that its caller sent. If one does not, the lane
  closes the connection before it delivers another reply. (The replies to search queries have no
  key to compare; queries have a lane of their own.)
- A caller's deadline counts from the moment it queued its command. When the deadline of a command
  in the batch passes, the lane closes the connection.
- The lane retries nothing: it does not know what a command does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import ConnectionPool
from redis.exceptions import AuthenticationError, ResponseError

from ..options import Durability
from .barrier import Barrier
from .connection import SharedConnection
from .reasons import reason_of
from .scripts import pack

#: What a lane is for: the commands of requests; long lists and their like (see
#: `Client.call(own_connection=True)`); search queries; or writes with this write concern. Each has
#: a connection of its own, so that none of the others delays requests.
Purpose = Literal["requests", "lists", "queries"] | Durability

#: The part of a caller's remaining time that the barrier may take.
_BARRIER_SHARE = 0.9

_ASKING = pack("ASKING")


class LaneBroken(Exception):
    """No reply: the connection could not be made, was lost or out of step, or the time was up."""


class BarrierNotReached(Exception):
    """The command was executed, and *reply* is its reply, but its barrier was not reached."""

    def __init__(self, reply: list[Any], reason: str) -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(slots=True)
class _Call:
    packed: bytes
    echo: bytes | None
    reply: "asyncio.Future[Any]"
    deadline: float
    has_asking: bool


class Lane:
    """
    One connection, shared by all callers of one event loop. It is made by the first batch.

    *timeout*: how long a caller waits at most, in seconds, connecting included. *purpose*: if it is
    a write concern, each batch ends with its barrier, and no reply is delivered before that is
    answered. *on_new_master*: called when Sentinel may have appointed another master.
    """

    __slots__ = (
        "_barrier",
        "_loop",
        "_must_drop",
        "_pending",
        "_runner",
        "_timeout",
        "batches",
        "commands",
        "connection",
        "purpose",
    )

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        timeout: float,
        purpose: Purpose = "requests",
        on_new_master: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection = SharedConnection(pool, on_new_master)
        self.purpose = purpose
        self._timeout = timeout
        self._barrier = Barrier(purpose) if isinstance(purpose, Durability) else None
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Call] = []
        self._runner: asyncio.Task[None] | None = None
        self._must_drop = False
        self.batches = 0
        self.commands = 0

    @property
    def address(self) -> str:
        """Where this lane leads, without credentials."""
        return self.connection.address

    @property
    def backlog(self) -> int:
        """The number of commands that wait for the next batch."""
        return len(self._pending)

    def submit(
        self,
        packed: bytes,
        echo: bytes | None,
        deadline: float | None = None,
        *,
        asking: bool = False,
    ) -> "asyncio.Future[Any]":
        """
        Queue one packed command. Await the returned future for its reply.

        *echo*: what the reply, a list, must begin with, so that no caller gets another one's reply.
        None turns this check off; only search does that, on its own connection.
        *deadline*: in event-loop time; by default the lane's timeout from now.
        *asking*: send ASKING right before the command, and skip its reply.

        The future raises redis-py's `ResponseError` if Redis answers with an error, `LaneBroken` if
        there is no reply before the deadline, and `BarrierNotReached` if the lane's write
        concern is not met.
        """
        if deadline is None:
            deadline = self._loop.time() + self._timeout
        reply: asyncio.Future[Any] = self._loop.create_future()
        if asking:
            packed = _ASKING + packed
        self._pending.append(_Call(packed, echo, reply, deadline, asking))
        if self._runner is None:
            self._runner = self._loop.create_task(self._run())
        return reply

    async def drain(self) -> None:
        """Wait until all queued commands have been answered."""
        while self._runner is not None:
            await asyncio.wait((self._runner,))

    async def aclose(self) -> None:
        """Drain, then close the connection. The next `submit` opens a new one."""
        await self.drain()
        await self.connection.aclose()

    # --- Batches ---

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
            # Mostly that of the first call; but a call that is retried may have less time left.
            deadline = min([call.deadline for call in batch])
            async with asyncio.timeout_at(deadline):
                connection = await self.connection.ready()
                data = b"".join([call.packed for call in batch])
                if self._barrier is None:
                    await connection.send_packed_command(data)
                    await self._read(connection, batch)
                else:
                    await self._exchange_held(connection, data, batch, self._barrier, deadline)
            self.batches += 1
            self.commands += len(batch)
        except BaseException as error:
            # After any error (also a TypeError from asyncio's transports, redis-py #4287), the
            # replies that are still to come would reach the wrong callers.
            self._must_drop = True
            _fail(batch, self._reason(error))
            if not isinstance(error, Exception):
                raise
        finally:
            if self._must_drop:
                self._must_drop = False
                await self.connection.drop()

    async def _exchange_held(
        self,
        connection: Any,
        data: bytes,
        batch: list[_Call],
        barrier: Barrier,
        deadline: float,
    ) -> None:
        """With a barrier: hold all replies until the barrier has been answered."""
        # Ends before the deadline, so that the answer arrives in time even if it is a shortfall.
        within_ms = int((deadline - self._loop.time()) * _BARRIER_SHARE * 1000)
        await connection.send_packed_command(data + barrier.command(max(within_ms, 1)))
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
                call.reply.set_exception(BarrierNotReached(reply, f"{self.address} {missing}"))

    async def _read(
        self,
        connection: Any,
        batch: list[_Call],
        hold: Callable[[_Call, Any], None] | None = None,
    ) -> None:
        """Read all replies of a batch. Each is delivered at once, or given to *hold*."""
        for call in batch:
            if call.has_asking:
                await connection.read_response()
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                self._refuse(call, error)
                continue
            is_theirs = type(answer) is list and answer and answer[0] == call.echo
            if not is_theirs and call.echo is not None:
                raise LaneBroken("a reply belongs to another command")
            if hold is not None:
                hold(call, answer)
            elif not call.reply.done():
                call.reply.set_result(answer)

    def _refuse(self, call: _Call, error: ResponseError) -> None:
        if "READONLY" in str(error):  # this master was demoted: connect to the new one
            self._must_drop = True
        if not call.reply.done():
            call.reply.set_exception(error)

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"{self.address} did not answer within {self._timeout:g} s"
        if isinstance(error, AuthenticationError):
            return f"{self.address} refused the credentials ({reason_of(error)})"
        if isinstance(error, LaneBroken):
            return str(error)
        return f"{self.address} can't be used ({type(error).__name__}: {reason_of(error)})"


def _fail(calls: Sequence[_Call], reason: str) -> None:
    for call in calls:
        if not call.reply.done():
            call.reply.set_exception(LaneBroken(reason))
