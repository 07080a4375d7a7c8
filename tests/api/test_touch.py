"""`session.touch()`: extend the TTL now, in a stream or socket that stays open for long."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import Lifetime, SessionMiddleware, SessionStore, SessionUnavailable
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of, key_of, load_scripts, open_session
from .common import MINUTE, NOWHERE, PLAIN, WELL_FORMED, Make, create, log_in, serve

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize("loaded", [True, False])
async def test_it_ignores_refresh_after(make: Make, admin: Any, loaded: bool) -> None:
    """A load would leave the TTL alone here; touch does not."""
    store = make(lifetime=Lifetime(idle=600, refresh_after=540))
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, 5 * MINUTE)
    session = open_session(store, session_id)
    if loaded:
        await session.load()
        assert admin.pttl(key) <= 5 * MINUTE
    assert await session.touch() is True
    assert admin.pttl(key) > 9 * MINUTE
    assert session.loaded is loaded


async def test_it_extends_each_time(store: SessionStore, admin: Any) -> None:
    """A load extends the TTL once per request; touch at every call."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    session = await open_session(store, session_id).load()
    for _ in range(3):
        admin.pexpire(key, MINUTE)
        assert await session.touch()
        assert admin.pttl(key) > 29 * MINUTE


async def test_it_extends_where_nothing_else_does(store: SessionStore, admin: Any) -> None:
    """Also in a request of refresh="never": the app asks for it."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    session = await open_session(store, session_id, extends=False).load()
    assert admin.pttl(key) <= MINUTE
    assert await session.touch()
    assert admin.pttl(key) > MINUTE


async def test_its_own_lifetime_counts(store: SessionStore, admin: Any) -> None:
    """The session's idle time, not the store's, and never beyond the deadline."""
    given: tuple[tuple[dict[str, Any], int], ...] = (
        ({"idle": 120}, 2 * MINUTE),
        ({"absolute": 180}, 3 * MINUTE),
    )
    for own, most in given:
        session_id = await log_in(store, "ann", **own)
        key = key_of(store, session_id)
        admin.pexpire(key, MINUTE)
        assert await open_session(store, session_id).touch()
        assert most - MINUTE < admin.pttl(key) <= most


async def test_it_is_false_without_a_session(store: SessionStore) -> None:
    """No cookie, an unknown id, a new session, one that has ended: nothing to extend."""
    assert await open_session(store).touch() is False
    assert await open_session(store, WELL_FORMED).touch() is False
    new = await open_session(store).load()
    new["n"] = 1
    assert await new.touch() is False
    await new.save()
    assert await new.touch() is True
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    assert await store.revoke(handle_of(store, session_id))
    assert await session.touch() is False
    assert await store.get(handle_of(store, session_id)) is None
    await new.logout()
    assert await new.touch() is False


async def test_what_is_staged_stays_staged(store: SessionStore) -> None:
    """It writes nothing and reads nothing."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session["n"] = 2
    assert await session.touch()
    assert session["n"] == 2
    assert (await open_session(store, session_id).load())["n"] == 1
    await session.save()
    assert (await open_session(store, session_id).load())["n"] == 2


async def test_it_is_one_round_trip(sessions: SessionKit, admin: Any) -> None:
    """One script; none where there can be no session."""
    load_scripts(admin)
    (session_id,) = sessions.cookies({"n": 1}).values()
    session = sessions.session(session_id)
    with sessions.count() as commands:
        await session.touch()
        await sessions.session().touch()
    await sessions.store.aclose()
    assert commands.scripts == ["load"]


async def test_an_outage_is_an_error(prefix: str) -> None:
    """It is not known whether the session still exists."""
    async with SessionStore.from_url(NOWHERE, prefix=prefix) as store:
        with pytest.raises(SessionUnavailable):
            await open_session(store, WELL_FORMED).touch()


@pytest.mark.parametrize("refresh", ["request", "never"])
async def test_a_stream_keeps_its_session_alive_until_it_ends(
    store: SessionStore, admin: Any, refresh: Any
) -> None:
    """Server-sent events from a real server: the TTL is extended; a logout elsewhere ends them."""

    async def events(request: Request) -> Response:
        session = await load_session(request)

        async def ticks() -> AsyncIterator[str]:
            while await session.touch():
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(ticks(), media_type="text/event-stream")

    routes = [Route("/events", events)]
    # The server runs in a thread with an event loop of its own, so it has its own connections.
    app = SessionMiddleware(Starlette(routes=routes), store=store, cookie=PLAIN, refresh=refresh)
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    with serve(app) as url:
        async with httpx.AsyncClient(
            base_url=url, cookies={"session": session_id}, timeout=100
        ) as client:
            async with client.stream("GET", "/events") as response:
                assert response.headers["vary"] == "Cookie"
                lines = response.aiter_lines()
                for _ in range(2):
                    admin.pexpire(key, MINUTE)
                    while admin.pttl(key) <= MINUTE:
                        assert await anext(lines) in {"data: tick", ""}
                assert await store.revoke(handle_of(store, session_id))
                rest = [line async for line in lines]
    assert set(rest) <= {"data: tick", ""}
    assert not admin.exists(key)
