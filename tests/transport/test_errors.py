"""What goes wrong on the server, in one sentence each."""

import logging
import socket
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionEvent, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.gate import gate_to
from ..support.internals import open_session
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster


async def sentence(url: str, **options: Any) -> str:
    async with SessionStore.from_url(url, timeout=20, **options) as store:
        with pytest.raises(SessionUnavailable) as error:
            await create(store, n=1)
        return str(error.value)


@pytest.mark.one_node
async def test_nobody_listens() -> None:
    """The sentence says where nobody answered."""
    with socket.socket() as deaf:  # has the port, so that nobody else gets it, and never listens
        deaf.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert f"Redis at {place}, database 0," in await sentence(f"redis://{place}/0")


async def test_a_wrong_password_and_database() -> None:
    """Password and database: one sentence that says what and where, never the password."""
    with DevServer(options={"requirepass": "right"}) as server:
        where = f"127.0.0.1:{server.port}"
        for url in (f"redis://:hunter2@{where}/0", f"redis://{where}/0"):
            message = await sentence(url)
            assert where in message
            assert "credentials" in message or "NOAUTH" in message or "Auth" in message
            assert "hunter2" not in message
        message = await sentence(f"redis://:right@{where}/77")
        assert "database 77" in message


@pytest.mark.one_node
async def test_an_outage_is_one_line_in_the_log(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One error when it begins, one warning when it ends, however many requests fail."""
    events: list[SessionEvent] = []
    caplog.set_level(logging.DEBUG, logger="asgi_redis_session")
    with gate_to(session_redis_url) as gate:
        async with SessionStore.from_url(
            gate.url, prefix=prefix, timeout=20, on_event=events.append
        ) as store:
            session_id = await create(store, n=1)
            gate.shut()
            for _ in range(5):
                with pytest.raises(SessionUnavailable):
                    await open_session(store, session_id).load()
            gate.open()
            await open_session(store, session_id).load()
            await open_session(store, session_id).logout()
            assert store.stats.errors == 5
    lines = [record for record in caplog.records if record.name == "asgi_redis_session"]
    assert [record.levelname for record in lines] == ["ERROR", "WARNING"]
    assert [event.name for event in events].count("unavailable") == 5


async def test_out_of_memory_still_reads_and_ends(prefix: str) -> None:
    """OOM: reads and logout work, writes raise SessionUnavailable and write nothing."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.config_set("maxmemory", "1")
            session = await open_session(store, session_id).load()
            session["n"] = 2
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await session.save()
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await open_session(store, session_id).increment("n")
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await create(store, n=1)
            assert (await open_session(store, session_id).load())["n"] == 1
            await open_session(store, session_id).logout()
            assert not await open_session(store, session_id).still_valid()


async def test_a_replica_still_reads(prefix: str) -> None:
    """Read-only server: loads survive, writes raise SessionUnavailable."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.config_set("replica-serve-stale-data", "yes")
            admin.replicaof("127.0.0.1", "1")
            session = await open_session(store, session_id).load()
            assert session["n"] == 1
            session["n"] = 2
            with pytest.raises(SessionUnavailable, match=r"READONLY|read only"):
                await session.save()
            admin.replicaof("NO", "ONE")
            await session.save()
            assert (await open_session(store, session_id).load())["n"] == 2


async def test_no_key_stays_without_ttl_when_expiry_is_forbidden(prefix: str) -> None:
    """An ACL without PEXPIREAT: creation fails, and no immortal session is left behind."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-pexpireat")
        url = server.url.replace("redis://", "redis://app:pw@")
        async with SessionStore.from_url(url, prefix=prefix) as store:
            with pytest.raises(SessionUnavailable):
                await create(store, n=1)
        assert admin.keys() == []
