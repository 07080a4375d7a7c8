"""
The store: every command on a session's hash is in this file or in `lua/`.

A session's secret id is turned into its *handle* (SHA-256 or HMAC-SHA-256, first 128 bits) here,
and only handles go any further. Each verb is one script, hence one atomic step and one round trip.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from redis.asyncio import Redis, RedisCluster

from .doctor import CheckReport, Finding, examine
from .engine.codec import CorruptValue, decode
from .engine.record import (
    Changes,
    Login,
    Record,
    instant,
    is_handle,
)
from .engine.wire import Wire, script_of
from .errors import SessionError, SessionUnavailable, SessionValueError
from .events import SessionEvent, Stats
from .info import SessionInfo, label_of
from .options import Durability, Lifetime, Limits, Promise, milliseconds
from .search.fields import EXACT, Field, Index, Num, Tag
from .search.queries import Search
from .session import Origin
from .transport.scripts import PreparedScript, Script
from .transport.url import client_from_url
from .users import Users

__all__ = ["SessionStore"]

logger = logging.getLogger("asgi_redis_session")

#: The states that a script answers instead of an instant; see `lua/prelude.lua`.
_GONE, _CORRUPT, _TAKEN, _FULL, _CHANGED = 0, -1, -2, -4, -5
_UNREADABLE = "wrong type, or not of a version that this library reads"
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)*")
_SECRET_LENGTH = 16
#: What `peek` reads of a session beside the fields that it is asked for.
_DESCRIPTION = ("@v", "@created", "@deadline", "@user", "@auth", "@idle", "@agent", "@ip", "@seen")
_AGENT_LENGTH = 512
#: What a login leaves behind of where it came from, and the next one replaces.
_OF_THE_ORIGIN = ("@agent", "@ip", Tag("@ip").shadow)


_T = TypeVar("_T")
#: What an `async def` gives; passed on by a plain `def`, it costs a request one frame less.
Reply = Coroutine[Any, Any, _T]

SCRIPTS = tuple(
    script_of("prelude", name)
    for name in ("load", "save", "create", "increment", "login", "end", "shade")
)
_LOAD, _SAVE, _CREATE, _INCREMENT, _LOGIN, _END, _SHADE = SCRIPTS

#: In a Cluster, a move to another key is two scripts: it is taken from the old one, and put under
#: the new one as what it becomes there.
CLUSTER_SCRIPTS = (
    script_of("prelude", "take"),
    script_of("prelude", "restore", "save"),
    script_of("prelude", "restore", "login"),
    script_of("prelude", "restore", "restored"),
)
_TAKE, *_RESTORING, _PUT_BACK = CLUSTER_SCRIPTS
_RESTORED = dict(zip((_SAVE, _LOGIN), _RESTORING, strict=True))


class SessionStore:
    """
    Sessions in one Redis, shared by all requests of a process.

    *redis*: a `redis.asyncio.Redis` (also from `Sentinel.master_for`) or `RedisCluster`. Only its
    address, credentials, TLS and RESP version are used; the store opens its own connection, one for
    each event loop (and each node of a Cluster), when it is first needed.
    *lifetime*: how long sessions live. *prefix*: the beginning of every key; give each app that
    shares a Redis its own.
    *secret*: None, keys are SHA-256 of the ids; a str, they are HMAC-SHA-256, so that
    somebody who can write to Redis can't make a session for an id that they chose; a sequence,
    newest first, to change the secret: older ones (None may be one) are still accepted, and a
    session takes the newest when it is renewed.
    *max_sessions_per_user*: how many sessions a user may have; *on_limit*: `"evict"` ends the
    oldest when another one logs in, `"reject"` raises `SessionLimitReached` out of `login`.
    *durability*: how far each write must have got before it counts as done; *end_durability*: the
    same for ending sessions, since a lost end is a session that comes back. None: in the memory of
    the server that answered.
    *index*: the fields that `store.search` can ask for, as in `[Tag("tenant"), Num("total")]`; it
    needs Redis Search, and all else works without.
    *timeout*: the longest a request waits for Redis, in seconds or as a timedelta.
    *on_event*: called with each `SessionEvent`; must not block.

    Raises `ValueError` or `TypeError` for unusable arguments; never connects by itself.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        lifetime: Lifetime = Lifetime(),  # noqa: B008  (frozen)
        prefix: str = "session",
        secret: str | Sequence[str | None] | None = None,
        max_sessions_per_user: int | None = None,
        on_limit: Literal["evict", "reject"] = "evict",
        index: Iterable[Field] = (),
        durability: Durability | None = None,
        end_durability: Durability | None = None,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        timeout: Any = 2.0,
        on_event: Callable[[SessionEvent], None] | None = None,
    ) -> None:
        if not isinstance(redis, Redis | RedisCluster):
            raise TypeError(
                f"SessionStore needs a redis.asyncio.Redis, not {type(redis).__module__}."
                f"{type(redis).__qualname__}. Use SessionStore.from_url(...), or pass a "
                "redis.asyncio client of a single server, of Sentinel or of a Cluster."
            )
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"SessionStore(prefix={prefix!r}): use letters, digits, '_', '.', '-', and ':' "
                "only between them, as in 'shop:session'."
            )
        _refuse_limit(max_sessions_per_user, on_limit)
        _refuse_level("durability", durability)
        _refuse_level("end_durability", end_durability)
        self.lifetime = lifetime
        idle = b"%d" % lifetime.idle_ms
        self._spans = {True: (idle, b"%d" % lifetime.refresh_after_ms), False: (idle, b"-1")}
        self.limits = limits
        self.durability = durability
        self.end_durability = end_durability
        self.index = Index(index)
        self.prefix = prefix
        self._secrets = _keys_of(secret)
        seconds = milliseconds("SessionStore(timeout)", timeout) / 1000
        self._wire = Wire(redis, prefix=prefix, timeout=seconds, on_event=on_event)
        self._counted = self._wire.counted
        self._prepared = self._prepare()
        self.users = Users(self._wire, self, limit=max_sessions_per_user, evict=on_limit == "evict")
        self.search = Search(self._wire, self, self.index)
        self._owns_redis = False

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """
        A store with a client of its own, closed by `aclose()`.

        *url*: `redis://[user:password@]host:port/database`, `rediss://…` for TLS, `unix:///path`,
        `redis+cluster://host:port,host:port`, `redis+sentinel://host:port,host:port/service/database`
        (`docs/deployment.md` has all of it). *options* are those of the constructor. Raises
        `ValueError` for a URL that describes no Redis.
        """
        store = cls(client_from_url(url), **options)
        store._owns_redis = True
        return store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Wait for what is on its way, then close this event loop's connection.

        A client that was handed in stays open. The store can be used again: it reconnects.
        """
        await self.users.drain()
        await self._wire.aclose()
        if self._owns_redis:
            await self._wire.redis.aclose()

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered, refreshes included."""
        await self.users.drain()
        await self._wire.drain()

    async def check(self) -> CheckReport:
        """
        Look at the deployment: version, persistence, eviction, replicas, permissions, Search and
        its index, clock, Cluster and Sentinels, and the client that was handed in.

        For a start-up log, an alert, or `asgi-redis-session doctor`. Takes as long as *timeout* at
        the most for each server, and raises nothing for what it finds.
        """
        levels = (self.durability, self.end_durability)
        report = await examine(self._wire, levels, is_own=self._owns_redis)
        if not self.index or any(finding.name == "reach" for finding in report.findings):
            return report
        return CheckReport(findings=(*report.findings, await self._check_index()))

    async def _check_index(self) -> Finding:
        try:
            status = await self.search.status()
        except SessionError as error:
            return Finding(name="index", level="problem", message=str(error))
        if status.trouble is not None:
            return Finding(name="index", level="problem", message=status.trouble)
        return Finding(
            name="index", level="ok", message=f"{status.documents} sessions are indexed."
        )

    @property
    def stats(self) -> Stats:
        """Counters of this process, as they stand now."""
        return self._wire.stats

    # --- Sessions seen from outside ---

    async def get(self, handle: str) -> SessionInfo | None:
        """
        The session of this handle, with its fields; None if there is none.

        Does not count as use: its TTL stays as it is. Raises `SessionUnavailable`.
        """
        if not is_handle(handle):
            return None
        return await self.peek(handle)

    async def revoke(self, handle: str) -> bool:
        """
        End the session of this handle; whether there was one.

        Raises `SessionUnavailable`, and `DurabilityNotReached` if it has ended, but may come back.
        """
        promise = Promise(self.end_durability)
        ended = is_handle(handle) and await self.end((handle,), promise)
        if promise.shortfall is not None:
            raise promise.shortfall
        return ended

    # --- Verbs of a session (see `session.Store`) ---

    def handles(self, session_id: str) -> tuple[str, ...]:
        """The names under which the hash of this id may be stored, newest secret first."""
        if len(self._secrets) == 1:
            return (_digest(self._secrets[0], session_id),)
        return tuple([_digest(secret, session_id) for secret in self._secrets])

    async def load(self, handles: tuple[str, ...], *, slide: bool) -> Record | None:
        """Read the whole hash and slide its TTL, in one script."""
        self._counted.loads += 1
        script = self._prepared["all", slide]
        if len(handles) == 1:  # nearly always, so spare the ways over `_find` and `_ask`
            handle = handles[0]
            reply = await self._wire.ask(script, (self._wire.key(handle),), idempotent=True)
        else:
            handle, reply = await self._find(handles, script)
        if reply[1] <= 0:
            self._tell_absent(handle, reply[1])
            return None
        return self._record(handle, reply, reply[3])

    async def fetch(
        self, handles: tuple[str, ...], names: tuple[str, ...], *, slide: bool
    ) -> dict[str, Any] | None:
        """Read named fields and slide the TTL, in one script."""
        script, arguments = self._picking(names, slide=slide)
        handle, reply = await self._find(handles, script, arguments)
        if reply[1] <= 0:
            self._tell_absent(handle, reply[1])
            return None
        try:
            return {
                name: decode(raw)
                for name, raw in zip(names, reply[3], strict=True)
                if raw is not None
            }
        except CorruptValue as error:
            self._corrupt(handle, str(error))
            return None

    async def exists(self, handles: tuple[str, ...]) -> bool:
        """Whether the hash is there and not past its deadline."""
        handle, reply = await self._find(handles, self._prepared["none", False])
        return self._lives(handle, reply[1], reports_gone=False)

    def refresh(self, handles: tuple[str, ...]) -> None:
        """Slide the TTL without waiting. Dropped when very many commands are queued already."""
        for handle in handles:
            if self._wire.post(self._prepared["none", True], (self._wire.key(handle),)):
                self._counted.refreshes += 1
            else:
                self._counted.refreshes_dropped += 1

    async def increment(
        self,
        handles: tuple[str, ...],
        name: str,
        amount: int,
        promise: Promise,
        *,
        slide: bool,
    ) -> int | None:
        """HINCRBY, if the hash exists."""
        field = self.index.checked.get(name)
        if field is not None:
            field.check(amount)
        shadow = "" if field is None else field.shadow
        highest = EXACT if isinstance(field, Num) else ""
        bounds = (self.limits.fields, shadow, highest)
        arguments = (self.lifetime.idle_ms, int(slide), name, amount, *bounds)
        for handle in handles:
            reply = await self._ask(_INCREMENT, (handle,), arguments, promise=promise)
            if reply[1] == _FULL:
                raise SessionValueError(
                    f"session[{name!r}]: a session holds at most {self.limits.fields} fields. "
                    "Group values in a dict, or raise Limits(fields=...)."
                )
            if self._lives(handle, reply[1], reports_gone=False):
                *_, digits = reply
                if not isinstance(digits, bytes):
                    raise SessionValueError(
                        f"session[{name!r}] can't be incremented: it holds no 64-bit integer, or "
                        "the sum would not fit one (2^53 in a field that is indexed as a Num)."
                    )
                return int(digits)
        return None

    async def create(self, changes: Changes) -> tuple[str, Record]:
        """Make a hash under a new id; a draw that is taken is drawn again."""
        while True:
            session_id, handle = self._new_id()
            record = await self._create(handle, changes, changes.lifetime or self.lifetime)
            if record is not None:
                self._wire.emit("created", handle)
                return session_id, record

    async def save(self, record: Record, changes: Changes, *, slide: bool) -> Record | None:
        """HSET, HDEL and TTL in one script, if the hash still exists."""
        arguments = self._save_arguments(record, changes, slide=slide)
        keys = (self._wire.key(record.handle),)
        reply = await self._wire.ask(_SAVE, keys, arguments, promise=changes.promise)
        if not self._lives(record.handle, reply[1], reports_gone=True):
            return None
        self._counted.commits += 1
        return self._saved(record, reply, changes)

    async def renew(
        self, record: Record, changes: Changes, *, slide: bool
    ) -> tuple[str, Record] | None:
        """As `save`, and to the key of a new id (on one node: in the same script)."""
        arguments = self._save_arguments(record, changes, slide=slide)
        since = None
        while True:
            session_id, handle = self._new_id()
            if record.user_id is not None:
                since = await self.users.move(record, handle, _lifetime_ms(record))
            reply = await self._move(_SAVE, record, handle, arguments, changes)
            if reply[1] != _TAKEN:
                break
        if not self._lives(record.handle, reply[1], reports_gone=True):
            if record.user_id is not None:
                await self.users.release(record.user_id, handle)
            return None
        old, record.handle = record.handle, handle
        if record.user_id is not None and not await self._keep_place(record, changes, old, since):
            return None
        self._counted.commits += 1
        self._wire.emit("renewed", handle)
        return session_id, self._saved(record, reply, changes)

    async def take_place(
        self,
        user_id: str,
        origin: Origin,
        lifetime: Lifetime | None,
        replaced: Sequence[str],
        *,
        keeps: bool,
    ) -> Login:
        """The first step of a login: a place in the user's index, for a new id."""
        lifetime = lifetime or self.lifetime
        session_id, handle = self._new_id()
        now_ms = await self.users.take(user_id, handle, replaced, lifetime.absolute_ms)
        address, agent = _describe(origin)
        return Login(
            user_id=user_id,
            session_id=session_id,
            handle=handle,
            now_ms=now_ms,
            lifetime=lifetime,
            agent=agent,
            address=address,
            keeps=keeps,
        )

    def give_back(self, login: Login) -> None:
        """The login will not happen: its place, and whatever a lost commit may have written, go."""
        self._wire.post(_END, [self._wire.key(login.handle)], [self.lifetime.idle_ms])
        self.users.release_later(login.user_id, login.handle)

    async def login(self, record: Record | None, changes: Changes, login: Login) -> Record | None:
        """
        The second step of a login: the hash, then the question whether its place is still held.
        None if it was revoked meanwhile, or if the session that was to be kept has ended.
        """
        lifetime = changes.lifetime or login.lifetime
        if record is None or not login.keeps:
            saved = await self._create(login.handle, changes, lifetime)
        else:
            saved = await self._login(record, changes, login, lifetime)
        if saved is None:
            # An earlier try of this login may have written its hash and not have heard of it.
            await self._end(login.handle)
            await self.users.release(login.user_id, login.handle)
            self._tell_gone(login.handle)
            return None
        listed = record is not None and login.keeps and record.user_id is not None
        replaced = record.handle if record and listed else None
        if not await self._keep_place(saved, changes, replaced):
            return None
        if record is not None and not login.keeps:
            await self.end((record.handle,), changes.promise)
        self._wire.emit("logged_in", login.handle)
        return saved

    async def end(
        self, handles: tuple[str, ...], promise: Promise | None = None, *, side: bool = False
    ) -> bool:
        """Delete the hash, then give its place back; whether it existed."""
        for handle in handles:
            user_id = await self._end(handle, promise, side=side)
            if user_id is not None:
                # One that may come back stays listed, so that `revoke_all` would find it.
                if user_id and (promise is None or promise.shortfall is None):
                    await self.users.release(user_id, handle, side=side)
                return True
        return False

    # --- What a user's index and a search ask (see `users.Sessions`, `search.Sessions`) ---

    async def peek(self, handle: str, names: Sequence[str] | None = None) -> SessionInfo | None:
        """A session without using it, with all of its fields or with those of these names."""
        if names is None:
            reply = await self._ask(
                self._prepared["all", False], (handle,), idempotent=True, side=True
            )
        else:
            names = (*_DESCRIPTION, *names)
            script, arguments = self._picking(names, slide=False)
            reply = await self._ask(script, (handle,), arguments, idempotent=True, side=True)
        if not self._lives(handle, reply[1], reports_gone=False):
            return None
        record = self._record(handle, reply, reply[3] if names is None else _pairs(names, reply[3]))
        return None if record is None else self._info(record)

    async def shade(self, handle: str) -> bool:
        """Write the shadows that a session lacks; whether it lacked any."""
        sources, names = self.index.sources, [*self.index.sources, *self.index.shadows]
        script, arguments = self._picking(names, slide=False)
        while True:
            reply = await self._ask(script, (handle,), arguments, idempotent=True, side=True)
            if reply[1] <= 0:
                return False
            held = dict(zip(names, reply[3], strict=True))
            wanted = self.index.cast_all(held)
            wrong = Changes({name: raw for name, raw in wanted.items() if raw != held[name]})
            if not wrong:
                return False
            pairs = wrong.sets()
            seen = [part for n in sources for part in (n, int(held[n] is not None), held[n] or "")]
            written = [len(sources), *seen, len(pairs), *pairs, *wrong.removes()]
            reply = await self._ask(_SHADE, (handle,), [self.lifetime.idle_ms, *written], side=True)
            if reply[1] != _CHANGED:  # else somebody has written meanwhile: look again
                return bool(reply[1] > 0)

    async def is_alive(self, handle: str) -> bool:
        """Whether there is anything under its key that is not past its deadline."""
        script = self._prepared["none", False]
        reply = await self._ask(script, (handle,), idempotent=True, side=True)
        return bool(reply[1] != _GONE)

    async def delete(self, handle: str, promise: Promise) -> bool:
        """Delete the hash, without regard to the index; whether it existed."""
        return await self._end(handle, promise, side=True) is not None

    # --- What scripts are sent and answer ---

    def _record(self, handle: str, reply: list[Any], pairs: Sequence[bytes]) -> Record | None:
        try:
            return Record(handle, reply[1], reply[2], pairs)
        except CorruptValue as error:
            self._corrupt(handle, str(error))
            return None

    def _prepare(self) -> dict[tuple[str, bool], PreparedScript[list[Any]]]:
        """Loads of all fields and of none, with the slide and without."""
        return {
            (what, slide): _LOAD.prepare(*self._spans[slide], what)
            for what in ("all", "none")
            for slide in (True, False)
        }

    def _picking(
        self, names: Sequence[str], *, slide: bool
    ) -> tuple[Script[list[Any]], Sequence[Any]]:
        """The load of these fields."""
        if not names:
            return self._prepared["none", slide], ()
        return _LOAD, (*self._spans[slide], "some", *names)

    def _save_arguments(self, record: Record, changes: Changes, *, slide: bool) -> list[Any]:
        changes = self.index.cover(changes)
        lifetime, pairs = changes.lifetime, changes.sets()
        idle: int | str = ""
        deadline: int | str = ""
        if lifetime is not None:
            idle = lifetime.idle_ms
            if lifetime.absolute_ms is not None:
                deadline = record.created_ms + lifetime.absolute_ms
        fixed = [self.lifetime.idle_ms, int(slide), idle, deadline, len(pairs)]
        return [*fixed, *pairs, *changes.removes()]

    def _span(self, lifetime: Lifetime) -> tuple[int, int | str, int]:
        """A lifetime as scripts take it: idle, absolute or "", whether the idle has to be kept."""
        absolute = "" if lifetime.absolute_ms is None else lifetime.absolute_ms
        return lifetime.idle_ms, absolute, int(lifetime.idle_ms != self.lifetime.idle_ms)

    async def _create(self, handle: str, changes: Changes, lifetime: Lifetime) -> Record | None:
        """Make the hash of an anonymous session, or of a login; None if the handle is taken."""
        changes, login = self.index.cover(changes), changes.login
        reply = await self._ask(
            _CREATE,
            (handle,),
            [
                *self._span(lifetime),
                *("" if login is None else login.user_id, *_described(login)),
                *(*self.index.about(login), *changes.sets()),
            ],
            promise=changes.promise,
        )
        if reply[1] == _TAKEN:
            return None
        self._counted.commits += 1
        return self._begun(handle, reply, lifetime, login)

    async def _login(
        self, record: Record, changes: Changes, login: Login, lifetime: Lifetime
    ) -> Record | None:
        """Move the hash to the login's key, with a new beginning; None if it has ended."""
        changes = self.index.cover(changes)
        described = [*_described(login), *self.index.about(login)]
        pairs = [*described, *changes.sets()]
        undescribed = [name for name in _OF_THE_ORIGIN if name not in described[::2]]
        reply = await self._move(
            _LOGIN,
            record,
            login.handle,
            [
                *(self.lifetime.idle_ms, *self._span(lifetime)),
                *(login.user_id, len(pairs), *pairs, *changes.removes(), *undescribed),
            ],
            changes,
        )
        if reply[1] <= 0:
            return None
        self._counted.commits += 1
        return self._begun(login.handle, reply, lifetime, login)

    async def _move(
        self,
        script: Script[list[Any]],
        record: Record,
        handle: str,
        arguments: Sequence[Any],
        changes: Changes,
    ) -> list[Any]:
        """Change a session and give it another key: one step on one node, two in a Cluster."""
        promise = changes.promise
        if not self._wire.is_cluster:
            return await self._ask(script, (record.handle, handle), arguments, promise=promise)
        user_id = "" if changes.login is None else changes.login.user_id
        taken = await self._ask(
            _TAKE, (record.handle,), (self.lifetime.idle_ms, user_id), promise=promise
        )
        if taken[1] <= 0:
            return taken
        try:
            return await self._ask(
                _RESTORED[script], (handle,), (taken[3], *arguments), promise=promise
            )
        except SessionUnavailable as error:
            if error.is_refusal and record.user_id is None:
                # The other node is full, say. Nobody's cart is lost for that; but a user's session
                # may have been revoked meanwhile, and must not come back.
                await self._ask(_PUT_BACK, (record.handle,), (taken[3],))
            raise

    async def _keep_place(
        self,
        record: Record,
        changes: Changes,
        replaced: str | None,
        since: int | None = None,
    ) -> bool:
        """Confirm the place of a hash that was just written; else the hash has to go again."""
        user_id, handle = record.user_id or "", record.handle
        lifetime_ms = _lifetime_ms(record)
        if not await self.users.confirm(user_id, handle, since, lifetime_ms, changes.promise):
            await self._end(handle)
            self._tell_gone(handle)
            return False
        if replaced is not None:
            await self.users.release(user_id, replaced)
        return True

    async def _end(
        self, handle: str, promise: Promise | None = None, *, side: bool = False
    ) -> str | None:
        """Delete the hash; its user ("" for nobody), or None if there was no such session."""
        arguments = [self.lifetime.idle_ms]
        reply = await self._ask(_END, (handle,), arguments, side=side, promise=promise)
        if not self._lives(handle, reply[1], reports_gone=False):
            return None
        self._wire.emit("ended", handle)
        return (reply[2] or b"").decode(errors="replace")

    def _begun(
        self, handle: str, reply: list[Any], lifetime: Lifetime, login: Login | None
    ) -> Record:
        """The record of a session that has just begun."""
        _, expires, now = reply
        pairs = [b"@v", b"1", b"@created", b"%d" % now]
        if lifetime.absolute_ms is not None:
            pairs += (b"@deadline", b"%d" % (now + lifetime.absolute_ms))
        if lifetime.idle_ms != self.lifetime.idle_ms:
            pairs += (b"@idle", b"%d" % lifetime.idle_ms)
        if login is not None:
            pairs += (b"@user", login.user_id.encode(), b"@auth", b"%d" % now)
        return Record(handle, expires, now, pairs)

    def _saved(self, record: Record, reply: list[Any], changes: Changes) -> Record:
        _, record.expires_ms, record.now_ms, idle_ms, deadline_ms = reply
        if changes.lifetime is not None:  # what holds may be shorter still, by another request
            record.shorten(idle_ms, deadline_ms or None)
        return record

    def _info(self, record: Record) -> SessionInfo:
        idle_ms = record.idle_ms or self.lifetime.idle_ms
        last_seen = record.expires_ms - idle_ms
        if record.expires_ms == record.deadline_ms:  # capped: the TTL does not tell
            last_seen = max(last_seen, record.seen_ms or 0)
        agent = record.text(b"@agent")
        return SessionInfo(
            handle=record.handle,
            user_id=record.user_id,
            created_at=instant(record.created_ms),
            last_seen=instant(max(last_seen, record.created_ms)),
            expires_at=instant(record.expires_ms),
            authenticated_at=None if record.auth_ms is None else instant(record.auth_ms),
            address=record.text(b"@ip"),
            user_agent=agent,
            label=None if agent is None else label_of(agent),
            fields=record.values,
        )

    # --- Sending ---

    def _ask(
        self,
        script: Script[list[Any]],
        handles: tuple[str, ...],
        arguments: Sequence[Any] = (),
        *,
        idempotent: bool = False,
        side: bool = False,
        promise: Promise | None = None,
    ) -> Reply[list[Any]]:
        key = self._wire.key
        keys = (key(handles[0]),) if len(handles) == 1 else [key(handle) for handle in handles]
        return self._wire.ask(
            script, keys, arguments, idempotent=idempotent, side=side, promise=promise
        )

    def _new_id(self) -> tuple[str, str]:
        session_id = secrets.token_urlsafe(32)
        return session_id, _digest(self._secrets[0], session_id)

    async def _find(
        self, handles: tuple[str, ...], script: Script[list[Any]], arguments: Sequence[Any] = ()
    ) -> tuple[str, list[Any]]:
        """Ask for a session under each name that it may have: the name and reply that count."""
        if len(handles) == 1:
            return handles[0], await self._ask(script, handles, arguments, idempotent=True)
        replies = await self._find_any(handles, script, arguments)
        # What is there, else what can't be read, else the newest name.
        return min(replies, key=lambda found: (found[1][1] <= 0, found[1][1] != _CORRUPT))

    async def _find_any(
        self, handles: tuple[str, ...], script: Script[list[Any]], arguments: Sequence[Any]
    ) -> list[tuple[str, list[Any]]]:
        """
        Ask for all at once. What is found need not wait for the others, which may be on another
        node of a Cluster.
        """
        asked = {
            asyncio.create_task(self._ask(script, (handle,), arguments, idempotent=True)): handle
            for handle in handles
        }
        try:
            waiting = set(asked)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                answered = [(asked[one], one.result()) for one in done if one.exception() is None]
                if found := [(handle, reply) for handle, reply in answered if reply[1] > 0]:
                    return found
            return [(handle, one.result()) for one, handle in asked.items()]
        finally:
            for one in asked:
                one.cancel()

    # --- Telling ---

    def _tell_absent(self, handle: str, state: int) -> None:
        """A browser's id leads to no session, which is worth an event."""
        if state == _CORRUPT:
            self._corrupt(handle, _UNREADABLE)
        else:
            self._wire.emit("unknown_id", handle)

    def _tell_gone(self, handle: str) -> None:
        self._counted.gone += 1
        self._wire.emit("gone", handle)

    def _lives(self, handle: str, state: int, *, reports_gone: bool) -> bool:
        if state == _CORRUPT:
            self._corrupt(handle, _UNREADABLE)
        elif state == _GONE and reports_gone:
            self._tell_gone(handle)
        return state > 0

    def _corrupt(self, handle: str, reason: str) -> None:
        logger.error(
            "Session %s can't be read (%s). It is left as it is and treated as absent; inspect it "
            "with `redis-cli HGETALL %s`, or delete it.",
            handle,
            reason,
            f"{self.prefix}:{handle}",
        )
        self._wire.emit("corrupt", handle, reason)

    def emit_conflict(self) -> None:
        """Report a request with two different session cookies."""
        self._wire.emit("conflict")


def _pairs(names: Sequence[str], raws: Sequence[bytes | None]) -> list[bytes]:
    """What HMGET answers, in the form of HGETALL."""
    pairs = zip(names, raws, strict=True)
    return [part for name, raw in pairs if raw is not None for part in (name.encode(), raw)]


def _refuse_limit(most: int | None, on_limit: str) -> None:
    if most is not None and (type(most) is not int or most < 1):
        raise ValueError(
            f"SessionStore(max_sessions_per_user={most!r}): give an integer of at least 1, or None."
        )
    if on_limit not in ("evict", "reject"):
        raise ValueError(f"SessionStore(on_limit={on_limit!r}): use 'evict' or 'reject'.")


def _refuse_level(name: str, level: object) -> None:
    if not isinstance(level, Durability | None):
        raise TypeError(f"{name}= takes a Durability or None, not {type(level).__name__}.")


def _lifetime_ms(record: Record) -> int | None:
    return None if record.deadline_ms is None else max(1, record.deadline_ms - record.now_ms)


def _describe(origin: Origin) -> tuple[str | None, str | None]:
    """The client's address and user agent, as the ASGI server reports them."""
    client, headers = origin
    agent = next((value for name, value in headers if name == b"user-agent"), None)
    return (
        client[0] if client else None,
        None if agent is None else agent[:_AGENT_LENGTH].decode("latin-1"),
    )


def _described(login: Login | None) -> list[str]:
    if login is None:
        return []
    pairs = (("@agent", login.agent), ("@ip", login.address))
    return [part for name, value in pairs if value is not None for part in (name, value)]


def _keys_of(secret: str | Sequence[str | None] | None) -> tuple[bytes | None, ...]:
    candidates = [secret] if secret is None or isinstance(secret, str) else list(secret)
    if not candidates or len(set(candidates)) < len(candidates):
        raise ValueError("SessionStore(secret=[...]) needs one or more different secrets.")
    for candidate in candidates:
        if candidate is not None and (
            not isinstance(candidate, str) or len(candidate) < _SECRET_LENGTH
        ):
            raise ValueError(
                "SessionStore(secret=...): a secret is a str of at least "
                f"{_SECRET_LENGTH} characters; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
            )
    return tuple(None if candidate is None else candidate.encode() for candidate in candidates)


def _digest(secret: bytes | None, session_id: str) -> str:
    raw = session_id.encode()
    if secret is None:
        return hashlib.sha256(raw).hexdigest()[:32]
    return hmac.digest(secret, raw, "sha256").hex()[:32]
