"""
The replies on a lane's connection: read batch by batch, checked, and delivered to who waits.

If a reply belongs to another command, `LaneBroken` is raised before it, or any reply behind it, is
delivered. The lane closes the connection then.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .barrier import Barrier
from .batch import Batch, Call, Rider, is_of_script
from .connection import SharedConnection
from .failures import LaneBroken, is_demotion
from .parser import NOT_YET
from .proof import Proof, Refused, ScriptProof
from .watch import Watch

_OUT_OF_STEP = "a reply belongs to another command"
#: Seconds for which a server that is no master is kept after a new connection has led to it again.
_KEPT = 0.5


class Replies:
    """
    Reads the replies of one lane.

    *watch*: the lane's clock. *on_refused*: called with a rider that Redis refused, and the error.
    *holds_all*: whether scripts, too, get their replies only when the batch's ending was answered.
    """

    __slots__ = (
        "_connection",
        "_holds_all",
        "_kept_until",
        "_loop",
        "_on_refused",
        "_watch",
        "batches",
        "commands",
        "heard_at",
        "is_demoted",
    )

    def __init__(
        self,
        connection: SharedConnection,
        watch: Watch,
        on_refused: Callable[[Rider, ResponseError], None],
        *,
        holds_all: bool,
    ) -> None:
        self._connection = connection
        self._watch = watch
        self._on_refused = on_refused
        self._holds_all = holds_all
        self._loop = asyncio.get_running_loop()
        #: When something arrived, by the lane's clock.
        self.heard_at = 0.0
        #: Whether the server has said that it is no master, so that the lane must connect again.
        self.is_demoted = False
        self._kept_until = 0.0
        #: How many batches and commands have been answered.
        self.batches = 0
        self.commands = 0

    async def read(self, batch: Batch) -> Refused | None:
        """
        Read the replies to a batch. Those of scripts are delivered at once.

        Returns the batch's proof and the error if Redis refused it: the replies that it should have
        proven are still held then. Raises `LaneBroken`, and redis-py's `ConnectionError`.
        """
        poll = self._connection.poll
        for rider in batch.riders:
            while (reply := poll()) is NOT_YET:
                await self._hear()
            if not rider.fits(reply):
                self._refuse(rider, reply)
        for call in batch.calls:
            if call.has_asking:
                await self._next()
            while (reply := poll()) is NOT_YET:
                await self._hear()
            if isinstance(reply, RedisConnectionError):  # LOADING, for instance
                raise reply
            self._accept(call, reply, batch)
        refused = None
        if batch.ending is not None:
            refused = self._end(batch, [await self._next() for _ in range(batch.ending.replies)])
        self.batches += 1
        self.commands += len(batch.calls) + len(batch.riders)
        return refused

    async def _next(self) -> Any:
        while (reply := self._connection.poll()) is NOT_YET:
            await self._hear()
        return reply

    async def _hear(self) -> None:
        await self._connection.hear()
        self.heard_at = self._watch.now()

    def _accept(self, call: Call, reply: Any, batch: Batch) -> None:
        """Deliver a reply, or hold it until the batch's ending has been answered."""
        if call.is_plain:
            batch.held.append((call, reply))
        elif isinstance(reply, ResponseError):
            self._distrust(reply)
            call.fail(reply)
        elif not is_of_script(reply, call.key):
            raise LaneBroken(_OUT_OF_STEP)
        elif self._holds_all:
            batch.held.append((call, reply))
        else:
            call.answer(reply)

    def _refuse(self, rider: Rider, reply: Any) -> None:
        if not isinstance(reply, ResponseError):
            raise reply if isinstance(reply, RedisConnectionError) else LaneBroken(_OUT_OF_STEP)
        self._distrust(reply)
        self._on_refused(rider, reply)

    def _distrust(self, refusal: ResponseError) -> None:
        """Let the lane connect again if the server is no master: its name may lead to a new one."""
        if is_demotion(refusal) and self._loop.time() >= self._kept_until:
            self.is_demoted = True
            self._kept_until = self._loop.time() + _KEPT

    def _end(self, batch: Batch, answers: list[Any]) -> Refused | None:
        """Deliver the replies that were held until the batch's ending was answered."""
        ending = batch.ending
        if isinstance(ending, Proof | ScriptProof):
            for answer in answers:
                if isinstance(answer, ResponseError):
                    return Refused(ending, answer)
            if (now_ms := ending.time_in(answers)) is None:
                raise LaneBroken(_OUT_OF_STEP)
            batch.deliver_plain(now_ms)
        elif isinstance(ending, Barrier):
            if (missing := ending.shortfall(answers[0])) is not None:
                batch.fall_short(f"{self._connection.address} {missing}")
            else:
                batch.deliver()
        return None
