"""The id never leaks."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_redis_session import Session, SessionError, SessionEvent, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.examples import examples
from ..support.internals import cookie_change, handle_of, open_session, start_response
from ..support.page import Page
from .conftest import cookie, names_of

ID = "A" * 40 + "_-9"


async def nothing(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    """Leave the session as it is."""


async def write(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = [1]
    await session.save()


async def write_rubbish(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = []
    session["n"].append(object())
    await session.save()


async def assign_rubbish(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["bad"] = {1: 2}


async def renew(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.renew()
    await session.save()


async def fetch(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.fetch("n", "x")


async def increment(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.increment("counter")


async def increment_text(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["t"] = "text"
    await session.save()
    await session.increment("t")


async def clear(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.clear()
    await session.save()


async def logout(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.logout()


async def use_unloaded(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    session["n"]


async def seal(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    start_response(session)
    session.renew()
    session["n"] = 2


async def prolong(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.set_lifetime(absolute=None)


async def revoke(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = 1
    await store.revoke(session.handle or "")
    await session.save()


async def spoil(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    if session.handle:
        admin.hset(f"{store.prefix}:{session.handle}", "bad", b"[1,2")
    await session.reload()


Step = Callable[[Session, SessionStore, redis.Redis], Any]


STEPS: list[Step] = [
    *(
        nothing,
        write,
        write_rubbish,
        assign_rubbish,
        renew,
        fetch,
        increment,
        increment_text,
        clear,
    ),
    *(logout, use_unloaded, seal, prolong, revoke, spoil),
]


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
async def test_the_id_is_in_no_log_repr_event_or_error(
    store: SessionStore,
    admin: redis.Redis,
    events: list[SessionEvent],
    caplog: pytest.LogCaptureFixture,
    steps: list[Step],
) -> None:
    """Whatever a request does, its secret ids appear in nothing that people read."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    events.clear()
    said: list[str] = []
    secrets = {ID}
    session_id: str | None = ID
    for step in steps:
        session = open_session(store, session_id)
        try:
            await step(session, store, admin)
        except SessionError as error:
            said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        said += [repr(session), str(session), f"{session}"]
        if session.loaded:
            said += [repr(dict(session)), repr(session.handle), repr(session.items())]
        change = cookie_change(session)
        if change is not None:
            session_id = change.session_id
        if session_id is not None:
            secrets.add(session_id)
            said.append(repr(await store.get(handle_of(store, session_id))))
    said += [repr(events), repr(store), repr(store.stats), caplog.text]
    said += [repr(record.__dict__) for record in caplog.records]
    for text in said:
        assert not any(secret in text for secret in secrets)


async def test_the_id_is_in_nothing_that_a_failing_request_logs(
    admin: redis.Redis, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests that end in 500, in a conflict or as corrupt log what happened, without the id."""
    caplog.set_level(logging.DEBUG)
    page = Page(store)

    def spoil_value(session: Session) -> None:
        session["cart"].append({1})

    def fail(session: Session) -> None:
        raise RuntimeError(repr(session))

    async with page.client:
        response = await page(lambda session: session.update(cart=[]))
        session_id = response.cookies["session"]
        assert (await page(spoil_value)).status_code == 500
        assert (await page(fail)).status_code == 500
        ours = b"session=" + session_id.encode()
        await page(dict, cookie(ours + b"x; " + ours))
        handle = handle_of(store, session_id)
        admin.hset(f"{store.prefix}:{handle}", "cart", "[1")
        assert (await page(dict)).status_code == 200
        assert page.seen == {}
    assert caplog.records
    assert session_id not in caplog.text


async def test_the_id_is_in_no_error_while_redis_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outage is reported with Redis' address, but without ids, values or the password."""
    caplog.set_level(logging.DEBUG)
    events: list[SessionEvent] = []
    url = "redis://ada:hushhush@127.0.0.1:1/0"
    async with SessionStore.from_url(url, on_event=events.append) as store:
        session = open_session(store, ID)
        said: list[str] = []
        for verb in (session.load, session.logout, session.still_valid, session.fetch):
            with pytest.raises(SessionError) as caught:
                await verb()
            said += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
        said += [repr(session), repr(events), caplog.text, repr(store)]
    assert "127.0.0.1:1" in caplog.text
    assert set(names_of(events)) == {"unavailable"}
    for text in said:
        assert ID not in text
        assert "hushhush" not in text


async def test_the_id_is_nowhere_in_redis(kit: SessionKit, page: Page, admin: redis.Redis) -> None:
    """Neither keys, nor fields, nor the commands that MONITOR shows contain the id."""
    with kit.count() as commands:
        response = await page(lambda session: session.update(user="ada"))
        session_id = response.cookies["session"]
        await page(lambda session: session.renew())
        renewed = page.client.cookies["session"]
        await page(dict)
    assert renewed != session_id
    assert commands.lines
    keys = kit.keys()
    seen = repr([commands.lines, keys, [admin.hgetall(key) for key in keys]])
    assert session_id not in seen
    assert renewed not in seen
