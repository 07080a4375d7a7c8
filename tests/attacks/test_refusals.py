"""A server that refuses: what it quotes is not repeated, and each outage is in the log once."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionError, SessionEvent, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.internals import open_session
from ..support.sessions import create
from .conftest import Cases

WORD = "hunter2"
HANDLE = "feedfacefeedfacefeedfacefeedface"


async def _write(store: SessionStore) -> None:
    session = await open_session(store).load()
    session["name"] = WORD
    await session.save()


#: Verbs whose scripts carry a value, a user id or a handle. A load that extends has no script.
VERBS: list[Callable[[SessionStore], Awaitable[Any]]] = [
    _write,
    lambda store: open_session(store, "x" * 43, extends=False).load(),
    lambda store: open_session(store, "x" * 43).fetch(WORD),
    lambda store: open_session(store).login(WORD),
    lambda store: open_session(store, "x" * 43).increment(WORD),
    lambda store: open_session(store, "x" * 43).logout(),
    lambda store: store.get(HANDLE),
    lambda store: store.revoke(HANDLE),
    lambda store: store.users.list(WORD),
    lambda store: store.users.revoke_all(WORD),
]


async def test_an_unknown_command_is_not_quoted(
    caplog: pytest.LogCaptureFixture, cases: Cases
) -> None:
    """
    A proxy that does not know EVALSHA answers with its arguments, and with the password if it does
    not know HELLO: neither the error, nor an event, nor the log repeats them.
    """
    caplog.set_level(logging.DEBUG)
    for command, reason in (("EVALSHA", "unknown command"), ("HELLO", "set protocol=2")):
        options = {"rename-command": f'{command} ""', "requirepass": WORD}
        with DevServer(search=False, options=options) as server:
            url = f"{server.url}?protocol=3"
            for verb in VERBS:
                events: list[SessionEvent] = []
                async with SessionStore.from_url(url, on_event=events.append) as store:
                    with pytest.raises(SessionError) as refusal:
                        await verb(store)
                said = [str(refusal.value), repr(refusal.value), repr(events), caplog.text]
                assert reason in said[0]
                assert not any(WORD in text or HANDLE in text for text in said)
                cases()


@pytest.fixture
def full() -> Iterator[tuple[str, Any]]:
    """A server that can be filled: its URL, and a client."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        yield server.url, admin


async def test_each_outage_is_logged_once(
    full: tuple[str, Any], caplog: pytest.LogCaptureFixture, cases: Cases
) -> None:
    """One line when Redis begins to refuse, one when it stops; a second outage is not the first."""
    url, admin = full
    async with SessionStore.from_url(url) as store:
        session = await open_session(store, await create(store, n=0)).load()
        for round_ in range(1, 4):
            admin.config_set("maxmemory", 1)
            for _ in range(5):  # by turns, with the same reason
                session["n"] = round_
                with pytest.raises(SessionUnavailable):
                    await session.save()
                with pytest.raises(SessionUnavailable):
                    await create(store, n=1)
                await open_session(store, session_id="x" * 43).load()
            admin.config_set("maxmemory", 0)
            await session.save()
            await create(store, n=1)
            levels = [record.levelname for record in caplog.records]
            assert levels == ["ERROR", "WARNING"] * round_
            cases()


async def test_a_server_that_refuses_now_and_then_fills_no_log(
    full: tuple[str, Any], caplog: pytest.LogCaptureFixture, cases: Cases
) -> None:
    """A missing permission that only some commits need: no line for each of them."""
    url, admin = full
    admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-hdel")
    async with SessionStore.from_url(url.replace("redis://", "redis://app:pw@")) as store:
        session_id = await create(store, a=1, b=2)
        session = await open_session(store, session_id, extends=False).load()  # no commit.lua
        for number in range(50):
            session["a"] = number
            await session.save()
            del session["b"]
            with pytest.raises(SessionUnavailable, match="hdel"):
                await session.save()
            session["b"] = 2
            cases()
    assert len(caplog.records) == 20
