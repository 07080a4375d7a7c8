"""The store: how an app configures its sessions."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack

from redis.asyncio import Redis, RedisCluster

from .arguments import refuse_no_bool, refuse_no_function, refuse_no_integer, refuse_other, shown
from .doctor import CheckReport, Finding, examine
from .engine.engine import Engine
from .engine.origin import RecordOrigin, checked
from .engine.sealing import Encryption, sealing_for
from .errors import SessionError
from .events import SessionEvent, Stats
from .options import Durability, Duration, Lifetime, Limits, milliseconds
from .outside_verbs import OutsideVerbs
from .search.fields import Field
from .search.index import Index
from .search.queries import Search
from .transport.background import has_loop
from .transport.tls import warn_once
from .transport.url import client_from_url
from .users import Users

__all__ = ["SessionStore", "StoreOptions", "engine_of"]

_PREFIX = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)*")
_MOST_SESSIONS = 2**31


class StoreOptions(TypedDict, total=False):
    """The options of `SessionStore`, as `SessionStore.from_url` takes them."""

    lifetime: Lifetime
    prefix: str
    secret: str | Sequence[str | None] | None
    max_sessions_per_user: int | None
    on_limit: Literal["evict", "reject"]
    index: Iterable[Field]
    durability: Durability | None
    end_durability: Durability | None
    limits: Limits
    timeout: Duration
    remember_ended: Duration
    on_event: Callable[[SessionEvent], None] | None
    insecure_tls: bool
    sharded: bool
    encryption: Encryption
    plain: Collection[str]
    record_origin: RecordOrigin
    remember_devices: Duration | None
    push: bool


class SessionStore(OutsideVerbs):
    """
    Sessions in one Redis, shared by all requests of a process.

    *redis*: a `redis.asyncio.Redis` (also from `Sentinel.master_for`) or `RedisCluster`. Only its
    address, credentials, TLS and RESP version are used. The store opens its own connections when
    they are first needed: one for each event loop, and for each node of a Cluster.
    *lifetime*: how long sessions live.
    *prefix*: the beginning of every key. Give each app that shares a Redis its own.
    *secret*: how ids become keys. None: by SHA-256. A str: by HMAC-SHA-256, so that somebody who
    can write to Redis can't plant a session under an id that they chose. A sequence, newest first,
    changes the secret: older ones (None may be one) are still accepted, and a session moves to the
    newest when it is renewed.
    *max_sessions_per_user*: how many sessions a user may have. *on_limit*: `"evict"` ends the
    oldest when another one logs in; `"reject"` lets `login` raise `SessionLimitReached`.
    *index*: the fields that `store.search` can query, as in `[Tag("tenant"), Num("total")]`. Only
    this needs Redis Search.
    *durability*: how far each write must have got before it counts as done. *end_durability*: the
    same for ending sessions, because an end that is lost is a session that comes back. None: in the
    memory of the server that answered.
    *limits*: how large a session may become.
    *timeout*: the longest that a request waits for Redis, in seconds or as a timedelta.
    *remember_ended*: for how long `session.absence` knows that a session was logged out, revoked or
    ended by the limit, in seconds or as a timedelta.
    *on_event*: called with each `SessionEvent`; it must not block.
    *insecure_tls*: say True where TLS can't check certificates or host names, and that is known:
    then it is no warning, and no problem in `check()`.
    *sharded*: whether one address leads to several servers that share the keys, as with some hosted
    services. If they say so (CROSSSLOT), the store notices by itself; `check(write=True)` finds
    those that don't.
    *encryption*: True encrypts values under keys that Redis never sees (the extra `encryption`);
    `"read"` and `"migrate"` are the steps on the way there (`docs/encryption.md`). *plain*: fields
    that are never encrypted, such as counters for `increment`.
    *record_origin*: whether a login records the client's address and user agent. A function takes
    both, and returns what is recorded instead, such as a prefix of the address
    (`docs/privacy.md`).
    *remember_devices*: for how long a user's kinds of device are remembered ("Firefox on Windows"),
    so that the event `new_device` reports a login from another one. None: they aren't, and there is
    no such event. Needs the extra `devices`; one command more at a login, which nothing waits for.
    *push*: whether Redis publishes the end of a session, so that `closing_when_revoked` and
    `ending_when_revoked` need not ask for it again and again. All processes need it that end
    sessions or wait for it, and more rights (`docs/deployment.md`).

    The constructor does not connect. Raises `ValueError` or `TypeError` for unusable arguments.
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
        timeout: Duration = 2.0,
        remember_ended: Duration = 60.0,
        on_event: Callable[[SessionEvent], None] | None = None,
        insecure_tls: bool = False,
        sharded: bool = False,
        encryption: Encryption = False,
        plain: Collection[str] = (),
        record_origin: RecordOrigin = True,
        remember_devices: Duration | None = None,
        push: bool = False,
    ) -> None:
        _refuse_no_redis(redis)
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"SessionStore(prefix={shown(prefix)}): use letters, digits, '_', '.', '-', and "
                "':' only between them, as in 'shop:session', and at most 200 characters."
            )
        refuse_other("SessionStore(lifetime)", lifetime, Lifetime, "a Lifetime")
        refuse_other("SessionStore(limits)", limits, Limits, "a Limits")
        refuse_other("SessionStore(index)", index, Iterable, "a list of Tag, Num and Text")
        _refuse_limit(max_sessions_per_user, on_limit)
        for name, concern in (("durability", durability), ("end_durability", end_durability)):
            refuse_other(f"{name}=", concern, Durability | None, "a Durability or None")
        if on_event is not None:
            refuse_no_function(
                "SessionStore(on_event)", on_event, "a function of the event, or None"
            )
        refuse_no_bool("SessionStore(insecure_tls)", insecure_tls)
        refuse_no_bool("SessionStore(sharded)", sharded)
        refuse_no_bool("SessionStore(push)", push)
        if not insecure_tls:
            warn_once(redis)
        devices = None
        if remember_devices is not None:
            devices = milliseconds("SessionStore(remember_devices)", remember_devices)
        declaration = Index(index)
        self._index = declaration
        self._owns_redis = False
        self._insecure_tls = insecure_tls
        self._engine = Engine(
            redis,
            lifetime=lifetime,
            prefix=prefix,
            secret=secret,
            max_sessions=max_sessions_per_user or 0,
            evicts=on_limit == "evict",
            shadows=declaration.shadows,
            durability=durability,
            end_durability=end_durability,
            limits=limits,
            timeout=milliseconds("SessionStore(timeout)", timeout) / 1000,
            remember_ms=milliseconds("SessionStore(remember_ended)", remember_ended),
            on_event=on_event,
            is_sharded=sharded,
            record_origin=checked(record_origin),
            devices_ms=devices,
            pushes=push,
            sealing=sealing_for(encryption, plain, declaration.shadows.sources),
        )
        #: The sessions of a user: listed, counted, ended.
        self.users = Users(self._engine)
        #: Queries across sessions.
        self.search = Search(self._engine, declaration)

    @classmethod
    def from_url(cls, url: str, **options: Unpack[StoreOptions]) -> Self:
        """
        Make a store with a client of its own, which `aclose()` closes.

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
        Wait for the commands that are under way, then close this event loop's connections.

        A client that was handed in stays open. The store can be used again: it reconnects.
        """
        if not has_loop():
            return
        await self._engine.aclose()
        if self._owns_redis:
            await self._engine.client.redis.aclose()

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered, also those sent soon."""
        if has_loop():
            await self._engine.drain()

    @property
    def stats(self) -> Stats:
        """The counters of this process, as they are now."""
        return self._engine.client.stats

    async def check(self, *, write: bool = False) -> CheckReport:
        """
        Check the deployment, for a start-up log, an alert, or `asgi-redis-session doctor`.

        It looks at version, persistence, eviction, replicas, permissions, Search and its index, the
        clock, Cluster and Sentinels, and the client that was handed in. It reads a sample of at
        most 100 sessions and 100 users' lists, to see whether another program writes to them. It
        takes at most *timeout* for each server, and raises nothing for what it finds.

        *write*: also write, read and end a session on each server, as a request does. It has no
        user, and lives for ten seconds at most. That finds full memory, or a write concern that is
        not reached.
        """
        refuse_no_bool("check(write)", write)
        report = await examine(
            self._engine,
            is_own=self._owns_redis,
            insecure_tls=self._insecure_tls,
            write=write,
        )
        if not self._index or any(finding.name == "reach" for finding in report.findings):
            return report
        return CheckReport(findings=(*report.findings, await _check_index(self.search)))

    @property
    def lifetime(self) -> Lifetime:
        """How long sessions live."""
        return self._engine.lifetime

    @property
    def prefix(self) -> str:
        """The beginning of every key."""
        return self._engine.client.prefix

    @property
    def limits(self) -> Limits:
        """How large a session may become."""
        return self._engine.limits

    @property
    def durability(self) -> Durability | None:
        """How far each write must have got."""
        return self._engine.durability

    @property
    def end_durability(self) -> Durability | None:
        """How far the end of a session must have got."""
        return self._engine.end_durability


def engine_of(store: SessionStore) -> Engine:
    """Return what the library itself works with. For this library only."""
    return store._engine  # noqa: SLF001


def _refuse_limit(most: int | None, on_limit: str) -> None:
    if most is not None:
        refuse_no_integer("SessionStore(max_sessions_per_user)", most, 1, _MOST_SESSIONS)
    if not isinstance(on_limit, str) or on_limit not in ("evict", "reject"):
        raise ValueError(f"SessionStore(on_limit={shown(on_limit)}): use 'evict' or 'reject'.")


def _refuse_no_redis(redis: object) -> None:
    if type(redis).__module__.partition(".")[0] == "fakeredis":
        raise TypeError(
            "SessionStore needs a real Redis: fakeredis has none of the connections that it "
            "uses. For tests, asgi_redis_session.testing starts a private server in 50 ms: "
            'pytest_plugins = ["asgi_redis_session.testing"].'
        )
    if not isinstance(redis, Redis | RedisCluster):
        raise TypeError(
            f"SessionStore needs a redis.asyncio.Redis, not {type(redis).__module__}."
            f"{type(redis).__qualname__}. Use SessionStore.from_url(...), or pass a "
            "redis.asyncio client of a single server, of Sentinel or of a Cluster."
        )


async def _check_index(search: Search) -> Finding:
    try:
        status = await search.status()
    except SessionError as error:
        return Finding(name="index", level="problem", message=str(error))
    if status.trouble is not None:
        return Finding(name="index", level="problem", message=status.trouble)
    return Finding(name="index", level="ok", message=f"{status.documents} sessions are indexed.")
