"""What a test needs around sessions: `SessionKit`, and a trace of the commands that reach Redis."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import redis
from anyio.from_thread import BlockingPortal

from ..cookie import CookiePolicy
from ..engine.reads import EXTEND, READ_ALL
from ..engine.scripts import LOAD, SCRIPTS
from ..engine.state import SessionState
from ..errors import SearchUnavailable
from ..info import SessionInfo
from ..session import Session
from ..store import SessionStore, engine_of
from ..transport.proof import PROVE

__all__ = ["CommandCount", "SessionKit"]

_SCRIPT_NAMES = {script.sha: script.name for script in SCRIPTS}


class CommandCount:
    """
    The commands that reached Redis during `SessionKit.count()`, as MONITOR shows them.

    Left out is what no request waits for: the PEXPIREAT that follows a load. And what a batch ends
    with, which a request shares with all others of its batch.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def names(self) -> list[str]:
        """Their names, in order: `["HGETALL", "EVALSHA"]`."""
        return [line.split()[0].upper() for line in self.lines]

    @property
    def scripts(self) -> list[str]:
        """
        The names of the steps, in order: `["load", "save"]`.

        A step `save` is the script `engine/lua/save.lua` in this package; `load` may be HGETALL.
        """
        return [_named(*line.split()[:2]) for line in self.lines]

    def __len__(self) -> int:
        return len(self.lines)


class SessionKit:
    """
    What a test needs around sessions. All methods are synchronous and work inside async tests too.

    *store* is for the app under test: `SessionMiddleware(app, store=sessions.store, …)`.
    """

    def __init__(self, url: str, portal: BlockingPortal, **options: Any) -> None:
        self.url = url
        options = {"prefix": f"test-{secrets.token_hex(6)}", **options}
        self.prefix: str = options["prefix"]
        self.store = SessionStore.from_url(url, **options)
        # What is read ahead depends on former requests, and what a test counts must not.
        engine_of(self.store).never_prefetch()
        self._own = SessionStore.from_url(url, **options)
        self._portal = portal
        self._servers = _servers(url)

    def cookies(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        user: str | int | UUID | None = None,
        cookie: CookiePolicy | None = None,
    ) -> dict[str, str]:
        """
        Create a session that holds *data*, logged in as *user* if given; returns its cookie for
        `TestClient(cookies=…)` or httpx.

        *cookie*: the policy that your middleware uses. Browsers and httpx send a `Secure` cookie
        over HTTPS only, so give the client a `base_url` with https, or both a policy for
        development.
        """
        name = (cookie or CookiePolicy()).name
        return {name: self._portal.call(self._create, dict(data or {}), user)}

    def read(
        self, cookies: Mapping[str, str], *, cookie: CookiePolicy | None = None
    ) -> dict[str, Any]:
        """The fields that Redis holds for the session of these cookies; empty if there is none."""
        session_id = cookies.get((cookie or CookiePolicy()).name)
        return {} if session_id is None else self._portal.call(self._read, session_id)

    def handle_of(
        self, cookies: Mapping[str, str], *, cookie: CookiePolicy | None = None
    ) -> str | None:
        """Return the handle of the session of these cookies, whether it exists or not."""
        session_id = cookies.get((cookie or CookiePolicy()).name)
        return None if session_id is None else engine_of(self._own).ids.handles(session_id)[0]

    def session(self, session_id: str | None = None) -> Session:
        """
        Return a session that belongs to no request, for tests of code that takes a `Session`.

        *session_id*: the value of its cookie, from `cookies()`; None for a new session. Load it,
        use it, and `await session.save()`: no response will do that for you.
        """
        return Session(SessionState(engine_of(self.store), session_id))

    def info(self, handle: str) -> SessionInfo | None:
        """The session of this handle, as `SessionStore.get` gives it."""
        return self._portal.call(self._own.get, handle)

    def revoke(self, handle: str) -> bool:
        """End a session from outside, as another device would; whether there was one."""
        return self._portal.call(self._own.revoke, handle)

    def keys(self) -> list[str]:
        """
        All keys of this test in Redis: sessions, and the lists of users.

        Keys that only say for a while that a session ended or was taken over are left out.
        """
        pattern = f"{self.prefix}:*"
        found = [server.scan_iter(pattern, count=1000) for server in self._servers]
        return sorted(key.decode() for keys in found for key in keys if b"{" not in key)

    @contextmanager
    def count(self) -> Iterator[CommandCount]:
        """
        Count the commands that clients send about this test's keys while the block runs.

            with sessions.count() as commands:
                client.get("/")
            assert commands.names == ["HGETALL"]
        """
        for server in self._servers:  # else the first call of a script would count twice
            for script in SCRIPTS:
                server.script_load(script.text)
        counted, done = CommandCount(), f"done-{secrets.token_hex(8)}"
        watchers = []
        for server in self._servers:
            watching = threading.Event()
            watcher = threading.Thread(
                target=self._watch, args=(server, done, watching, counted.lines), daemon=True
            )
            watcher.start()
            watching.wait(10)
            watchers.append(watcher)
        try:
            yield counted
        finally:
            for server in self._servers:
                server.echo(done)
            for watcher in watchers:
                watcher.join(10)

    def _watch(
        self, server: redis.Redis, done: str, watching: threading.Event, lines: list[str]
    ) -> None:
        with server.monitor() as monitor:  # type: ignore[no-untyped-call]
            watching.set()
            for seen in monitor.listen():
                if done in seen["command"]:
                    return
                # What a script does inside the server costs no round trip: it is shown as "lua".
                if self.prefix not in seen["command"] or seen["client_type"] == "lua":
                    continue
                if _named(*seen["command"].split()[:2]) not in (EXTEND.command, PROVE.name):
                    lines.append(seen["command"])

    def close(self) -> None:
        """Delete the keys of this test, and its index, and close the connections."""
        if engine_of(self._own).shadows:
            with suppress(SearchUnavailable):
                self._portal.call(self._own.search.drop_index)
        for server in self._servers:
            for key in server.scan_iter(f"{self.prefix}:*", count=1000):
                server.delete(key)
            server.close()
        self._portal.call(self._own.aclose)
        self._portal.call(self.store.aclose)
        # A suite may have one loop for all its tests; it rests now, and would keep a connection.
        for loop in engine_of(self.store).client.routes.resting_loops():
            loop.run_until_complete(self.store.aclose())

    async def _read(self, session_id: str) -> dict[str, Any]:
        engine = engine_of(self._own)
        record = await engine.reader.load(
            engine.ids.handles(session_id), session_id, extend=False, from_cookie=False
        )
        return {} if record is None else record.stored.values

    async def _create(self, data: dict[str, Any], user: str | int | UUID | None) -> str:
        state = SessionState(engine_of(self._own))
        session = Session(state)
        await session.load()
        if user is not None:
            await session.login(user)
        session.update(data)
        await session.save()
        change = state.pop_cookie_change()
        if change is None or change.session_id is None:
            raise ValueError("sessions.cookies: give the session a user or at least one field.")
        return change.session_id


def _named(command: str, argument: str = "") -> str:
    """Return the name of a step, or that of a command that is none."""
    name = command.upper()
    if name == READ_ALL:
        return LOAD.name
    return _SCRIPT_NAMES.get(argument.strip('"'), "unknown") if name == "EVALSHA" else name


def _servers(url: str) -> list[redis.Redis]:
    """A plain client of every server that may hold a key: of all masters of a Cluster."""
    if "+cluster://" not in url:
        return [redis.Redis.from_url(url)]
    parts = urlsplit(url.replace("+cluster://", "://"))
    user, at, hosts = parts.netloc.rpartition("@")

    def at_node(place: str) -> str:
        return parts._replace(netloc=f"{user}{at}{place}").geturl()

    with redis.RedisCluster.from_url(at_node(hosts.partition(",")[0])) as cluster:
        names = [node.name for node in cluster.get_primaries()]
    return [redis.Redis.from_url(at_node(name)) for name in names]
