"""Sessions that tests make, and whether they live."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from asgi_redis_session import CookiePolicy, SessionStore

from .internals import handle_of, new_id, open_session, refresh

#: Works over plain HTTP, without the warning of CookiePolicy.for_development().
PLAIN = CookiePolicy(name="session", secure=False)


async def log_in(
    store: SessionStore,
    user: str | int,
    session_id: str | None = None,
    *,
    lifetime: Mapping[str, Any] | None = None,
    **fields: Any,
) -> str:
    """A session of this user; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login(user, **(lifetime or {}))
    session.update(fields)
    await session.save()
    return new_id(session)


async def is_live(store: SessionStore, session_id: str) -> bool:
    return not (await open_session(store, session_id, extends=False).load()).is_new


async def live_among(store: SessionStore, ids: Iterable[str]) -> list[str]:
    ids = list(ids)
    alive = await asyncio.gather(*[is_live(store, session_id) for session_id in ids])
    return [session_id for session_id, lives in zip(ids, alive, strict=True) if lives]


@asynccontextmanager
async def opened(url: str, prefix: str, **options: Any) -> AsyncIterator[SessionStore]:
    """A store whose timeout a busy machine does not reach."""
    async with SessionStore.from_url(url, prefix=prefix, **{"timeout": 20, **options}) as store:
        yield store


async def load(store: SessionStore, session_id: str) -> Any:
    return (await open_session(store, session_id).load()).get("n")


async def works(store: SessionStore, session_id: str) -> None:
    """Every verb on this session, and then its end."""
    session = await open_session(store, session_id).load()
    session["n"] = 1
    await session.save()
    assert await session.increment("n") == 2
    assert await open_session(store, session_id).fetch("n") == {"n": 2}
    assert await session.still_valid()
    refresh(store, handle_of(store, session_id))
    await store.drain()
    session.renew()
    await session.save()
    renewed = new_id(session)
    assert not await is_live(store, session_id)
    session = await open_session(store, renewed).load()
    await session.login("ann")
    await session.save()
    assert session["n"] == 2
    assert await store.users.count("ann") == 1
    assert await store.users.revoke_all("ann") == 1
    assert not await is_live(store, new_id(session))


async def create(store: SessionStore, **fields: object) -> str:
    """A session with these fields; returns its id."""
    session = await open_session(store).load()
    session.update(fields)
    await session.save()
    return new_id(session)


def connections(admin: Any, before: set[str]) -> int:
    return len({client["id"] for client in admin.client_list()} - before)
