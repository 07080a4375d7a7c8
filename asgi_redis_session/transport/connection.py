"""
The connection of a lane: it is made when it is needed, checked before each use, and replaced.

It uses redis-py's documented `ConnectionPool` and `Connection`, and knows nothing about sessions.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from .credentials import Credentials
from .parser import Parser
from .pool import address_in

#: Seconds after which a connection goes back to its pool and is taken again, so that redis-py can
#: do what it does on checkout: find a new master through Sentinel. As often a credential provider
#: is asked whether it has a new password by now.
_CHECKOUT = 30.0
#: Pause in seconds after a failed attempt to connect. The next attempt serves all callers that have
#: queued in the meantime.
_CONNECT_PAUSE = 0.1
#: How many timeouts connecting may take. It goes on when its first callers have given up: a new
#: connection takes several round trips, which may each be nearly as long as a timeout.
_CONNECT_TIMEOUTS = 5
#: How often the Sentinels are asked who the master is, and how long a batch waits for their answer
#: (seconds).
_MASTER_CHECK, _MASTER_CHECK_WAIT = 0.5, 0.1


class SharedConnection:
    """
    One connection at a time, out of *pool*, for one event loop. Only one task may use it at a time.

    *on_new_master*: called when Sentinel may have appointed another master. It should call
    `check_master_soon` on all connections to that master, this one included.
    """

    __slots__ = (
        "_closer",
        "_connect_at",
        "_credentials_check",
        "_loop",
        "_master_check",
        "_master_check_at",
        "_on_new_master",
        "_outdated",
        "_pool",
        "_return_at",
        "_timeout",
        "hear",
        "poll",
        "raw",
    )

    def __init__(
        self, pool: ConnectionPool, timeout: float, on_new_master: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._on_new_master = on_new_master
        self._loop = asyncio.get_running_loop()
        self._closer: AsyncGenerator[None, None] | None = None
        #: redis-py's connection; None if none is open.
        self.raw: Any = None
        #: Of its parser: return the next reply, or NOT_YET; await more of them.
        self.poll: Callable[[], Any] = _not_connected
        self.hear: Callable[[], Awaitable[Any]] = _not_connected
        # A connection that is to be replaced: its server is no longer the master, or its
        # credentials are no longer those that the provider gives.
        self._outdated: Any = None
        self._master_check: asyncio.Task[None] | None = None
        self._credentials_check: asyncio.Task[None] | None = None
        # Instants of the event loop's clock.
        self._master_check_at = 0.0
        self._return_at = 0.0
        self._connect_at = 0.0

    @property
    def address(self) -> str:
        """Where the connection leads, without credentials."""
        return address_of(self._pool)

    @property
    def server(self) -> tuple[str, int] | None:
        """Host and port that are connected; None if nothing is, or a Unix socket."""
        host, port = getattr(self.raw, "host", None), getattr(self.raw, "port", None)
        return None if host is None or port is None else (host, port)

    @property
    def is_checking_master(self) -> bool:
        """Whether the Sentinels are being asked at the moment who the master is."""
        return self._master_check is not None

    async def ready(self) -> None:
        """Make sure that there is a connection fit for the next batch. Raises redis-py's errors."""
        if self.raw is not None:
            if isinstance(self._pool, SentinelConnectionPool):
                await self._check_master(self._pool)
            is_fresh = self._loop.time() < self._return_at
            if not await self._is_stale() and is_fresh:
                return
            if not is_fresh:
                self._check_credentials()
            await self._give_back()
        if self._closer is None:
            self._closer = self._close_at_end()
            await anext(self._closer)
        if (pause := self._connect_at - self._loop.time()) > 0:
            await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(self._timeout * _CONNECT_TIMEOUTS):
                self.raw = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except BaseException:
            self._connect_at = self._loop.time() + _CONNECT_PAUSE
            raise
        self._return_at = self._loop.time() + _CHECKOUT
        if isinstance(self._pool, SentinelConnectionPool):  # it may be a new master
            self._on_new_master()
        parser = self.raw._parser  # noqa: SLF001  (redis-py has no public way to its parser)
        if not isinstance(parser, Parser):
            raise TypeError(f"its connections have a parser of their own, {type(parser).__name__}")
        self.poll, self.hear = parser.poll, parser.read_from_socket

    async def send(self, data: bytes) -> None:
        """Send packed commands."""
        await self.raw.send_packed_command(data, check_health=False)

    @property
    def is_due(self) -> bool:
        """Whether `ready` has something to do before the next batch."""
        now = self._loop.time()
        is_check_due = (
            isinstance(self._pool, SentinelConnectionPool) and now >= self._master_check_at
        )
        return now >= self._return_at or is_check_due

    async def drop(self) -> None:
        """Close the connection: there may be replies on it that belong to no caller."""
        if self.raw is not None:
            with suppress(OSError, RedisError):
                await self.raw.disconnect(nowait=True)
            await self._give_back()

    async def aclose(self) -> None:
        """Close the connection and its pool. `ready` makes a new one."""
        for check in (self._master_check, self._credentials_check):
            if check is not None:
                check.cancel()
        closer, self._closer = self._closer, None
        if closer is not None:
            await closer.aclose()

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        """
        Close the pool at `aclose`, or when the event loop ends.

        `asyncio.run` and the like close the loop's async generators last
        (`loop.shutdown_asyncgens`). So a lane that the app never closes leaves no open connection,
        and causes no warning.
        """
        try:
            yield
        finally:
            await self._give_back()
            await self._pool.aclose()

    async def _is_stale(self) -> bool:
        """Whether the idle connection has ended, has a stray reply on it, or is outdated."""
        try:
            # redis-py notices a FIN and stray data; only asyncio's reader knows of a reset.
            reader = self.raw._reader  # noqa: SLF001
            is_reset = reader is None or reader.exception() is not None
            is_outdated = self.raw is self._outdated
            stale: bool = is_reset or is_outdated or await self.raw.can_read()
        except (OSError, RedisError):
            stale = True
        if stale:
            self._outdated = None  # the pool makes a new connection out of the same object
            await self.raw.disconnect(nowait=True)
        return stale

    async def _give_back(self) -> None:
        connection, self.raw = self.raw, None
        if connection is not None:
            await self._pool.release(connection)

    # --- Credentials that change ---

    def _check_credentials(self) -> None:
        """
        Ask the provider in the background whether a new connection would use other credentials.

        A service closes connections whose token has ended, and the commands on them would be lost.
        """
        credentials = self._pool.connection_kwargs.get("credential_provider")
        if isinstance(credentials, Credentials) and self._credentials_check is None:
            self._credentials_check = self._loop.create_task(
                self._compare_credentials(credentials, self.raw)
            )

    async def _compare_credentials(self, credentials: Credentials, connection: Any) -> None:
        try:
            if await credentials.have_changed():
                self._outdated = connection
        finally:
            self._credentials_check = None

    # --- Sentinel ---

    def check_master_soon(self) -> None:
        """Ask the Sentinels who the master is before the next batch."""
        self._master_check_at = 0.0

    async def _check_master(self, pool: SentinelConnectionPool) -> None:
        """
        Ask the Sentinels now and then who the master is.

        After a planned failover the old master accepts writes for ten more seconds, until it is
        demoted. Those writes would be lost.
        """
        if self._master_check is None and self._loop.time() >= self._master_check_at:
            self._master_check = self._loop.create_task(self._compare_master(pool, self.raw))
            # Slow Sentinels must not delay a batch for long: the check goes on in the background.
            await asyncio.wait((self._master_check,), timeout=_MASTER_CHECK_WAIT)

    async def _compare_master(self, pool: SentinelConnectionPool, connection: Any) -> None:
        try:
            # While no Sentinel knows the master, the connection stays in use.
            with suppress(OSError, RedisError):
                master = await pool.get_master_address()  # type: ignore[no-untyped-call]
                if master != (connection.host, connection.port):
                    self._outdated = connection
                    self._on_new_master()
        finally:
            self._master_check = None
            self._master_check_at = self._loop.time() + _MASTER_CHECK


def _not_connected() -> Any:
    raise RedisConnectionError("there is no connection")


def address_of(pool: ConnectionPool) -> str:
    """Where a pool's connections lead, without credentials, worded so that a verb may follow."""
    options = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        return f"the Redis master {pool.service_name!r}"
    return f"Redis at {address_in(options)}, database {options.get('db') or 0},"
