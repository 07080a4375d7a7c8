"""Instants in a session's hash that contradict each other."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from asgi_redis_session import Session, SessionError, SessionStore

from ..support.internals import discard, key_of, open_session
from ..support.keyspace import index_key
from ..support.sessions import create
from .conftest import Cases

#: What an instant of the metadata may be beside what it was; None: it is missing.
VALUES = (None, 0, 1, "now", "soon", 99_999_999_999_999)
NAMES = ("@created", "@deadline", "@auth", "@seen", "@idle")


async def _shorten_idle(store: SessionStore, session: Session) -> None:
    session.set_lifetime(idle=60)
    await session.save()


async def _shorten_all(store: SessionStore, session: Session) -> None:
    session.set_lifetime(idle=timedelta(seconds=1), absolute=timedelta(seconds=60))
    await session.save()


async def _write(store: SessionStore, session: Session) -> None:
    session["n"] = 2
    await session.save()


async def _look(store: SessionStore, session: Session) -> None:
    assert session.is_fresh(60) in (True, False)
    await store.get(session.handle or "")
    await store.users.list("ann")
    await store.users.count("ann")


async def _renew(store: SessionStore, session: Session) -> None:
    session.renew()
    await session.save()


async def _log_in(store: SessionStore, session: Session) -> None:
    await session.login("ann")
    await session.save()


async def _edit(store: SessionStore, session: Session) -> None:
    async with store.edit(session.handle or "") as edited:
        edited["n"] = 3


VERBS: tuple[Callable[[SessionStore, Session], Awaitable[None]], ...] = (
    *(_look, _write, _shorten_idle, _shorten_all, _renew, _log_in, _edit),
)


async def test_instants_that_contradict_each_other(
    store: SessionStore, admin: Any, prefix: str, cases: Cases
) -> None:
    """Whatever a verb makes of them, it raises nothing but a `SessionError`."""
    now = int(time.time() * 1000)
    meanings: dict[Any, int] = {"now": now, "soon": now + 100_000}
    wrong = []
    for (one, first), (other, second) in itertools.combinations(
        itertools.product(NAMES, VALUES), 2
    ):
        if one == other:
            continue
        ids = await asyncio.gather(*[create(store, n=1) for _ in VERBS])
        with admin.pipeline(transaction=False) as pipe:
            for key in [key_of(store, session_id) for session_id in ids]:
                pipe.hset(key, mapping={"@user": "ann", "@auth": now})
                pipe.zadd(index_key(prefix, "ann"), {key.rpartition(":")[2]: now})
                for name, value in ((one, first), (other, second)):
                    if value is None:
                        pipe.hdel(key, name)
                    else:
                        pipe.hset(key, name, meanings.get(value, value))
            pipe.execute()
        for verb, session_id in zip(VERBS, ids, strict=True):
            session = await open_session(store, session_id).load()
            try:
                await verb(store, session)
            except SessionError:
                discard(session)
            except Exception as error:  # noqa: BLE001
                wrong.append(f"{one}={first} {other}={second} {verb.__name__}: {error!r}")
                discard(session)
            cases()
        admin.delete(index_key(prefix, "ann"))
    assert not wrong, "\n".join(wrong[:20])
