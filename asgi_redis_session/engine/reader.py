"""
Every command that reads one session's hash, or extends its TTL.

*handles* are the names under which the hash may be stored, one for each secret in use; *extend*
says whether the command extends the TTL. All methods raise `SessionUnavailable` if Redis can't be
reached in time, or refuses.
"""

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, cast, get_args

from ..absence import Absence, AbsenceKind
from ..errors import SessionUnavailable
from ..events import Events
from ..transport.client import Client
from . import scripts
from .codec import CorruptValue, StoredHash, decode
from .finding import find
from .keys import tombstone
from .loads import Loads
from .reads import EXTEND, Read
from .record import Ended, Record, instant
from .reports import Reports
from .scripts import Loaded
from .settling import Settling
from .timed import MARK, seen_at


class Reader:
    """Reads the hashes of one store."""

    def __init__(
        self,
        client: Client,
        events: Events,
        reports: Reports,
        loads: Loads,
        settling: Settling | None,
    ) -> None:
        self._client = client
        self._events = events
        self._reports = reports
        self._loads = loads
        self._settling = settling

    async def load(
        self,
        handles: tuple[str, ...],
        session_id: str | None,
        *,
        extend: bool,
        from_cookie: bool = True,
        seen: tuple[float, Read] | None = None,
    ) -> Record | None:
        """
        Read the whole hash; None if there is no session that can be read.

        *session_id*: what the handles are derived from; None if only they are known. Then sealed
        values raise `SessionSealed`.
        *from_cookie*: whether a browser has sent the id, so that an unknown one is reported.
        *seen*: the instant at which it was read ahead, and the reply (see `prefetch`).
        """
        self._events.counted.loads += 1
        sent_at, handle, command = monotonic(), handles[0], self._loads.whole[extend]
        key = self._client.key(handle)
        if seen is not None:
            sent_at, reply = seen
        elif len(handles) == 1:  # nearly always, so without the coroutine of `find`
            reply = await self._client.call(command, (key,), idempotent=True)
        else:
            handle, reply = await find(self._client, handles, command)
            key = self._client.key(handle)
        if reply.idle_ms:
            self._extend_to(key, reply, sent_at)
        if reply.state <= 0:
            if reply.fields:  # its deadline has passed, but there it is: the script deletes it
                self._client.call_soon(self._loads.none[False], (key,))
            if from_cookie:
                self._reports.absent(handle, reply.state)
            else:
                self._reports.is_there(handle, reply.state)
            return None
        try:
            seal, raws = None, reply.fields
            if self._settling is not None:
                seal, raws = self._settling.open_all(session_id, handle, raws, settles=extend)
            stored = seen_at(reply.now_ms, raws) if MARK in raws else StoredHash(raws)
            is_extended = reply.idle_ms > 0
            return Record(handle, reply.state, reply.now_ms, stored, is_extended, seal)
        except CorruptValue as error:
            self._reports.corrupt(handle, str(error))
            return None

    async def fetch(
        self,
        handles: tuple[str, ...],
        session_id: str | None,
        names: Sequence[str],
        *,
        extend: bool,
    ) -> dict[str, Any] | None:
        """Read the named fields that exist; None if there is no session that can be read."""
        script, arguments = self._loads.some(names, extend=extend)
        handle, reply = await find(self._client, handles, script, arguments)
        if reply.state <= 0:
            self._reports.absent(handle, reply.state)
            return None
        pairs = zip(names, reply.fields, strict=True)
        found = [(name, raw) for name, raw in pairs if raw is not None]
        try:
            if self._settling is not None:
                found = self._settling.open_some(session_id, handle, found, reply.timed)
            return {name: decode(raw) for name, raw in found}
        except CorruptValue as error:
            self._reports.corrupt(handle, str(error))
            return None

    async def exists(self, handles: tuple[str, ...]) -> Loaded | None:
        """Say when the session expires; None if there is none. Leaves the TTL alone."""
        handle, reply = await find(self._client, handles, self._loads.none[False])
        return reply if self._reports.is_there(handle, reply.state) else None

    async def absence(self, handles: tuple[str, ...]) -> Ended:
        """Say why there is no session under any of these handles."""
        ended = Ended(Absence("unknown"))
        for handle in handles:
            keys: tuple[bytes, ...] = (tombstone(self._client, handle),)
            if not self._client.is_cluster:  # see bury.lua
                keys = (*keys, self._client.key(handle))
            try:
                reply = await self._client.call(scripts.ABSENCE, keys, idempotent=True)
            except SessionUnavailable as error:
                if not error.is_refusal:
                    raise
                continue
            if reply.is_occupied:
                return Ended(Absence("unreadable"))
            kind = (reply.kind or b"").decode()
            if reply.since is not None and kind in get_args(AbsenceKind):
                since_ms = int(float(reply.since))
                known = cast("AbsenceKind", kind)
                note = (reply.note or b"")[1:].decode(errors="replace")
                absence = Absence(known, instant(since_ms), note)
                return Ended(absence, reply.now_ms - since_ms)
        return ended

    # --- The TTL ---

    def _extend_to(self, key: bytes, read: Read, sent_at: float) -> None:
        """
        Extend the TTL of what was read at *sent_at*, without waiting for the reply.

        Not if that is late. Another request may have shortened the idle time meanwhile (see
        `shortened`), and an instant in the past would delete the session.
        """
        not_after = sent_at + min(self._client.timeout, read.idle_ms / 1000) / 2
        if not self._client.ride(EXTEND, key, (read.state,), not_after=not_after):
            self._events.counted.refreshes_dropped += 1

    def shortened(self, handle: str) -> None:
        """
        A session's life was shortened: make sure that its TTL is no longer than that.

        Another request may have read it before, and may extend its TTL now, by the old idle time.
        It does so within half a timeout (see `_extend_to`), so that after two of them it is over.
        """
        look = partial(self._client.call_soon, self._loads.none[False], (self._client.key(handle),))
        self._client.later(2 * self._client.timeout, look)

    def extend_soon(self, handles: tuple[str, ...]) -> None:
        """Extend the TTL, fire and forget, unless very many commands are queued already."""
        for handle in handles:
            if self._client.ride(self._loads.none[True], self._client.key(handle)):
                self._events.counted.refreshes += 1
            else:
                self._events.counted.refreshes_dropped += 1

    async def touch(self, handles: tuple[str, ...]) -> Loaded | None:
        """As `exists`, but extend the TTL now, even within `refresh_after`."""
        handle, reply = await find(self._client, handles, self._loads.touch)
        return reply if self._reports.is_there(handle, reply.state) else None
