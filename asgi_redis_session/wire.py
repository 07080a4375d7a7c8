"""
The wire: scripts out, replies in.

It owns the lanes (one for each event loop), finds the lane for a script, sends the script in full
to a server that does not know it, and turns redis-py's errors into `SessionUnavailable`. It also
counts and tells what happens. What the scripts mean is the business of those who send them:
`store`, `users`.
"""

import asyncio
import hashlib
import logging
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from .errors import SessionUnavailable
from .lane import Lane, LaneBroken, private_pool

__all__ = ["Script", "SessionEvent", "Stats", "Wire"]

logger = logging.getLogger("asgi_redis_session")

_BACKLOG = 10_000

#: Wires whose connections a forked child must not touch: they are its parent's.
_wires: "weakref.WeakSet[Wire]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """
    Something that happened to a session; carries handles, never ids or values.

    *name*: `created`, `logged_in`, `renewed`, `ended`, `gone` (a commit found its session ended),
    `unknown_id` (a well-formed cookie that Redis does not know), `conflict` (two different session
    cookies in one request), `corrupt` (a session that can't be read), `unavailable` (Redis did not
    answer).
    """

    name: str
    handle: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class Stats:
    """Plain counters of one store in this process, from its creation on."""

    loads: int = 0
    refreshes: int = 0
    refreshes_dropped: int = 0
    commits: int = 0
    gone: int = 0
    errors: int = 0
    batches: int = 0
    commands: int = 0

    def as_dict(self) -> dict[str, int]:
        """All counters by name, as a metrics exporter wants them."""
        return {counter.name: getattr(self, counter.name) for counter in fields(self)}


class Script:
    """A Lua script, sent by its SHA-1, and in full only to a server that doesn't know it yet."""

    __slots__ = ("sha", "text")

    def __init__(self, *names: str) -> None:
        folder = files("asgi_redis_session") / "lua"
        self.text = "".join([(folder / f"{name}.lua").read_text() for name in names])
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Wire:
    """
    Everything that a store and its parts send. *timeout* in seconds.

    *side* commands travel on a lane of their own, so that long lists don't delay requests.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str,
        timeout: float,
        on_event: Callable[[SessionEvent], None] | None,
    ) -> None:
        self.redis = redis
        self.prefix = prefix
        self.counted = Stats()
        self._timeout = timeout
        self._on_event = on_event
        self._is_down = False
        self._refusal = ""
        self._lanes: dict[tuple[asyncio.AbstractEventLoop, bool], Lane] = {}
        self._inherited: list[Lane] = []
        _wires.add(self)

    def key(self, *parts: str) -> str:
        """The name of a key of ours."""
        return self.prefix + ":" + (parts[0] if len(parts) == 1 else ":".join(parts))

    async def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any] = (),
        *,
        idempotent: bool = False,
        side: bool = False,
    ) -> list[Any]:
        """
        Run a script; returns what it answers. Raises `SessionUnavailable`.

        *idempotent*: may run twice, so it is sent once more if the connection breaks.
        """
        lane = self._lane(side=side)
        command = _command(script, keys, arguments)
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            try:
                reply = await lane.submit(command, command[3], deadline)
            except NoScriptError:
                command = ("EVAL", script.text, *command[2:])
                reply = await lane.submit(command, command[3], deadline)
            except LaneBroken:
                # A connection that died while idle is found out by using it: try once more.
                if not idempotent or asyncio.get_running_loop().time() >= deadline:
                    raise
                reply = await lane.submit(command, command[3], deadline)
        except (LaneBroken, ResponseError) as error:
            raise self._unavailable(lane, error) from None
        if self._is_down:
            self._is_down = False
            logger.warning("%s answers again.", lane.address)
        return reply

    def post(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> bool:
        """
        Run a script that nobody waits for; what goes wrong is counted and reported.

        Returns False, and sends nothing, if very many commands are queued already.
        """
        lane = self._lane()
        if lane.backlog >= _BACKLOG:
            return False
        command = _command(script, keys, arguments)
        lane.submit(command, command[3]).add_done_callback(partial(self._posted, script, command))
        return True

    def _posted(
        self, script: Script, command: tuple[Any, ...], reply: "asyncio.Future[list[Any]]"
    ) -> None:
        if reply.cancelled():
            return
        error = reply.exception()
        if isinstance(error, NoScriptError) and command[0] == b"EVALSHA":
            command = ("EVAL", script.text, *command[2:])
            again = self._lane().submit(command, command[3])
            again.add_done_callback(partial(self._posted, script, command))
        elif isinstance(error, LaneBroken | ResponseError):
            self._unavailable(self._lane(), error)

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        for lane in self._lanes_of(asyncio.get_running_loop()):
            await lane.drain()

    async def aclose(self) -> None:
        """Drain, then close this event loop's connections; they are opened again when needed."""
        loop = asyncio.get_running_loop()
        for lane in self._lanes_of(loop):
            await lane.aclose()
        self._forget([loop])

    @property
    def stats(self) -> Stats:
        """The counters, with those of the open lanes."""
        stats = Stats(**self.counted.as_dict())
        for lane in self._lanes.values():
            stats.batches += lane.batches
            stats.commands += lane.commands
        return stats

    def emit(self, name: str, handle: str | None = None, detail: str | None = None) -> None:
        """Tell the app's hook; a hook that fails is logged and harms nobody."""
        if self._on_event is None:
            return
        try:
            self._on_event(SessionEvent(name, handle, detail))
        except Exception:
            logger.exception("on_event failed for the event %r.", name)

    def abandon_lanes(self) -> None:
        """In a forked child: leave the parent's connections alone, without closing them."""
        self._inherited += self._lanes.values()
        self._lanes = {}

    def _lane(self, *, side: bool = False) -> Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get((loop, side))
        if lane is None:
            self._forget([known for known, _ in self._lanes if known.is_closed()])
            lane = self._lanes[loop, side] = Lane(private_pool(self.redis), timeout=self._timeout)
        return lane

    def _lanes_of(self, loop: asyncio.AbstractEventLoop) -> list[Lane]:
        return [lane for (known, _), lane in self._lanes.items() if known is loop]

    def _forget(self, loops: Sequence[asyncio.AbstractEventLoop]) -> None:
        for place in [place for place in self._lanes if place[0] in loops]:
            lane = self._lanes.pop(place)
            self.counted.batches += lane.batches
            self.counted.commands += lane.commands

    def _unavailable(self, lane: Lane, error: Exception) -> SessionUnavailable:
        self.counted.errors += 1
        if isinstance(error, ResponseError):
            reason = f"{lane.address} refused the command ({_first_line(error)})"
            is_news, self._refusal = reason != self._refusal, reason
        else:
            reason = str(error)
            is_news, self._is_down = not self._is_down, True
        if is_news:  # one line an outage, not one a request
            logger.error("Sessions are unavailable: %s.", reason)
        self.emit("unavailable", None, reason)
        return SessionUnavailable(f"Sessions are unavailable: {reason}. Try again shortly.")


def _command(script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
    if len(keys) == 1:
        return (b"EVALSHA", script.sha, b"1", keys[0].encode(), *arguments)
    return (b"EVALSHA", script.sha, len(keys), *[key.encode() for key in keys], *arguments)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _abandon_all_lanes() -> None:
    for wire in list(_wires):
        wire.abandon_lanes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all_lanes)
