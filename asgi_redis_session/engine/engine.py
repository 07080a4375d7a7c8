"""What all sessions of a store share."""

from collections.abc import Callable, Sequence

from redis.asyncio import Redis, RedisCluster

from ..events import Events, SessionEvent
from ..options import Durability, Lifetime, Limits
from ..transport.background import Background
from ..transport.client import Client
from .codec import StoredHash
from .devices import Devices, refuse_useless
from .fields import Fields
from .hashes import Hashes
from .ids import SessionIds
from .loads import Loads
from .origin import RecordOrigin
from .outside import Outside
from .places import Places
from .prefetch import Prefetch
from .providers import Providers
from .reader import Reader
from .record import Span
from .reports import Reports
from .sealing import Seal, Sealing
from .settling import Settling
from .shadows import Shadows
from .watches import Watches


class Engine:
    """
    The configuration of a store, and the objects that send its commands.

    *max_sessions* 0: a user may have any number. *evicts*: whether a login at that limit ends the
    oldest session, or is refused. *is_sharded*: as for `Client`. *pushes*: whether ends are
    published, and listened to.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        lifetime: Lifetime,
        prefix: str,
        secret: str | Sequence[str | None] | None,
        max_sessions: int,
        evicts: bool,
        shadows: Shadows,
        durability: Durability | None,
        end_durability: Durability | None,
        limits: Limits,
        timeout: float,
        remember_ms: int,
        on_event: Callable[[SessionEvent], None] | None,
        sealing: Sealing | None = None,
        is_sharded: bool = False,
        record_origin: RecordOrigin = True,
        devices_ms: int | None = None,
        pushes: bool = False,
    ) -> None:
        self.lifetime = lifetime
        self.span = Span(lifetime.idle_ms, lifetime.absolute_ms)
        self.limits = limits
        self.durability = durability
        self.end_durability = end_durability
        self.max_sessions = max_sessions
        self.evicts = evicts
        self.shadows = shadows
        self.sealing = sealing
        self.record_origin = record_origin
        #: The fields of all sessions that are not loaded. They are never changed.
        self.no_fields = Fields(limits, shadows.checks, StoredHash())
        self.ids = SessionIds(secret)
        self._may_prefetch = True
        self.events = Events(on_event)
        self.background = Background()
        self.client = Client(
            redis, prefix=prefix, timeout=timeout, events=self.events, is_sharded=is_sharded
        )
        self.reports = Reports(self.events, prefix)
        self._loads = loads = Loads(lifetime)
        idle_ms = lifetime.idle_ms
        settling = None
        if sealing is not None:
            settling = Settling(self.client, self.events, sealing, shadows, idle_ms)
        self.reader = Reader(self.client, self.events, self.reports, loads, settling)
        self.hashes = Hashes(
            self.client,
            self.events,
            self.reports,
            idle_ms=idle_ms,
            limits=limits,
            shadows=shadows,
            remember_ms=remember_ms,
            pushes=pushes,
        )
        self.watches = Watches(self.client, idle_ms=idle_ms, pushes=pushes)
        self.outside = Outside(
            self.client,
            self.reports,
            loads,
            shadows,
            idle_ms=idle_ms,
            field_bytes=limits.field_bytes,
        )
        self.places = Places(self.client, self.reports)
        self.providers = Providers(self.client)
        refuse_useless(devices_ms, record_origin)
        self.devices = Devices(self.client, self.events, devices_ms)

    def prefetch(self) -> Prefetch | None:
        """Return what reads sessions ahead for one middleware; None if nothing does."""
        # To read a session within `refresh_after` is to extend its TTL, which only a load may do.
        extends_itself = self.lifetime.refresh_after_ms > 0
        is_possible = self._may_prefetch and self.ids.has_one_secret and not extends_itself
        return Prefetch(self.client, self._loads) if is_possible else None

    def never_prefetch(self) -> None:
        """Read no session ahead, for middleware that is made from now on."""
        self._may_prefetch = False

    def seal(self, session_id: str, handle: str) -> Seal | None:
        """Return what a session's values are encrypted with; None: they are not."""
        return None if self.sealing is None else self.sealing.of(session_id, handle)

    async def drain(self) -> None:
        """Wait until every command of this event loop has been answered."""
        await self.background.drain()
        await self.client.drain()

    async def aclose(self) -> None:
        """Wait for that, then close this event loop's connections."""
        await self.watches.aclose()
        await self.background.drain()
        await self.client.aclose()
