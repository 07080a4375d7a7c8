"""
All that tests and benchmarks use of the library beyond its public names.

Sessions are made here as the middleware makes them, and scripts are named here as the engine names
them. A change inside the library changes this file and no test.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import redis

from asgi_redis_session import Session, SessionStore, SessionUnavailable, users
from asgi_redis_session import store as engine
from asgi_redis_session.engine.record import Changes
from asgi_redis_session.errors import DurabilityNotReached
from asgi_redis_session.search import queries
from asgi_redis_session.session import Origin
from asgi_redis_session.testing import SessionKit
from asgi_redis_session.transport import client, lane
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.scripts import Script

# --- Sessions, as the middleware makes and ends them ---


def open_session(
    store: SessionStore,
    session_id: str | None = None,
    *,
    slide: bool = True,
    tolerant: bool = False,
    origin: Origin = (None, ()),
) -> Session:
    """
    The session of a request with this id in its cookie, not loaded yet; None: without a cookie.

    *slide*: whether its first verb extends the TTL. *tolerant*: whether it goes on without Redis.
    *origin*: the client's address and the headers of the request.
    """
    return Session(store, session_id, slide=slide, tolerant=tolerant, origin=origin)


class CookieChange(NamedTuple):
    """What the browser has to be sent."""

    #: None: the cookie is to be deleted.
    session_id: str | None
    #: The time until the session's deadline; None if it has none.
    max_age_ms: int | None


def cookie_change(session: Session) -> CookieChange | None:
    """What the response has to send, which is then sent; None if the browser has all it needs."""
    grant = session.take_grant()
    return None if grant is None else CookieChange(grant.session_id, grant.max_age_ms)


def new_id(session: Session) -> str:
    """The id that the response sends to the browser; there must be one."""
    change = cookie_change(session)
    assert change is not None
    assert change.session_id is not None
    return change.session_id


def start_response(session: Session) -> None:
    """From now on the browser can be sent no cookie any more."""
    session.seal()


def discard(session: Session) -> None:
    """The request has failed: what it has staged is dropped."""
    session.discard()


def id_of(session: Session) -> str | None:
    """The id that the session has, whether the browser knows it or not."""
    return session._id


def store_of(session: Session) -> SessionStore:
    """The store that the session was opened with."""
    store = session._store
    assert isinstance(store, SessionStore)
    return store


def failure_of(session: Session) -> SessionUnavailable | DurabilityNotReached | None:
    """Why the last verb did not reach Redis, or not as durably as asked."""
    return session.failure


# --- Names ---


def handles_of(store: SessionStore, session_id: str) -> tuple[str, ...]:
    """The names that the hash of this id may have, that of the newest secret first."""
    return store.handles(session_id)


def handle_of(store: SessionStore, session_id: str) -> str:
    """The name that the hash of this id has, if its secret is the newest."""
    return handles_of(store, session_id)[0]


def key_of(store: SessionStore, session_id: str) -> str:
    """The key of that hash in Redis."""
    return f"{store.prefix}:{handle_of(store, session_id)}"


def index_key_of(store: SessionStore, user_id: str | int) -> bytes:
    """The key of a user's index in Redis."""
    return store.users._key(user_id)


# --- Commands ---


def refresh(store: SessionStore, handle: str) -> None:
    """Extend a session's TTL without waiting for it."""
    store.refresh((handle,))


async def exists(store: SessionStore, handle: str) -> bool:
    """Whether there is such a session."""
    return await store.exists((handle,))


async def take_place(store: SessionStore, user_id: str, handle: str) -> None:
    """The first step of a login: a place in the user's index."""
    await store.users.take(user_id, handle, (), None)


async def write_shadows(store: SessionStore, handle: str) -> bool:
    """Write the shadows that a session lacks; whether it lacked any."""
    return await store.shade(handle)


def with_shadows(store: SessionStore, fields: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
    """The fields of a hash, and the shadows that a commit writes with them."""
    return store.index.cover(Changes(dict(fields))).fields


async def index_names(store: SessionStore) -> Sequence[str]:
    """The indexes of this store that the server has."""
    return await store.search._names()


async def run_text(store: SessionStore, text: str, keys: Sequence[str]) -> Any:
    """Run a script that is none of ours, as ours are run: it returns its first key and a value."""
    script = Script("users_prelude", "place_find")
    script.text, script.sha = text, "0" * 40
    reply = await store._wire.ask(script, [key.encode() for key in keys])
    return reply[1]


# --- What is set for a test ---


def limit_sessions(store: SessionStore, most: int) -> None:
    """From now on a user has at most so many sessions; the oldest is ended."""
    store.users._limit, store.users._evict = most, True


def limit_queue(monkeypatch: pytest.MonkeyPatch, commands: int) -> None:
    """So many commands may be queued before one that nobody waits for is dropped."""
    monkeypatch.setattr(client, "_BACKLOG", commands)


def limit_query_time(store: SessionStore, ms: int) -> None:
    """So long may Redis Search take for a query."""
    store.search._timeout_ms = ms


def limit_pages(monkeypatch: pytest.MonkeyPatch, *, first: int, others: int) -> None:
    """So many sessions are in the first page of a search, and in each that follows."""
    monkeypatch.setattr(queries, "_FIRST_PAGE", first)
    monkeypatch.setattr(queries, "_PAGE", others)


def limit_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """So many rows may be in one answer of Redis Search."""
    monkeypatch.setattr(queries, "_MOST_ROWS", rows)


def never_look_for_a_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its next look on, a lane does not ask the Sentinels for a minute who the master is."""
    monkeypatch.setattr(lane, "_LOOK", 60)


# --- Scripts ---

_SCRIPTS = {
    name: script
    for scripts, names in (
        (engine.SCRIPTS, "load save create increment login end shade"),
        (engine.CLUSTER_SCRIPTS, "take_hash restore_save restore_login put_back"),
        (users.SCRIPTS, "take move confirm release list find"),
    )
    for script, name in zip(scripts, names.split(), strict=True)
}
_NAMES = {script.sha: name.removeprefix("restore_") for name, script in _SCRIPTS.items()}

#: Awaiting it sends the script.
Send = Callable[[], Awaitable[Any]]


def scripts() -> list[Script]:
    """Every script that a store may send; each has a `text` and the `sha` that it is sent by."""
    return list(_SCRIPTS.values())


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
    wire = store._wire
    real = wire.ask

    async def ask(script: Any, *rest: Any, **options: Any) -> Any:
        return await around(_NAMES[script.sha], lambda: real(script, *rest, **options))

    vars(wire)["ask"] = ask
    return lambda: vars(wire).update(ask=real)


def stop_pruning(store: SessionStore) -> None:
    """No index is pruned on the side: those scripts would come between others."""
    vars(store.users)["_tidy_later"] = lambda _key: None


# --- Connections ---


def is_cluster(store: SessionStore) -> bool:
    """Whether a session's keys are on several servers."""
    return store._wire.is_cluster


def lanes_of(store: SessionStore) -> Sequence[Lane]:
    """The lanes that the store has in this event loop."""
    return store._wire._routes[asyncio.get_running_loop()].lanes()


def requests_lane(store: SessionStore, key: str = "any") -> Lane:
    """The lane on which requests reach this key."""
    return store._wire._routes[asyncio.get_running_loop()].lane(key.encode(), "requests")


def port_of(one: Lane) -> int:
    """The port to which a lane is connected; 0 if it isn't."""
    return getattr(one._connection, "port", 0)


def is_looking_for_a_master(one: Lane) -> bool:
    """Whether a lane is asking the Sentinels at this moment."""
    return bool(one._look)


def connection_of(one: Lane) -> Any:
    """The connection of a lane, as redis-py has it; None if there is none."""
    return one._connection


def unread_bytes(one: Lane) -> int:
    """How much has arrived on a lane's connection that nobody has read."""
    connection: Any = one._connection
    return len(connection._reader._buffer)


def servers_of(kit: SessionKit) -> Sequence[redis.Redis]:
    """A client of each server that may hold a key of the test kit's."""
    return kit._servers
