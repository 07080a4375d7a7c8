"""
A lane: one connection that all callers of an event loop share.

While one batch of commands is on its way, the lane collects those of other callers. When the
replies are in, it sends them together as the next batch. So a process needs one connection, however
many requests it serves. If a batch takes long, the next one leaves before it is answered.

The rules of a lane:
- A caller that is cancelled, or whose command fails, never harms the batch or another caller.
- The reply to a script must begin with the key that its caller sent. The replies to plain commands
  are held until the batch has proven their number (see `proof`). If one is wrong, the lane closes
  the connection before it delivers another reply.
- A caller's deadline counts from the moment it queued its command, and fails only that caller. Time
  in which the event loop was blocked does not count (see `watch`). If nothing arrives for a whole
  timeout, the lane closes the connection.
- The lane sends no command again: it does not know what one does. (`retry` decides that. Only the
  lane's own proof is sent again.)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, Literal

from redis.asyncio import ConnectionPool

from ..options import Durability
from .barrier import Barrier
from .batch import Batch, Call, Rider
from .connection import SharedConnection
from .failures import LaneBroken, LaneClosed, LaneFull, broken_by
from .proof import Proofs, Refused
from .replies import Replies
from .watch import Watch

#: What a lane is for: commands of requests; long lists and their like; search queries; or writes
#: with this write concern. Each has a connection of its own, so that no other delays requests.
Purpose = Literal["requests", "lists", "queries"] | Durability
#: Called with a lane, a rider that was refused or lost there, and the error.
OnFailed = Callable[["Lane", Rider, Exception], None]

#: The part of a caller's remaining time that the barrier may take.
_BARRIER_SHARE = 0.9
#: So many commands may wait. A further one is refused at once: it would only fail later.
_LONGEST_QUEUE = 10_000
#: If so many wait, the lane is busy: what is sent without waiting for the reply is dropped.
_BUSY_QUEUE = 5_000


class Lane:
    """
    One connection, shared by all callers of one event loop. It is made by the first batch.

    *timeout*: if nothing arrives for so many seconds, the connection is given up. *purpose*: if it
    is a write concern, each batch ends with its barrier, and no reply is delivered before that is
    answered. *on_new_master*: called when Sentinel may have appointed another master. *on_failed*:
    called with a rider that was refused, or lost.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        timeout: float,
        purpose: Purpose = "requests",
        on_new_master: Callable[[], None] = lambda: None,
        on_failed: OnFailed = lambda *_: None,
    ) -> None:
        self.connection = SharedConnection(pool, timeout, on_new_master)
        self.purpose = purpose
        self._timeout = timeout
        self._barrier = Barrier(purpose) if isinstance(purpose, Durability) else None
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(timeout, self._look)
        self._on_failed = partial(on_failed, self)
        self._replies = Replies(
            self.connection, self._watch, self._on_failed, holds_all=self._barrier is not None
        )
        self._pending: list[Call] = []
        self._riders: list[Rider] = []
        self._flying: deque[Batch] = deque()
        self._runner: asyncio.Task[None] | None = None
        # Sends a batch while the one before it is still on its way.
        self._sender: asyncio.Task[None] | None = None
        # What interrupts the runner if the connection has fallen silent.
        self._reading: asyncio.Timeout | None = None
        # The instant of the lane's clock before which no call is overdue.
        self._earliest = float("inf")
        self._proofs = Proofs()

    @property
    def address(self) -> str:
        """Where this lane leads, without credentials."""
        return self.connection.address

    @property
    def blocked(self) -> float:
        """For how many seconds the event loop was blocked while this lane had something to do."""
        return self._watch.blocked

    @property
    def queued(self) -> int:
        """How many commands wait to be sent."""
        return len(self._pending) + len(self._riders)

    @property
    def is_busy(self) -> bool:
        """Whether so many commands wait that none should be added whose reply is not needed."""
        return self.queued >= _BUSY_QUEUE

    @property
    def batches(self) -> int:
        """How many batches have been answered."""
        return self._replies.batches

    @property
    def commands(self) -> int:
        """How many commands have been answered."""
        return self._replies.commands

    # --- Callers ---

    def submit(
        self,
        packed: bytes,
        key: bytes,
        deadline: float | None = None,
        is_plain: bool = False,  # noqa: FBT001, FBT002  (see `Client._send`)
        *,
        asking: bool = False,
    ) -> "asyncio.Future[Any]":
        """
        Queue one packed command. Await the returned future for its reply.

        *key*: what the reply of a script, a list, must begin with. *is_plain*: it is no script.
        *deadline*: in event-loop time; by default the lane's timeout from now. *asking*: send
        ASKING right before the command, and skip its reply.

        The future raises redis-py's `ResponseError` if Redis answers with an error, `LaneBroken` if
        there is no reply before the deadline, `LaneFull` if nothing was sent, and
        `BarrierNotReached` if the lane's write concern is not met.
        """
        if deadline is None:
            deadline = self._loop.time() + self._timeout
        reply: asyncio.Future[Any] = self._loop.create_future()
        call = Call(packed, key, is_plain, reply, deadline - self._watch.blocked, asking)
        if len(self._pending) >= _LONGEST_QUEUE:
            call.fail(LaneFull(f"{_LONGEST_QUEUE:,} commands wait for {self.address} already"))
            return reply
        self._pending.append(call)
        if call.deadline < self._earliest:
            self._earliest = call.deadline
            self._watch.no_later_than(call.deadline)
        if self._runner is None:
            self._start()
        return reply

    def submit_rider(self, rider: Rider) -> bool:
        """
        Queue a fire-and-forget command; False if the lane is busy, so that it is left out.

        If the command fails, *on_failed* is called.
        """
        if self.is_busy:
            return False
        self._riders.append(rider)
        if self._runner is None:
            self._start()
        return True

    async def drain(self) -> None:
        """Wait until all queued commands have been answered."""
        while self._runner is not None:
            await asyncio.wait((self._runner,), timeout=self._watch.period)
            if self.connection.raw is None and all(call.reply.done() for call in self._calls()):
                break  # still connecting, and every caller has given up

    async def aclose(self) -> None:
        """Drain, then close the connection. The next `submit` opens a new one."""
        await self.drain()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait((self._runner,))
        self._watch.stop()
        await self.connection.aclose()

    def _calls(self) -> Iterator[Call]:
        for batch in self._flying:
            yield from batch.calls
        yield from self._pending

    # --- Sending ---

    def _start(self) -> None:
        self._runner = self._loop.create_task(self._run())
        self._watch.start()

    async def _run(self) -> None:
        try:
            while self._pending or self._riders or self._flying:
                try:
                    async with asyncio.timeout(None) as self._reading:
                        await self._exchange()
                except Exception as error:  # noqa: BLE001
                    # After any error (also a TypeError from asyncio's transports, redis-py #4287),
                    # the replies that are still to come would reach the wrong callers.
                    await self._break(broken_by(error, self.address, self._timeout))
        except asyncio.CancelledError:
            await self._break(LaneClosed("the event loop is shutting down"), and_pending=True)
            raise
        finally:
            self._runner = None

    async def _exchange(self) -> None:
        """Send batches and read their replies until there is nothing left to do."""
        while self._pending or self._riders or self._flying:
            if not self._flying:
                batch = self._next_batch()
                await self.connection.ready()
                await self._send(batch)
            batch = self._flying[0]
            if (refused := await self._replies.read(batch)) is not None:
                await self._prove_again(batch, refused)
            self._flying.popleft()
            if self._replies.is_demoted:
                raise LaneBroken(f"{self.address} is not the master any more")

    def _next_batch(self) -> Batch:
        batch = Batch(self._pending, self._riders)
        self._pending, self._riders = [], []
        self._flying.append(batch)
        self._watch.start()  # it may have stopped while a broken connection was closed
        return batch

    async def _send(self, batch: Batch) -> None:
        now = self._watch.now()
        batch.leave_out_the_late(self._loop.time())
        calls, parts = batch.calls, batch.parts()
        if self._barrier is not None:
            # Ends before the deadlines, so that the answer arrives even if it is a shortfall.
            left = min([call.deadline for call in calls], default=now) - now
            parts.append(self._barrier.command(max(1, int(left * _BARRIER_SHARE * 1000))))
            batch.ending = self._barrier
        elif (proof := self._proofs.of(batch)) is not None:
            parts.append(proof.command())
            batch.ending = proof
        batch.sent_at = now
        if parts:
            await self.connection.send(b"".join(parts))

    async def _send_more(self) -> None:
        """Send what waits, although the batch before it has not been answered yet."""
        try:
            with suppress(Exception):  # then redis-py closes the connection, and the runner notices
                waits = self._pending or self._riders
                if waits and self._flying and self.connection.raw is not None:
                    await self._send(self._next_batch())
        finally:
            self._sender = None

    async def _prove_again(self, batch: Batch, refused: Refused) -> None:
        """Send another proof for the replies that are held, behind what was sent meanwhile."""
        proof = self._proofs.after(refused, batch)
        if proof is None:
            batch.fail(refused.error)
            return
        again = Batch([], [])
        again.held, again.ending, again.sent_at = batch.held, proof, self._watch.now()
        self._flying.append(again)
        await self.connection.send(proof.command())

    # --- What goes wrong ---

    def _look(self) -> bool:
        """Look after deadlines and silence; returns whether there is anything to look after."""
        now = self._watch.now()
        if now >= self._earliest:
            self._fail_overdue(now)
        if self._flying and self._flying[-1].sent_at is not None:
            oldest, newest = self._flying[0].sent_at or now, self._flying[-1].sent_at
            silence = now - max(self._replies.heard_at, oldest)
            if silence >= self._timeout and self._reading is not None:
                self._reading.reschedule(self._loop.time())  # the runner gives the connection up
            elif (self._pending or self._riders) and now - newest >= self._watch.period:
                self._send_more_soon(silence)
        return bool(self._pending or self._riders or self._flying)

    def _fail_overdue(self, now: float) -> None:
        late = broken_by(TimeoutError(), self.address, self._timeout)
        self._earliest = float("inf")
        for call in self._calls():
            if call.reply.done():
                continue
            if call.deadline <= now:
                call.fail(copy(late))
            elif call.deadline < self._earliest:
                self._earliest = call.deadline
        if self._earliest < float("inf"):
            self._watch.no_later_than(self._earliest)

    def _send_more_soon(self, silence: float) -> None:
        """
        Let a slow network carry several batches at once.

        Not while the connection is silent for long: what is not sent can be sent on another one.
        A barrier delays the commands behind it anyway.
        """
        if (
            self._sender is None
            and self._barrier is None
            and silence < self._timeout / 2
            and not self.connection.is_due
        ):
            self._sender = self._loop.create_task(self._send_more())

    async def _break(self, error: LaneBroken, *, and_pending: bool = False) -> None:
        """Give the connection up, and fail the calls that were sent on it."""
        self._replies.is_demoted = False
        if and_pending:
            self._next_batch()
        broken, self._flying = self._flying, deque()
        for batch in broken:
            batch.fail(error)
            for rider in batch.riders:
                self._on_failed(rider, error)
        await self.connection.drop()
