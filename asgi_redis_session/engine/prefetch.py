"""
Reading a session before the app runs, for a request that will probably load it first of all.

A request that waits inside of a framework holds more than twice as many objects as one that waits
in the middleware, and Python's garbage collector looks at all of them, again and again. That is
most of what the slowest requests wait for. So the middleware learns, by method and path, which
requests begin with `load`, and reads their sessions while the framework is not running yet.

What was read serves only a `load` that comes before the request has waited for anything else, and
before this process has changed the session; a later one reads again. So an app can't tell, but by
what it has waited for while it blocked the event loop. By itself it extends no TTL, reports nothing
to the app, and can't fail. Only a request that makes an exception, and does not load its session,
has waited for Redis in vain, and one whose session does not come in time: for a tenth of the
timeout at most.
"""

from time import monotonic

from redis.exceptions import ResponseError

from ..transport.background import running_loop
from ..transport.changed import changed
from ..transport.client import Client
from ..transport.failures import LaneBroken
from .loads import Loads
from .reads import Read

#: So many requests of a kind must have begun with `load`, since a session was last read in vain for
#: one. So at most one in nine is, of requests that come one after the other.
_ENOUGH = 8
#: How many kinds of requests are known, at most, and how much of their path.
_KINDS, _PATH_LENGTH = 1024, 100
#: For how many seconds no session is read ahead, after one that did not come in time.
_PAUSE = 1.0


class Prefetch:
    """
    Which requests of one middleware begin with `load`.

    A kind of request is its method, with the first two segments of its path.
    """

    __slots__ = ("_client", "_commands", "_counts", "_resumes_at")

    def __init__(self, client: Client, loads: Loads) -> None:
        self._client = client
        self._commands = loads.whole
        self._counts: dict[str, int] = {}
        self._resumes_at = 0.0

    def begin(self, method: str, path: str) -> "Ahead":
        """A request begins."""
        segments = path[:_PATH_LENGTH].split("/", 3)
        kind = "/".join((method, *segments[1:3]))
        return Ahead(self, kind, self._counts.get(kind, 0) >= _ENOUGH)

    async def read(self, ahead: "Ahead", handle: str, extend: bool) -> None:  # noqa: FBT001
        """Read the session of this handle. *extend*: as for the `load` that may follow."""
        client, command, sent_at = self._client, self._commands[extend], monotonic()
        if sent_at < self._resumes_at or not client.is_available:
            return
        ahead.key = key = client.key(handle)
        try:
            reply = await client.glance(command, (key,))
        except (LaneBroken, ResponseError):
            self._resumes_at = monotonic() + _PAUSE
        else:
            ahead.seen = sent_at, command.result(*reply)

    def learn(self, kind: str) -> None:
        """A request of this kind has begun with `load`."""
        if len(self._counts) >= _KINDS and kind not in self._counts:
            self._counts.clear()
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def forget(self, kind: str) -> None:
        """A request of this kind was expected to begin with `load`, and has not."""
        self._counts.pop(kind, None)


class Ahead:
    """
    What is known of one request before its app runs.

    *is_likely*: whether it will probably begin with `load`. *seen*: when its session was read, and
    the reply; None if it was not. *key*: where it was read.
    """

    __slots__ = ("_has_waited", "_prefetch", "is_likely", "key", "kind", "seen")

    def __init__(self, prefetch: Prefetch, kind: str, is_likely: bool) -> None:  # noqa: FBT001
        self._prefetch = prefetch
        self.kind = kind
        self._has_waited = False
        self.is_likely = is_likely
        self.key = b""
        self.seen: tuple[float, Read] | None = None

    def start(self) -> None:
        """The app runs from now on. Once it has waited for something, what was read is outdated."""
        running_loop().call_soon(self._outdate)

    def take(self) -> tuple[float, Read] | None:
        """The session is loaded: return what was read, unless it is outdated."""
        if self._has_waited:
            return None
        seen, self.seen, self._has_waited = self.seen, None, True
        if not self.is_likely:
            self._prefetch.learn(self.kind)
        if seen is None or changed.since(seen[0], self.key):
            return None
        return seen

    def end(self) -> None:
        """The request is over: if something was read, it was in vain."""
        if self.seen is not None:
            self._prefetch.forget(self.kind)

    def _outdate(self) -> None:
        self._has_waited = True
