"""The commands of search: questions across sessions, on a connection of their own."""

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from .failures import LaneBroken
from .lane import Lane
from .outages import Outages
from .route import Master, NodeUnknown, Route
from .routes import Routes
from .scripts import Script, pack

R = TypeVar("R")


class Queries:
    """
    Sends the queries of one client, so that a long one delays no request.

    *key*: what leads to the server, if there is only one. No redirection is followed.
    """

    def __init__(self, routes: Routes, outages: Outages, key: bytes) -> None:
        self._routes = routes
        self._outages = outages
        self._key = key

    async def send(self, *commands: Sequence[Any], at: Master | None = None) -> list[Any]:
        """
        Send plain commands (FT.*, CLUSTER NODES), one right behind the other.

        *at*: the master of a Cluster to send them to.

        Returns the replies in order, with a `ResponseError` in the place of a command that Redis
        refused. Raises `SessionUnavailable` if Redis does not answer.
        """
        route, lane = self._lane(at)
        keys = [self._key] if at is None else at.keys
        waiting = [
            lane.submit(pack(*command), key, is_plain=True)
            for command, key in zip(commands, cycle(keys), strict=False)
        ]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, LaneBroken):
                route.suspect_topology()
                raise self._outages.report(lane, "commands", answer)
        if self._outages.is_any:
            self._outages.note_answer(lane, "commands")
        return [_without_time(answer) for answer in answers]

    async def run(self, script: Script[R], arguments: Sequence[str], *, at: Master | None) -> R:
        """
        Run a script without keys; *at*: as for `send`.

        Its reply begins with its first argument. It also reaches keys in slots that are on their
        way to this master.

        Raises the `ResponseError` that Redis answers, and `SessionUnavailable` if it does not.
        """
        name = arguments[0].encode()
        route, lane = self._lane(at)
        try:
            try:
                reply = await lane.submit(script.packed((), arguments), name, asking=True)
            except NoScriptError:
                reply = await lane.submit(script.in_full((), arguments), name, asking=True)
        except LaneBroken as error:
            route.suspect_topology()
            raise self._outages.report(lane, script.name, error) from error
        if self._outages.is_any:
            self._outages.note_answer(lane, script.name)
        return script.result(*reply)

    async def masters(self) -> Sequence[Master]:
        """
        Return all masters of the Cluster, as they are now.

        Raises `SessionUnavailable` if they can't be found out.
        """
        try:
            return await self._routes.here.masters(self._key + b":")
        except LaneBroken as error:
            raise self._outages.report(None, "commands", error) from error

    def _lane(self, at: Master | None) -> tuple[Route, Lane]:
        route = self._routes.here
        try:
            lane = route.lane_to(at.node, "queries") if at else route.lane(self._key, "queries")
        except NodeUnknown as error:
            raise self._outages.report(None, "commands", error) from error
        return route, lane


def _without_time(answer: Any) -> Any:
    """Return the reply, or the error. A lane puts the server's time behind a plain reply."""
    if isinstance(answer, BaseException):
        return answer
    reply, _now_ms = answer
    return reply
