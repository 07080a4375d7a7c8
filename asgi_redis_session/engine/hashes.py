"""
Every command that writes one session's hash; `reader` has those that read it.

Each method sends one script, which is one atomic step and one round trip. What touches more than
one key is in `verbs`, and so is `save`, which sends commit.lua and save.lua: their arguments are
made here. *handles* are the names under which the hash may be stored, one for each
secret in use; *extend* says whether the command extends the TTL. All methods raise
`SessionUnavailable` if Redis can't be reached in time, or refuses.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..absence import AbsenceKind
from ..errors import DurabilityNotReached, SessionValueError
from ..events import Events
from ..options import Durability, Limits
from ..transport.client import Client
from ..transport.scripts import Script
from ..transport.written import Written
from . import scripts
from .fields import too_many_fields
from .keys import beside, channel, tombstone
from .record import Changes, Record, Span, unconfirmed_ms
from .reports import Reports
from .scripts import FULL, Began
from .sealing import Seal
from .shadows import Shadows
from .timed import as_stored

#: How long a tombstone says that a session was replaced. It is not needed for longer: see
#: `SessionState.is_straggler`.
REPLACED_MS = 60_000

#: So many names and values fit into one HSET of a script.
_MOST_PARTS = 4000


class Sum(NamedTuple):
    """What `increment` returns; *total* None: there is no such session."""

    total: int | None
    shortfall: DurabilityNotReached | None = None


class Hashes:
    """
    The hashes of one store.

    *remember_ms*: for how long a tombstone says why a session has ended. *pushes*: whether the end
    of a session is published.
    """

    def __init__(
        self,
        client: Client,
        events: Events,
        reports: Reports,
        *,
        idle_ms: int,
        limits: Limits,
        shadows: Shadows,
        remember_ms: int,
        pushes: bool = False,
    ) -> None:
        self._client = client
        self._events = events
        self._reports = reports
        self._idle_ms = idle_ms
        self._limits = limits
        self._shadows = shadows
        #: For how long a tombstone says why a session has ended.
        self.remember_ms = remember_ms
        self._pushes = pushes

    async def create(
        self,
        handle: str,
        changes: Changes,
        span: Span,
        concern: Durability | None,
        seal: Seal | None = None,
    ) -> Written[Began]:
        """Create an anonymous session's hash, or an unconfirmed login's. TAKEN if there is one."""
        login = changes.login
        described = self._described(changes)
        user_id = "" if login is None else login.user_id
        lives = "" if login is None else unconfirmed_ms(self._client.timeout, concern)
        sets, _ = self.field_args(seal, changes)
        arguments = (lives, *span.arguments, user_id, *described, *sets)
        key = self._client.key(handle)
        return await self._client.write(scripts.CREATE, (key,), arguments, concern=concern)

    async def take_over(
        self, handle: str, fields: Sequence[Any], span: Span, lasts_ms: int | None
    ) -> int:
        """
        Create the hash of a session that another middleware has begun, unless that was done before.

        *fields*: names and values, as HSET takes them. *lasts_ms*: how long it is remembered that
        it was done; None: only look. Returns the state: above 0 if there is a session now, GONE if
        there was one, FREE if there was none.
        """
        key, mark = self._client.key(handle), beside(self._client, "imported", handle)
        arguments = ("" if lasts_ms is None else lasts_ms, *span.arguments, "", *fields)
        reply = await self._client.call(scripts.IMPORT, (key, mark), arguments)
        if reply.now_ms:  # only create.lua answers the time
            self._events.counted.commits += 1
            self._events.emit("created", handle)
        return reply.state

    async def read_original(self, key: bytes, field: str) -> bytes | None:
        """Read the session of another library: a string, or with *field*, that of a hash."""
        reply = await self._client.call(scripts.READ_ORIGINAL, (key,), (field,), idempotent=True)
        return reply.raw

    def drop_soon(self, key: bytes) -> None:
        """Delete a key that is no session of ours, without waiting for the reply."""
        self._client.call_soon(scripts.DROP_KEY, (key,))

    def commit_args(self, record: Record, changes: Changes) -> list[Any] | None:
        """
        Return the arguments of commit.lua; None if save.lua has to decide by the clock of Redis.

        This process knows the time for a while only: it may be suspended, or the session may end.
        """
        if not record.is_extended or changes.shortens or record.age > self._client.timeout:
            return None
        sets, removes = self.field_args(record.seal, changes)
        now_ms = record.current_ms
        if removes or len(sets) > _MOST_PARTS or now_ms >= record.expires_ms:
            return None
        raws = record.stored.raws
        return [raws.get(b"@deadline", b""), raws.get(b"@idle", b""), "@seen", now_ms, *sets]

    def save_args(
        self, record: Record, changes: Changes, seal: Seal | None, *, extend: bool
    ) -> list[Any]:
        """Return the arguments of save.lua. *seal*: of the new key, if the session moves."""
        sets, removes = self.field_args(seal, changes)
        idle = "" if changes.idle_ms is None else changes.idle_ms
        shorter = changes.absolute_ms
        deadline = "" if shorter is None else record.metadata.created_ms + shorter
        return [self._idle_ms, int(extend), idle, deadline, len(sets), *sets, *removes]

    def login_args(
        self, changes: Changes, span: Span, seal: Seal | None, *, had_claims: bool
    ) -> list[Any]:
        """
        Return the arguments of login.lua. *seal*: of the new key. *had_claims*: whether the
        session holds claims of its previous login.
        """
        login = changes.login
        assert login is not None  # noqa: S101  (verbs.login asks for it)
        described = self._described(changes)
        sets, removes = self.field_args(seal, changes)
        pairs = [*described, *sets]
        # The address and user agent of the previous login go, if this one has none.
        names = (
            "@agent",
            "@ip",
            self._shadows.address_shadow,
            *(("@claims",) if had_claims else ()),
        )
        outdated = [name for name in names if name not in described[::2]]
        lengths = (self._idle_ms, *span.arguments)
        return [*lengths, login.user_id, len(pairs), *pairs, *removes, *outdated]

    async def increment(
        self,
        handles: tuple[str, ...],
        name: str,
        amount: int,
        *,
        extend: bool,
        concern: Durability | None,
    ) -> Sum:
        """Add to an integer field. Raises `SessionValueError` if it holds something else."""
        if name in self._shadows.checks:
            self._shadows.checks[name](amount)
        shadow = self._shadows.of(name)
        copy, largest = ("", None) if shadow is None else (shadow.name, shadow.largest)
        bounds = (self._limits.fields, copy, "" if largest is None else largest)
        arguments = (self._idle_ms, int(extend), name, amount, *bounds)
        for handle in handles:
            key = self._client.key(handle)
            written = await self._client.write(
                scripts.INCREMENT, (key,), arguments, concern=concern
            )
            state, digits = written.reply.state, written.reply.digits
            if state == FULL:
                raise too_many_fields(name, self._limits.fields)
            if self._reports.is_there(handle, state):
                if digits is None:
                    raise SessionValueError(
                        f"session[{name!r}] can't be incremented: it holds no 64-bit integer, or "
                        "the sum would not fit one (2^53 in a field that is indexed as a Num)."
                    )
                return Sum(int(digits), written.shortfall)
        return Sum(None)

    async def delete(
        self,
        handle: str,
        kind: AbsenceKind | None,
        *,
        note: str | None = None,
        concern: Durability | None = None,
        own_connection: bool = False,
    ) -> Written[scripts.Ended]:
        """
        Delete the hash, and leave a tombstone. Its place stays listed.

        Returns the state 1 if there was a session.
        *kind*: what the tombstone says; None: the browser has never had this session, so none is
        left. *note*: the reason in the caller's own words.
        """
        keys: tuple[bytes, ...] = (self._client.key(handle),)
        arguments: tuple[Any, ...] = (self._idle_ms,)
        if kind is not None and not self._client.is_cluster:
            keys = (*keys, *self._left_behind(handle))
            arguments = (*arguments, *self._epitaph(kind, note))
        written = await self._client.write(
            scripts.END,
            keys,
            arguments,
            concern=concern,
            own_connection=own_connection,
        )
        if self._reports.is_there(handle, written.reply.state) and self._client.is_cluster:
            self._bury_soon(handle, kind, note)
        return written

    def delete_soon(self, handle: str) -> None:
        """Delete the hash without waiting for the reply (fire and forget)."""
        self._client.call_soon(scripts.END, (self._client.key(handle),), (self._idle_ms,))

    async def take_hash(
        self,
        handle: str,
        user_id: str,
        read: Sequence[Any] | None,
        concern: Durability | None,
    ) -> Written[Any]:
        """
        In a Cluster: take the session from its key.

        *user_id*: who logs in, or "". *read*: what reseal.lua compares; None: nothing is encrypted.
        """
        script: Script[Any] = scripts.TAKE_HASH if read is None else scripts.TAKE_HASH_SEALED
        arguments = (*(read or ()), self._idle_ms, user_id)
        taken = await self._client.write(
            script, (self._client.key(handle),), arguments, concern=concern
        )
        if taken.reply.state > 0:
            self._bury_soon(handle, "replaced")
        return taken

    def keys_to_move(self, handle: str, new_handle: str) -> tuple[bytes, ...]:
        """Return the keys of a script that gives a session another key."""
        keys = self._client.key(handle), self._client.key(new_handle)
        return (*keys, *self._left_behind(handle))

    async def put_back(self, handle: str, packed: bytes) -> None:
        """In a Cluster: put a session back that was taken, as if that had not happened."""
        await self._client.call(scripts.PUT_BACK, (self._client.key(handle),), (packed,))
        self.drop_soon(tombstone(self._client, handle))

    def sweep_soon(self, handle: str, names: Sequence[str]) -> None:
        """Remove fields whose TTL has ended, without waiting for the reply (fire and forget)."""
        self._client.call_soon(scripts.SWEEP, (self._client.key(handle),), (self._idle_ms, *names))

    # --- Keys ---

    def _bury_soon(self, handle: str, kind: AbsenceKind | None, note: str | None = None) -> None:
        """In a Cluster: leave a tombstone without waiting for the reply (fire and forget)."""
        if kind is not None:
            keys = self._left_behind(handle)
            self._client.call_soon(scripts.BURY, keys, self._epitaph(kind, note))

    def _left_behind(self, handle: str) -> tuple[bytes, ...]:
        """Return the keys for what its end leaves: its tombstone, and its channel if it has one."""
        left = tombstone(self._client, handle)
        return (left, channel(self._client, handle)) if self._pushes else (left,)

    def _epitaph(self, kind: AbsenceKind, note: str | None) -> tuple[Any, ...]:
        """What a tombstone says, and for how long."""
        lasts_ms = REPLACED_MS if kind == "replaced" else self.remember_ms
        return (kind, lasts_ms) if note is None else (kind, lasts_ms, note)

    # --- Arguments ---

    def field_args(
        self, seal: Seal | None, changes: Changes
    ) -> tuple[list[str | bytes], list[str]]:
        """
        Return names and values for HSET, and names for HDEL: the app's fields and their shadows.

        This is the one place where fields become what Redis stores of them.
        """
        changes = self._shadows.with_shadows(changes)
        if changes.ttls:
            changes = replace(changes, fields=as_stored(changes.fields, changes.ttls))
        if seal is not None:
            changes = replace(changes, fields=seal.closed(changes.fields))
        return changes.hset_args(), changes.hdel_args()

    def _described(self, changes: Changes) -> list[str | bytes]:
        """Names and values of a login's metadata: where it came from, and the shadows of that."""
        bound = () if changes.binding is None else ("@bind", changes.binding)
        login = changes.login
        if login is None:
            return [*bound]
        shadows = self._shadows.of_login(login.user_id, login.address)
        return [*login.described(), *bound, *shadows]
