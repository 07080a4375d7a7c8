"""What each of the last requests has asked of Redis."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Asked", "Recorder", "Recording", "Request"]

_SESSIONS, _REQUESTS = 1000, 4
#: What Redis calls the steps that are no scripts.
_PLAIN = {"load": "HGETALL", "fetch": "HMGET"}


@dataclass(slots=True)
class Asked:
    """A command of a request. *ms*: from the call to the reply; of several, the longest."""

    step: str
    outcome: str
    ms: float = 0
    times: int = 0

    @property
    def command(self) -> str:
        """What Redis has been sent."""
        return _PLAIN.get(self.step, f"EVALSHA {self.step}.lua")


@dataclass(slots=True)
class Request:
    """A request, and what it has asked."""

    line: str
    _by_kind: dict[tuple[str, str], Asked] = field(default_factory=dict)

    def note(self, step: str, outcome: str, ms: float) -> None:
        """Note a command; those of one kind are one entry."""
        kind = step, outcome
        asked = self._by_kind.setdefault(kind, Asked(*kind))
        asked.times += 1
        asked.ms = max(asked.ms, ms)

    @property
    def commands(self) -> Sequence[Asked]:
        """Each kind of command, in the order in which they were first sent."""
        return list(self._by_kind.values())


class Recorder:
    """
    Keeps the last requests of each session, from around the sessions' own middleware.

    It knows those that this process has answered. *quiet*: paths that are not recorded.
    """

    def __init__(self, quiet: Sequence[str]) -> None:
        self._quiet = tuple(quiet)
        self._current: ContextVar[Request | None] = ContextVar("request", default=None)
        self._of: OrderedDict[str, deque[Request]] = OrderedDict()

    def note(self, step: str, outcome: str, seconds: float) -> None:
        """Note a command; `telemetry.watch` calls it."""
        if (request := self._current.get()) is not None:
            request.note(step, outcome, seconds * 1000)

    def last_of(self, handle: str) -> Sequence[Request]:
        """Return the last requests of a session, the latest first."""
        return list(reversed(self._of.get(handle, ())))

    async def serve(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, and record what it asks."""
        if scope["type"] != "http" or scope["path"].startswith(self._quiet):
            await app(scope, receive, send)
            return
        request = Request(f"{scope['method']} {scope['path']}")
        token = self._current.set(request)
        try:
            await app(scope, receive, send)
        finally:
            self._current.reset(token)
            session = scope.get("session")
            if session is not None and session.loaded and session.handle is not None:
                self._keep(session.handle, request)

    def _keep(self, handle: str, request: Request) -> None:
        self._of.setdefault(handle, deque(maxlen=_REQUESTS)).append(request)
        self._of.move_to_end(handle)
        if len(self._of) > _SESSIONS:
            self._of.popitem(last=False)


class Recording:
    """The recorder as a middleware of an app."""

    def __init__(self, app: Any, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection (ASGI 3)."""
        await self._recorder.serve(self._app, scope, receive, send)
