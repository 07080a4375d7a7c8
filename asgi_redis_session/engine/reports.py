"""Events, counters and log lines about sessions that were not found, or can't be read."""

import logging
from collections.abc import Sequence

from ..events import Events
from ..records import about
from .scripts import CORRUPT

logger = logging.getLogger("asgi_redis_session")

_UNREADABLE = "wrong type, or a layout version that this library does not read"


class Reports:
    """Reports of one store. *prefix* is that of its keys."""

    __slots__ = ("_events", "_has_seen_conflict", "_prefix")

    def __init__(self, events: Events, prefix: str) -> None:
        self._events = events
        self._prefix = prefix
        self._has_seen_conflict = False

    def conflict(self, places: Sequence[str]) -> None:
        """
        A request has sent two different ids. Logged once: a misconfiguration has many.

        *places*: where they were looked for, in words.
        """
        if not self._has_seen_conflict:
            self._has_seen_conflict = True
            shown = " or ".join(places)
            logger.warning(
                "A request has sent two different session ids in %s, so it is anonymous. If the "
                "cookie's domain or path has changed, give CookiePolicy(replaces=[...]) the "
                "policy of before. Else another app on this domain uses the same name. This is "
                "logged once; the event `conflict` reports each.",
                shown,
                extra=about("id_conflict", places=shown),
            )
        self._events.emit("conflict")

    def cross_origin(self, why: str) -> None:
        """Another site has made a browser send a request, and it was refused."""
        self._events.emit("cross_origin", detail=why)

    def moved(self, handle: str, user_id: str | None) -> None:
        """A session is used from somewhere else than what it was bound by."""
        self._events.emit("moved", handle, user_id=user_id)

    def is_there(self, handle: str, state: int) -> bool:
        """Whether the state is that of a session. One that can't be read is reported."""
        if state == CORRUPT:
            self.corrupt(handle, _UNREADABLE)
        return state > 0

    def absent(self, handle: str, state: int) -> None:
        """A browser's id leads to no session."""
        if state == CORRUPT:
            self.corrupt(handle, _UNREADABLE)
        else:
            self._events.emit("unknown_id", handle)

    def gone(self, handle: str, state: int, user_id: str | None) -> None:
        """A commit has found no session to write to."""
        if state == CORRUPT:
            self.corrupt(handle, _UNREADABLE)
        else:
            self._events.counted.gone += 1
            self._events.emit("gone", handle, user_id=user_id)

    def straggled(self, handle: str | None) -> None:
        """A commit of a request whose session has a new id by now: it was dropped."""
        self._events.counted.gone += 1
        self._events.emit("gone", handle)

    def garbage(self) -> None:
        """A user's index holds what this library does not write."""
        logger.warning(
            "A user's index holds what is no handle of a session, or is none. It is removed; find "
            "out which other program writes to the keys of the prefix %r.",
            self._prefix,
            extra=about("users_list_damaged", prefix=self._prefix),
        )
        self._passed_over(None, "a user's index holds what is no handle, or is none")

    def misdated(self) -> None:
        """A user's index holds a session with a time of login that can't be one."""
        logger.warning(
            "A user's index holds a time of login that can't be one. Its session stays listed; "
            "find out which other program writes to the keys of the prefix %r.",
            self._prefix,
            extra=about("users_list_damaged", prefix=self._prefix),
        )
        self._passed_over(None, "a user's index holds a time of login that can't be one")

    def odd_tag(self) -> None:
        """Redis Search knows a tag that this library does not write."""
        logger.warning(
            "The index holds a tag that can't be read, which is not counted; find out which other "
            "program writes to the keys of the prefix %r.",
            self._prefix,
            extra=about("search_index_damaged", prefix=self._prefix),
        )
        self._passed_over(None, "the index holds a tag that can't be read")

    def oversized(self, handle: str, name: str) -> None:
        """A field is larger than allowed, so that a backfill has passed it over."""
        logger.warning(
            "The field %r of session %s is larger than Limits(field_bytes=...) allows, so it was "
            "not indexed.",
            name,
            handle,
            extra=about("field_not_indexed", field=name, handle=handle),
        )
        self._passed_over(handle, f"the field {name!r} is too large to index")

    def corrupt(self, handle: str, reason: str) -> None:
        """There is something under the key that is no session of this library."""
        logger.error(
            "Session %s can't be read (%s). It is left as it is and treated as absent; inspect it "
            "with `redis-cli HGETALL %s`, or delete it.",
            handle,
            reason,
            f"{self._prefix}:{handle}",
            extra=about("session_unreadable", handle=handle, reason=reason),
        )
        self._passed_over(handle, reason)

    def _passed_over(self, handle: str | None, detail: str) -> None:
        self._events.counted.corrupt += 1
        self._events.emit("corrupt", handle, detail=detail)
