"""What happens to sessions: events for the app's hook, and counters."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

from .records import about

__all__ = ["EndReason", "EventName", "Events", "SessionEvent", "Stats"]

logger = logging.getLogger("asgi_redis_session")

EventName = Literal[
    "created",
    "logged_in",
    "renewed",
    "ended",
    "expired",
    "gone",
    "unknown_id",
    "conflict",
    "corrupt",
    "cross_origin",
    "moved",
    "new_device",
    "unavailable",
]
EndReason = Literal["logout", "revoked", "limit", "replaced", "login_failed"]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """
    Something that happened to a session. It carries handles, never ids or stored values.

    *name*: what happened. `created`, `logged_in`, `renewed`, `ended`; `expired` (as far as
    `store.reporting_expired()` notices it); `gone` (a commit found that
    its session had ended); `unknown_id` (a well-formed cookie that Redis does not know);
    `conflict` (two different session ids in one request); `corrupt` (a session, or something in
    a user's list or the search index, that can't be read); `cross_origin` (a request was refused,
    because another site has made the browser send it); `moved` (a session is used from another
    browser or place than it was bound by); `new_device` (a user has logged in from a kind of device
    that the store does not remember of them); `unavailable` (Redis did not answer, or refused).
    *user_id*: whose session it is, where that is known.
    *actor*: who has logged in for that user, with `login(actor=...)`.
    *reason*: why it ended. `logout`; `revoked` (from outside); `limit` (the user logged in
    elsewhere, and had as many sessions as allowed); `replaced` (another user logged in on it);
    `login_failed` (its login was revoked before it was complete).
    *detail*: what went wrong, for `corrupt`, `cross_origin` and `unavailable`; for `ended`, the
    reason that the app has given, such as `revoke_all(reason=...)`; for `new_device`, `"first"` if
    no other device of the user is remembered.
    *at*: when, by the clock of this process, as an aware UTC datetime.
    """

    name: EventName
    handle: str | None = None
    detail: str | None = None
    user_id: str | None = None
    reason: EndReason | None = None
    actor: str | None = None
    at: datetime = field(default_factory=_now, compare=False)


def _meaning(text: str) -> Any:
    return field(default=0, metadata={"meaning": text})


@dataclass(slots=True)
class Stats:
    """
    Plain counters of one store in this process, since the store was made.

    `connections` and `queued` are no counters, but what there is at this moment.
    """

    loads: int = _meaning("Sessions read whole.")
    refreshes: int = _meaning("TTLs extended for requests that did not read their session.")
    refreshes_dropped: int = _meaning("TTLs not extended, because of overload or a late reply.")
    refused: int = _meaning("Commands refused at once, because too many were queued.")
    settled: int = _meaning("Sessions whose values were encrypted when they were read.")
    commits: int = _meaning("Changes of sessions written.")
    gone: int = _meaning("Changes not written, because their session had ended.")
    corrupt: int = _meaning("Sessions and entries that could not be read.")
    errors: int = _meaning("Commands that Redis did not answer in time, or refused.")
    batches: int = _meaning("Batches of commands answered; each was one round trip.")
    commands: int = _meaning("Commands answered.")
    connections: int = _meaning("Connections that are open now.")
    queued: int = _meaning("Commands that wait to be sent now.")

    def as_dict(self) -> dict[str, int]:
        """Return all counters by name, as a metrics exporter wants them."""
        return {counter.name: getattr(self, counter.name) for counter in fields(self)}


class Events:
    """Who listens, and the counters: shared by everything that reports something."""

    __slots__ = ("_listeners", "counted")

    def __init__(self, on_event: Callable[[SessionEvent], None] | None) -> None:
        self._listeners = [] if on_event is None else [on_event]
        self.counted = Stats()

    def listen(self, listener: Callable[[SessionEvent], None]) -> None:
        """Call *listener*, too, with each event from now on."""
        self._listeners.append(listener)

    def emit(
        self,
        name: EventName,
        handle: str | None = None,
        *,
        detail: str | None = None,
        user_id: str | None = None,
        reason: EndReason | None = None,
        actor: str | None = None,
    ) -> None:
        """Call all listeners. One that fails is logged and disturbs nothing else."""
        if not self._listeners:
            return
        event = SessionEvent(name, handle, detail, user_id, reason, actor)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logger.exception(
                    "on_event failed for the event %r.",
                    name,
                    extra=about("listener_failed", listens_to=name),
                )
