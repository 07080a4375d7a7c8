"""
All that tests and benchmarks use of the library beyond its public names.

Sessions are made here as the middleware makes them, and scripts are named here as the engine names
them. A change inside the library changes this file and no test.
"""

import asyncio
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
import redis

from asgi_redis_session import Session, SessionStore, once
from asgi_redis_session.cookie import CookieChange
from asgi_redis_session.engine import endings
from asgi_redis_session.engine.engine import Engine
from asgi_redis_session.engine.record import Changes, PeerInfo
from asgi_redis_session.engine.scripts import SCRIPTS, State
from asgi_redis_session.engine.state import SessionState
from asgi_redis_session.search import queries
from asgi_redis_session.session import state_of
from asgi_redis_session.store import engine_of
from asgi_redis_session.testing import SessionKit
from asgi_redis_session.transport import connection, lane, replies
from asgi_redis_session.transport.background import Background
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.scripts import Script

#: Which store a session was opened with.
_STORES: "weakref.WeakKeyDictionary[Engine, SessionStore]" = weakref.WeakKeyDictionary()

# --- Sessions, as the middleware makes and ends them ---


def open_session(
    store: SessionStore,
    session_id: str | None = None,
    *,
    extends: bool = True,
    tolerant: bool = False,
    origin: PeerInfo = (None, ()),
) -> Session:
    """
    The session of a request with this id in its cookie, not loaded yet; None: without a cookie.

    *extends*: whether its first verb extends the TTL. *tolerant*: whether it goes on without Redis.
    *origin*: the client's address and the headers of the request.
    """
    state = SessionState(
        engine_of(store), session_id, extends=extends, is_tolerant=tolerant, peer=origin
    )
    _STORES[state.engine] = store
    return Session(state)


def cookie_change(session: Session) -> CookieChange | None:
    """What the response has to send, which is then sent; None if the browser has all it needs."""
    return state_of(session).pop_cookie_change()


def new_id(session: Session) -> str:
    """The id that the response sends to the browser; there must be one."""
    change = cookie_change(session)
    assert change is not None
    assert change.session_id is not None
    return change.session_id


def start_response(session: Session) -> None:
    """From now on the browser can be sent no cookie any more."""
    state_of(session).seal()


def be_open_for_long(session: Session) -> None:
    """It is the session of a WebSocket: each of its commands extends the TTL."""
    state_of(session).extend_with_every_command()


def discard(session: Session) -> None:
    """The request has failed: what it has staged is dropped."""
    state_of(session).discard()


def id_of(session: Session) -> str | None:
    """The id that the session has, whether the browser knows it or not."""
    return state_of(session).session_id


def store_of(session: Session) -> SessionStore:
    """The store that the session was opened with."""
    return _STORES[state_of(session).engine]


# --- Names ---


def handles_of(store: SessionStore, session_id: str) -> tuple[str, ...]:
    """The names that the hash of this id may have, that of the newest secret first."""
    return engine_of(store).ids.handles(session_id)


def handle_of(store: SessionStore, session_id: str) -> str:
    """The name that the hash of this id has, if its secret is the newest."""
    return handles_of(store, session_id)[0]


def key_of(store: SessionStore, session_id: str) -> str:
    """The key of that hash in Redis."""
    return f"{store.prefix}:{handle_of(store, session_id)}"


def index_key_of(store: SessionStore, user_id: str | int) -> bytes:
    """The key of a user's index in Redis."""
    return engine_of(store).places.key_of(user_id)


# --- Commands ---


def refresh(store: SessionStore, handle: str) -> None:
    """Extend a session's TTL without waiting for it."""
    engine_of(store).reader.extend_soon((handle,))


async def exists(store: SessionStore, handle: str) -> bool:
    """Whether there is such a session."""
    return await engine_of(store).reader.exists((handle,)) is not None


async def take_place(store: SessionStore, user_id: str, handle: str) -> None:
    """The first step of a login: a place in the user's index."""
    engine = engine_of(store)
    index = engine.places.key_of(user_id)
    await endings.reserve(engine, index, handle, None, (), is_counted=True)


async def give_place_back(store: SessionStore, user_id: str, handle: str) -> None:
    """The last step of a logout: its place leaves the user's index."""
    places = engine_of(store).places
    await places.release(places.key_of(user_id), handle)


async def write_shadows(store: SessionStore, handle: str) -> bool:
    """Write the shadows that a session lacks; whether it lacked any."""
    return await engine_of(store).outside.write_shadows(handle)


def with_shadows(store: SessionStore, fields: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
    """The fields of a hash, and the shadows that a commit writes with them."""
    return engine_of(store).shadows.with_shadows(Changes(dict(fields))).fields


async def index_names(store: SessionStore) -> Sequence[str]:
    """The indexes of this store that the server has."""
    return await store.search._admin.names()


async def run_text(store: SessionStore, text: str, keys: Sequence[str]) -> Any:
    """Run a script that is none of ours, as ours are run: it returns its first key and a value."""
    script = Script("none of ours", text, State)
    reply = await engine_of(store).client.call(script, [key.encode() for key in keys])
    return reply.state


# --- What is set for a test ---


def limit_sessions(store: SessionStore, most: int) -> None:
    """From now on a user has at most so many sessions; the oldest is ended."""
    engine_of(store).max_sessions, engine_of(store).evicts = most, True


def limit_queue(monkeypatch: pytest.MonkeyPatch, commands: int) -> None:
    """So many commands may be queued before one that nobody waits for is dropped."""
    monkeypatch.setattr(lane, "_BUSY_QUEUE", commands)


def limit_whole_queue(monkeypatch: pytest.MonkeyPatch, commands: int) -> None:
    """So many commands may be queued before any other one is refused."""
    monkeypatch.setattr(lane, "_LONGEST_QUEUE", commands)


def keep_who_is_no_master(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So long is a server kept that is no master, if a new connection has led to it again."""
    monkeypatch.setattr(replies, "_KEPT", seconds)


def limit_query_time(store: SessionStore, ms: int) -> None:
    """So long may Redis Search take for a query."""
    store.search._admin.timeout_ms = ms


def limit_pages(monkeypatch: pytest.MonkeyPatch, *, first: int, others: int) -> None:
    """So many sessions are in the first page of a search, and in each that follows."""
    monkeypatch.setattr(queries, "_FIRST_PAGE", first)
    for page in ("_PAGE", "_CLUSTER_PAGE"):
        monkeypatch.setattr(queries, page, others)


def limit_pages_of_places(monkeypatch: pytest.MonkeyPatch, places: int) -> None:
    """So many places of a user are read at once when the user's sessions are ended."""
    monkeypatch.setattr(endings, "PAGE", places)


def limit_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """So many rows may be in one answer of Redis Search."""
    monkeypatch.setattr(queries, "_MOST_ROWS", rows)


def never_look_for_a_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its next look on, a lane does not ask the Sentinels for a minute who the master is."""
    monkeypatch.setattr(connection, "_MASTER_CHECK", 60)


def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had not warned of anything yet."""
    monkeypatch.setattr(once, "_said", defaultdict(set))


class _NoBackground(Background):
    """Drops what would run in the background."""

    __slots__ = ()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        work.close()


# --- Scripts ---

_NAMES = {
    "end": "end",
    "write_if_same": "shade",
    "commit": "save",
    "renew": "save",
    "restore+save": "save",
    "restore+login": "login",
    "restore+put_back": "put_back",
    **{f"place_{name}": name for name in ("reserve", "move", "confirm", "release", "list", "find")},
}

#: Awaiting it sends the script.
Send = Callable[[], Awaitable[Any]]


def scripts() -> list[Script[Any]]:
    """Every script that a store may send; each has a `text` and the `sha` that it is sent by."""
    return list(SCRIPTS)


def load_scripts(admin: "redis.Redis | redis.RedisCluster") -> None:
    """Let the server know every script, so that none is sent in full."""
    for script in scripts():
        admin.script_load(script.text)


def around_scripts(
    store: SessionStore, around: Callable[[str, Send], Awaitable[Any]]
) -> Callable[[], None]:
    """
    Let every script that the store waits for go through `around(name, send)`; returns what ends
    that. What `around` returns is the reply.
    """
    sender = engine_of(store).client
    real = sender._ask

    async def send(script: Any, *rest: Any, **options: Any) -> Any:
        name = _NAMES.get(script.name, script.name)
        return await around(name, lambda: real(script, *rest, **options))

    vars(sender)["_ask"] = send
    return lambda: vars(sender).update(_ask=real)


def around_commands(
    store: SessionStore, around: Callable[[str, Send], Awaitable[Any]]
) -> Callable[[], None]:
    """As `around_scripts`, for plain commands: FT.CREATE, SCAN, and the last one of a batch."""
    sender = engine_of(store).client.queries
    real = sender.send

    async def send(*batch: Sequence[Any], **options: Any) -> list[Any]:
        replies: list[Any] = await around(batch[-1][0], lambda: real(*batch, **options))
        return replies

    vars(sender)["send"] = send
    return lambda: vars(sender).update(send=real)


def stop_pruning(store: SessionStore) -> None:
    """No index is pruned on the side: those scripts would come between others."""
    engine_of(store).background = _NoBackground()


# --- Connections ---


def is_cluster(store: SessionStore) -> bool:
    """Whether a session's keys are on several servers."""
    return engine_of(store).client.is_cluster


def lanes_of(store: SessionStore) -> Sequence[Lane]:
    """The lanes that the store has in this event loop."""
    return engine_of(store).client.routes.lanes()


def requests_lane(store: SessionStore, key: str = "any") -> Lane:
    """The lane on which requests reach this key."""
    client = engine_of(store).client
    return client.routes.here.lane(key.encode(), "requests")


def port_of(one: Lane) -> int:
    """The port to which a lane is connected; 0 if it isn't."""
    server = one.connection.server
    return 0 if server is None else server[1]


def check_out_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a lane looks after its connection at each batch, and not every 30 seconds."""
    monkeypatch.setattr(connection, "_CHECKOUT", 0)


def is_looking_for_a_master(one: Lane) -> bool:
    """Whether a lane is asking the Sentinels at this moment."""
    return one.connection.is_checking_master


def connection_of(one: Lane) -> Any:
    """The connection of a lane, as redis-py has it; None if there is none."""
    return one.connection.raw


def silence_of(one: Lane) -> float:
    """For how many seconds, by its own clock, a lane has heard nothing."""
    return one._watch.now() - one._replies.heard_at


def have_been_blocked(one: Lane, seconds: float) -> None:
    """Let the event loop have been blocked for so long, as far as a new lane knows."""
    one._watch.blocked = seconds


def unread_bytes(one: Lane) -> int:
    """How much has arrived on a lane's connection that nobody has read."""
    connection: Any = one.connection.raw
    return len(connection._reader._buffer)


def servers_of(kit: SessionKit) -> Sequence[redis.Redis]:
    """A client of each server that may hold a key of the test kit's."""
    return kit._servers


def let_a_minute_pass(endpoint: Any) -> None:
    """Let it be a minute since a BackchannelLogout has fetched its provider's keys."""
    endpoint._fetched_at -= 60


# --- Sessions that are waited on ---


def heard(store: SessionStore) -> set[str]:
    """The handles of sessions whose end would be pushed to this event loop now."""
    rounds = engine_of(store).watches._rounds.get(asyncio.get_running_loop())
    watched = {} if rounds is None else rounds._watched
    return {handle for handle, one in watched.items() if one.is_heard}


async def look_at_all(store: SessionStore) -> None:
    """Let the minute pass after which Redis is asked for all sessions; returns when it was."""
    rounds = engine_of(store).watches._rounds[asyncio.get_running_loop()]
    rounds.all_due()
    waiting = {handle: one.due for handle, one in rounds._watched.items()}
    while waiting:
        await asyncio.sleep(0.01)
        now = {handle: one.due for handle, one in rounds._watched.items()}
        waiting = {handle: due for handle, due in waiting.items() if now.get(handle) == due}
