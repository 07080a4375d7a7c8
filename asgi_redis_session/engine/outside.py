"""
Sessions seen from outside: for `store.get`, a user's list, a search, and the index.

Nothing here counts as use, so the TTL stays as it is. Commands travel on a connection of their own,
so that long lists do not delay requests. All methods raise `SessionUnavailable`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..info import SEALED, SessionInfo, label_of
from ..transport.client import Client
from ..transport.scripts import Script
from . import scripts
from .claims import NONE, Claims
from .codec import CorruptValue, StoredHash
from .ids import is_handle
from .loads import Loads
from .reads import by_name
from .record import Changes, Metadata, instant
from .reports import Reports
from .scripts import CHANGED, Loaded
from .sealing import is_sealed
from .shadows import Shadows
from .timed import MARK, live_at

#: What `peek` reads of a session beside the fields that it is asked for.
_METADATA = (
    *("@v", "@created", "@deadline", "@idle", "@seen", "@user", "@auth"),
    *("@agent", "@ip", "@claims"),
)


class Outside:
    """
    The view from outside on the sessions of one store.

    *idle_ms*: the store's idle time. *field_bytes*: how large a field may be.
    """

    def __init__(
        self,
        client: Client,
        reports: Reports,
        loads: Loads,
        shadows: Shadows,
        *,
        idle_ms: int,
        field_bytes: int,
    ) -> None:
        self._client = client
        self._reports = reports
        self._loads = loads
        self._shadows = shadows
        self._idle_ms = idle_ms
        self._field_bytes = field_bytes

    async def peek(
        self, handle: str, names: Sequence[str] | None = None, *, idle_ms: int = 0
    ) -> SessionInfo | None:
        """
        Read a session, with all of its fields or those of *names*; None if there is none.

        Also None if it was used less than *idle_ms* ago.
        """
        if not is_handle(handle):  # what a caller was given, or a damaged place
            return None
        arguments: Sequence[Any] = ()
        script: Script[Loaded] = self._loads.all[False]
        if names is not None:
            names = (*_METADATA, *names)
            script, arguments = self._loads.some(names, extend=False)
        reply = await self._load(script, handle, arguments)
        if not self._reports.is_there(handle, reply.state):
            return None
        raws = by_name(reply.fields) if names is None else _named(names, reply.fields)
        if MARK in raws:
            raws, _, _ = live_at(reply.now_ms, raws)
        sealed = [name for name, raw in raws.items() if is_sealed(raw)]
        try:
            stored = StoredHash({name: raws[name] for name in raws.keys() - sealed})
            values = stored.values | {name.decode(): SEALED for name in sealed}
        except (CorruptValue, UnicodeDecodeError) as error:
            self._reports.corrupt(handle, str(error))
            return None
        info = self._info(handle, reply.state, values, Metadata.parse(stored.raws))
        is_idle = instant(reply.now_ms) - info.last_seen >= timedelta(milliseconds=idle_ms)
        return info if is_idle or not idle_ms else None

    async def claims(self, handle: str) -> tuple[int, Claims]:
        """
        What is under the key, and what the app has said of the login.

        Above 0 it is a session, GONE is nothing, CORRUPT what can't be read.
        """
        names = ("@auth", "@claims")
        script, arguments = self._loads.some(names, extend=False)
        reply = await self._load(script, handle, arguments)
        if reply.state <= 0:
            return reply.state, NONE
        return reply.state, _claims_of(Metadata.parse(_named(names, reply.fields)))

    async def write_shadows(self, handle: str) -> bool:
        """Write the shadows that a session lacks; returns whether it lacked any."""
        sources, names = self._shadows.sources, (*self._shadows.sources, *self._shadows.names)
        script, arguments = self._loads.some(names, extend=False, raw=True)
        while True:
            reply = await self._load(script, handle, arguments)
            if reply.state <= 0:
                return False
            held = dict(zip(names, reply.fields, strict=True))
            wanted = self._shadows.from_stored(self._within_limits(handle, held))
            wrong = Changes({name: raw for name, raw in wanted.items() if raw != held[name]})
            if not wrong:
                return False
            read = [part for n in sources for part in (n, int(held[n] is not None), held[n] or "")]
            sets = wrong.hset_args()
            written = await self._client.call(
                scripts.WRITE_IF_SAME,
                (self._client.key(handle),),
                [self._idle_ms, len(sources), *read, len(sets), *sets, *wrong.hdel_args()],
                own_connection=True,
            )
            if written.state != CHANGED:  # else another request has written meanwhile: look again
                return written.state > 0

    def _within_limits(self, handle: str, raws: dict[str, bytes | None]) -> dict[str, bytes | None]:
        """
        Return the fields without those that are larger than allowed.

        Another program has written them, or the limits were lowered. Decoding one of many megabytes
        would take seconds, so it has no shadow, and no search finds the session by it.
        """
        kept = dict(raws)
        for name in self._shadows.sources:
            raw = raws[name]
            if raw is not None and len(raw) > self._field_bytes:
                self._reports.oversized(handle, name)
                kept[name] = None
        return kept

    async def _load(
        self, script: Script[Loaded], handle: str, arguments: Sequence[Any] = ()
    ) -> Loaded:
        return await self._client.call(
            script, (self._client.key(handle),), arguments, idempotent=True, own_connection=True
        )

    def _info(
        self, handle: str, expires_ms: int, values: dict[str, Any], metadata: Metadata
    ) -> SessionInfo:
        last_seen = expires_ms - (metadata.idle_ms or self._idle_ms)
        # The deadline may have capped the TTL, and a refresh may have been lost.
        last_seen = max(last_seen, metadata.seen_ms or 0)
        auth_ms, agent, claims = metadata.auth_ms, metadata.agent, _claims_of(metadata)
        return SessionInfo(
            handle=handle,
            user_id=metadata.user_id,
            created_at=instant(metadata.created_ms),
            last_seen=instant(max(last_seen, metadata.created_ms)),
            expires_at=instant(expires_ms),
            authenticated_at=None if auth_ms is None else instant(auth_ms),
            address=metadata.address,
            user_agent=agent,
            label=None if agent is None else label_of(agent),
            amr=claims.amr,
            persistent=claims.persistent,
            actor=claims.actor,
            fields=values,
        )


def _claims_of(metadata: Metadata) -> Claims:
    return Claims.of(metadata.claims, metadata.auth_ms)


def _named(names: Sequence[str], raws: Sequence[bytes | None]) -> dict[bytes, bytes]:
    """Return what HMGET has answered for these names, by name."""
    pairs = zip(names, raws, strict=True)
    return {name.encode(): raw for name, raw in pairs if raw is not None}
