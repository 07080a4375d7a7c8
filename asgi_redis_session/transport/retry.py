"""
Sending a command again whose first attempt has failed.

`Retries._next_hop` decides whether, after each kind of error. Where to, and after which pause, is
for the route to say: `cluster.py` after MOVED, ASK, TRYAGAIN and CLUSTERDOWN; on one server any
other error of Redis is final. `docs/verbs.md` has the rules under *Retries*.

Two things are sent again elsewhere: a lane's own proof, if it is refused (`lane.py`), and the
script of a search, if the server does not know it (`queries.py`).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ClusterCrossSlotError, NoScriptError, ResponseError

from ..errors import SessionUnavailable
from .background import Background
from .failures import KeysApart, LaneBroken, LaneClosed, LaneFull
from .lane import Lane, Purpose
from .outages import Outages
from .plain import Plain
from .route import Hop, NodeUnknown, Route
from .scripts import Script

#: The share of its time that a command must have left to be sent again.
_LEAST_SHARE = 0.1


@dataclass(slots=True)
class Retry:
    """A command whose first attempt failed, and what a further attempt needs to know."""

    script: Script[Any] | Plain[Any]
    keys: Sequence[bytes]
    arguments: Sequence[Any] = field(repr=False)
    packed: bytes = field(repr=False)
    purpose: Purpose
    deadline: float
    #: Whether it may be executed twice. If so, it is sent once more after a broken connection. Who
    #: calls `Client.call` says so (`idempotent=True`): of reads, and of writes that change nothing
    #: the second time.
    idempotent: bool = False
    #: Where the last attempt went; None if it could not be sent anywhere.
    hop: Hop | None = None
    #: Whether it was sent again after a broken connection.
    resent: bool = False

    @property
    def lane(self) -> Lane | None:
        """The lane of the last attempt."""
        return None if self.hop is None else self.hop.lane


class Retries:
    """
    The retries of one client's commands.

    *timeout*: as for `Client`. *outages*: where failures are reported.
    """

    def __init__(self, timeout: float, outages: Outages) -> None:
        self._timeout = timeout
        self._outages = outages
        #: The retries of fire-and-forget commands.
        self.background = Background()

    async def until_deadline(self, route: Route, retry: Retry, error: Exception) -> Sequence[Any]:
        """
        Send a command again, as its last error asks, until that is of no use or time is up.

        Raises `SessionUnavailable`, and `KeysApart`.
        """
        attempts = 0
        while True:
            try:
                retry.hop = hop = await self._next_hop(route, retry, error, attempts)
            except ClusterCrossSlotError:
                raise KeysApart from None
            except (LaneBroken, ResponseError) as final:
                raise self._outages.report(retry.lane, retry.script.name, final) from None
            try:
                reply: Sequence[Any] = await hop.lane.submit(
                    retry.packed,
                    retry.keys[0],
                    retry.deadline,
                    is_plain=retry.script.is_plain,
                    asking=hop.asking,
                )
            except (LaneBroken, ResponseError) as again:
                error, attempts = again, attempts + 1
            else:
                return reply

    async def _next_hop(self, route: Route, retry: Retry, error: Exception, attempts: int) -> Hop:
        """
        Return where to send a command again after *error*; raises *error* to give up.

        *error*: a `ResponseError` if Redis has answered with one, else why there was no reply.
        """
        if isinstance(error, NoScriptError) and retry.hop is not None:
            retry.packed = retry.script.in_full(retry.keys, retry.arguments)
            return retry.hop
        if isinstance(error, LaneFull | LaneClosed):
            raise error
        if isinstance(error, LaneBroken) and not isinstance(error, NodeUnknown):
            # Redis may have executed the command.
            if retry.resent or not retry.idempotent:
                route.suspect_topology()
                raise error
            retry.resent = True
        hop = await route.reroute(retry.keys[0], retry.purpose, error, attempts, retry.deadline)
        # Don't send it with almost no time left: when its deadline passes, the lane closes the
        # connection, and every command of the same batch fails.
        if retry.deadline - asyncio.get_running_loop().time() < self._timeout * _LEAST_SHARE:
            raise error
        return hop

    def after_call_soon(
        self, route: Route, retry: Retry, reply: "asyncio.Future[list[Any]]"
    ) -> None:
        """Look at the reply to a fire-and-forget command."""
        if not reply.cancelled() and (error := reply.exception()) is not None:
            self.after_failure(route, retry, error)

    def after_failure(self, route: Route, retry: Retry, error: Any) -> None:
        """A fire-and-forget command has failed: report that, or retry it in the background."""
        if isinstance(error, LaneBroken) and not isinstance(error, NodeUnknown):
            route.suspect_topology()
            self._outages.report(retry.lane, retry.script.name, error)
            return

        async def run() -> None:
            with suppress(SessionUnavailable):  # it has been counted and reported
                await self.until_deadline(route, retry, error)

        self.background.start(run())
