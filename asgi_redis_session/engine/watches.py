"""
Sessions that sockets and streams wait on: each is woken when its session may have ended.

Where the store pushes, one connection to each server hears of ends, and Redis is asked only

- when a session begins to be heard, also after a connection was renewed: it may have ended before;
- at the instant at which it expires, because nothing is published then;
- once a minute, because messages may be lost, and an older process publishes none.

Else, and while nothing is heard, Redis is asked as often as each waiter wishes. In both cases many
sessions are looked at in one script.
"""

import asyncio
import heapq
import logging
import secrets
from collections.abc import Collection, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from itertools import count

from ..errors import SessionUnavailable
from ..records import about
from ..transport import forks
from ..transport.client import Client
from ..transport.failures import KeysApart
from ..transport.listener import Listener
from ..transport.route import NodeUnknown
from . import scripts
from .keys import channel

logger = logging.getLogger("asgi_redis_session")

#: Seconds between two looks at a session whose end is pushed.
_MINUTE = 60.0
#: Seconds between two rounds at least, so that many sessions share one.
_ROUND = 0.1
#: Sessions in one script. It takes Redis half a millisecond.
_AT_ONCE = 100
#: Seconds after the instant of its expiry at which a session is looked at.
_LATE = 0.02


@dataclass(eq=False, slots=True)
class _Watched:
    """
    A session that a socket or stream waits on. *every*: how often Redis is asked while its channel
    is not listened to.

    *due*: when Redis is asked next, by the clock of the event loop. *master*: where its channel is
    listened to.
    """

    handle: str
    channel: bytes
    every: float
    due: float = 0.0
    is_heard: bool = False
    master: Hashable = None
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


class Watches:
    """The sessions that are waited on in each event loop of a store. *idle_ms*: its idle time."""

    def __init__(self, client: Client, *, idle_ms: int, pushes: bool) -> None:
        self._client = client
        self._idle_ms = idle_ms
        self.pushes = pushes
        self._rounds: dict[asyncio.AbstractEventLoop, _Rounds] = {}
        forks.in_child(self, Watches._abandon)

    async def may_have_ended(self, handles: Sequence[str], every: float) -> None:
        """
        Wait until a session may have ended, so that it is worth a look.

        *handles*: the names that it may have. *every*: how often Redis is asked, in seconds, where
        ends are not pushed.
        """
        if not self.pushes or len(handles) != 1:
            await asyncio.sleep(every)
            return
        loop = asyncio.get_running_loop()
        if loop not in self._rounds:
            self._rounds = {
                known: one for known, one in self._rounds.items() if not known.is_closed()
            }
            self._rounds[loop] = _Rounds(self._client, self._idle_ms)
        await self._rounds[loop].wait(handles[0], every)

    def all_due(self) -> None:
        """Look at all sessions of this event loop in its next round."""
        if rounds := self._rounds.get(asyncio.get_running_loop()):
            rounds.all_due()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and wake all that wait."""
        if rounds := self._rounds.pop(asyncio.get_running_loop(), None):
            await rounds.aclose()

    def _abandon(self) -> None:
        """In a forked child: forget the waiters, which are the parent's."""
        self._rounds = {}


class _Rounds:
    """The sessions of one event loop. It is the `Hearer` of its listeners."""

    def __init__(self, client: Client, idle_ms: int) -> None:
        self._client = client
        self._idle_ms = idle_ms
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, _Watched] = {}
        self._by_channel: dict[bytes, _Watched] = {}
        # When each is due; what is there no longer, or at another instant, is passed over.
        self._agenda: list[tuple[float, int, _Watched]] = []
        self._numbers = count()
        self._has_news = asyncio.Event()
        self._listeners: dict[Hashable, Listener] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, handle: str, every: float) -> None:
        """Wait until there is reason to look at the session."""
        watched = self._watched.get(handle) or self._begin(handle, every)
        watched.every = min(watched.every, every)
        woken: asyncio.Future[None] = self._loop.create_future()
        watched.waiting.add(woken)
        try:
            await woken
        finally:
            watched.waiting.discard(woken)
            if not watched.waiting and self._watched.get(handle) is watched:
                self._end(watched)

    def all_due(self) -> None:
        for watched in self._watched.values():
            self._schedule(watched, 0.0)

    async def aclose(self) -> None:
        for watched in list(self._watched.values()):
            _wake(watched)
            self._end(watched)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.gather(*[listener.aclose() for listener in self._listeners.values()])

    def _begin(self, handle: str, every: float) -> _Watched:
        watched = _Watched(handle, channel(self._client, handle), every)
        self._watched[handle] = self._by_channel[watched.channel] = watched
        self._listen(watched)
        self._schedule(watched, every)
        if self._task is None:
            # In a context of its own: it belongs to no request.
            self._task = self._loop.create_task(self._run(), context=Context())
        return watched

    def _end(self, watched: _Watched) -> None:
        del self._watched[watched.handle], self._by_channel[watched.channel]
        self._stop_listening(watched)
        self._has_news.set()

    # --- Listening ---

    def _listen(self, watched: _Watched) -> None:
        """Listen at the server that serves the session now."""
        try:
            master = self._client.routes.here.master(watched.channel)
        except NodeUnknown:  # the next look at the session finds out
            return
        if master != watched.master:
            self._stop_listening(watched)
        if master not in self._listeners:
            self._listeners[master] = Listener(
                self._client.routes.here.pool(master, protocol=2),
                self,
                _OwnMessage(self._client),
                timeout=self._client.timeout,
                is_sharded=self._client.is_cluster,
            )
        watched.master = master
        self._listeners[master].add(watched.channel)

    def _stop_listening(self, watched: _Watched) -> None:
        watched.is_heard = False
        if listener := self._listeners.get(watched.master):
            listener.remove(watched.channel)

    def on_message(self, name: bytes, _data: bytes) -> None:
        """A message says that a session has ended: its waiters ask Redis whether it has."""
        if watched := self._by_channel.get(name):
            _wake(watched)

    def on_heard(self, name: bytes) -> None:
        """Look what has happened before."""
        if watched := self._by_channel.get(name):
            watched.is_heard = True
            self._schedule(watched, 0.0)

    def on_lost(self, name: bytes) -> None:
        """Ask Redis until the channel is heard again."""
        if watched := self._by_channel.get(name):
            watched.is_heard = False
            self._schedule(watched, watched.every)

    def on_moved(self) -> None:
        """Look again who serves what."""
        self._client.routes.here.suspect_topology()

    def on_refused(self, address: str, reason: str) -> None:
        """Ask Redis instead."""
        logger.warning(
            "The ends of sessions can't be pushed by %s (%s). Sockets and streams ask Redis "
            'instead. See "ACL" in docs/deployment.md, or leave out push=True.',
            address,
            reason,
            extra=about("push_refused", address=address, reason=reason),
        )

    # --- Asking ---

    def _schedule(self, watched: _Watched, seconds: float) -> None:
        watched.due = self._loop.time() + seconds
        heapq.heappush(self._agenda, (watched.due, next(self._numbers), watched))
        self._has_news.set()

    async def _run(self) -> None:
        try:
            while self._watched:
                self._has_news.clear()
                due = self._take_due()
                chunk = 1 if self._client.is_sharded else _AT_ONCE
                chunks = [due[start : start + chunk] for start in range(0, len(due), chunk)]
                await asyncio.gather(*[self._look(some) for some in chunks])
                await asyncio.sleep(_ROUND)
                await self._until_due()
        finally:
            self._task = None
            self._agenda.clear()
            for watched in self._watched.values():  # after an error, none may wait for ever
                _wake(watched)

    def _take_due(self) -> list[_Watched]:
        due, now = [], self._loop.time()
        while self._agenda and self._agenda[0][0] <= now:
            at, _, watched = heapq.heappop(self._agenda)
            if at == watched.due and self._watched.get(watched.handle) is watched:
                due.append(watched)
        return due

    async def _until_due(self) -> None:
        while self._agenda and not self._has_news.is_set():
            seconds = self._agenda[0][0] - self._loop.time()
            if seconds <= 0:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self._has_news.wait()
            except TimeoutError:
                return

    async def _look(self, due: Sequence[_Watched]) -> None:
        """Ask Redis for these sessions, and note when to ask for each again."""
        keys = [self._client.key(watched.handle) for watched in due]
        try:
            reply = await self._client.call(
                scripts.WATCH, keys, (self._idle_ms,), idempotent=True, own_connection=True
            )
        except KeysApart:  # one address leads to several servers
            self._client.is_sharded = True
            for watched in due:
                self._schedule(watched, 0.0)
            return
        except SessionUnavailable:  # it was reported when it was raised
            for watched in due:
                self._schedule(watched, watched.every)
            return
        for watched, expires_ms in zip(due, reply.instants, strict=True):
            if expires_ms <= 0:
                _wake(watched)
            if self._watched.get(watched.handle) is not watched:
                continue
            if not watched.is_heard:
                self._listen(watched)
            interval = _MINUTE if watched.is_heard else watched.every
            left = (expires_ms - reply.now_ms) / 1000 + _LATE
            self._schedule(watched, min(interval, max(left, _ROUND)))


class _OwnMessage:
    """A message on a channel of its own, published as the end of a session is: a `Proof`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel = b""

    def channel(self, channels: Collection[bytes]) -> bytes:
        # In the slot of one of the channels, so that it leads to the same server.
        name, brace, tag = min(channels).partition(b"{")
        self._channel = b"%b%b:%b%b" % (name, secrets.token_hex(8).encode(), brace, tag)
        return self._channel

    async def send(self) -> None:
        arguments = (int(self._client.is_cluster),)
        await self._client.call(scripts.ANNOUNCE, (self._channel,), arguments, idempotent=True)

    def is_met(self, channel: bytes, _data: bytes) -> bool:
        return channel == self._channel


def _wake(watched: _Watched) -> None:
    for woken in watched.waiting:
        if not woken.done():
            woken.set_result(None)
