"""What can't be read in Redis: the user is anonymous, the evidence stays, and nobody gets a 500."""

import logging
import secrets
from collections.abc import Callable

import pytest
import redis

from asgi_redis_session import Session, SessionEvent, SessionGone, SessionStore
from asgi_redis_session.errors import SessionValueError

from ..support.internals import cookie_change, handle_of, open_session
from ..support.page import Page
from .evidence import (
    CLOSED,
    EVERYTHING,
    FIELDS,
    METADATA,
    NAMES,
    OPEN,
    SECRET,
    Evidence,
    executed,
    is_reported_once,
    look,
)

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize("what", EVERYTHING)
async def test_the_request_is_anonymous_and_the_evidence_stays(
    plant: Callable[[str], Evidence],
    page: Page,
    events: list[SessionEvent],
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    """Each request is answered as an anonymous one and reported once; nothing in Redis changes."""
    evidence = plant(what)
    page.client.cookies.set("session", evidence.id)
    for _ in range(2):
        events.clear()
        caplog.clear()
        response = await page(look)
        assert response.status_code == 200
        assert page.seen == {}
        assert "set-cookie" not in response.headers
        assert evidence.is_untouched()
        assert evidence.is_unslid() or what in OPEN
        assert is_reported_once(events, evidence)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert evidence.handle in record.getMessage()
        assert SECRET not in caplog.text
        assert evidence.id not in caplog.text
    assert executed == []


@pytest.mark.parametrize("what", EVERYTHING)
async def test_a_write_gets_a_new_id_and_leaves_the_evidence_alone(
    plant: Callable[[str], Evidence], page: Page, store: SessionStore, what: str
) -> None:
    """Who writes gets a session of their own, which works; the unreadable one stays as it is."""
    evidence = plant(what)
    page.client.cookies.set("session", evidence.id)
    response = await page(lambda session: session.update(fresh=1))
    assert response.status_code == 200
    new_id = response.cookies["session"]
    assert new_id != evidence.id
    assert evidence.is_untouched()
    page.client.cookies.clear()
    page.client.cookies.set("session", new_id)
    await page(dict)
    assert page.seen == {"fresh": 1}
    info = await store.get(handle_of(store, new_id))
    assert info is not None
    assert info.fields == {"fresh": 1}


@pytest.mark.parametrize("what", EVERYTHING)
async def test_an_unused_session_is_not_looked_into(
    plant: Callable[[str], Evidence],
    store: SessionStore,
    events: list[SessionEvent],
    what: str,
) -> None:
    """The refresh that nobody waits for neither reports nor changes what it can't read."""
    evidence = plant(what)
    page = Page(store, autoload=False)
    async with page.client:
        page.client.cookies.set("session", evidence.id)
        response = await page(lambda session: None)
        await store.drain()
    assert response.status_code == 200
    assert evidence.is_untouched()
    assert evidence.is_unslid() or what in OPEN
    assert events == []


@pytest.mark.parametrize("what", EVERYTHING)
async def test_the_store_finds_nothing_there(
    plant: Callable[[str], Evidence], store: SessionStore, events: list[SessionEvent], what: str
) -> None:
    """`store.get` returns None, reports it once, and leaves key and TTL alone."""
    evidence = plant(what)
    assert await store.get(evidence.handle) is None
    assert is_reported_once(events, evidence)
    assert evidence.is_untouched()
    assert evidence.is_unslid()


@pytest.mark.parametrize("what", CLOSED)
async def test_no_verb_touches_what_is_no_session(
    plant: Callable[[str], Evidence], store: SessionStore, events: list[SessionEvent], what: str
) -> None:
    """Unloaded verbs treat it as absent, report it, and leave it alone, its TTL included."""
    evidence = plant(what)

    def session() -> Session:
        events.clear()
        return open_session(store, evidence.id)

    assert await session().still_valid() is False
    assert is_reported_once(events, evidence)

    assert await session().fetch("name", "note") == {}
    assert is_reported_once(events, evidence)
    assert await session().fetch() == {}
    assert is_reported_once(events, evidence)

    counting = session()
    assert await counting.increment("n", 3) == 3
    assert is_reported_once(events, evidence)
    assert counting.is_new
    await counting.save()
    change = cookie_change(counting)
    assert change is not None
    assert change.session_id not in (None, evidence.id)

    leaving = session()
    await leaving.logout()
    assert cookie_change(leaving) is None
    assert not await store.revoke(evidence.handle)

    assert evidence.is_untouched()
    assert evidence.is_unslid()


@pytest.mark.parametrize("what", EVERYTHING)
async def test_no_verb_of_a_loaded_session_touches_the_evidence(
    plant: Callable[[str], Evidence], store: SessionStore, events: list[SessionEvent], what: str
) -> None:
    """Once loaded, the session is a new one, and none of its verbs means the unreadable one."""
    evidence = plant(what)
    session = await open_session(store, evidence.id).load()
    events.clear()
    assert await session.still_valid() is False
    assert await session.fetch("note", "bad") == {}
    assert await session.increment("n") == 1
    session.clear()
    session.renew()
    session.set_lifetime(idle=60, absolute=120)
    await session.save()
    await session.logout()
    assert cookie_change(session) is None
    assert events == []
    await session.reload()
    assert dict(session) == {}
    assert evidence.is_untouched()


@pytest.mark.parametrize("what", METADATA)
@pytest.mark.parametrize("end", ["logout", "revoke"])
async def test_a_session_without_a_readable_beginning_can_be_ended(
    plant: Callable[[str], Evidence], store: SessionStore, what: str, end: str
) -> None:
    """Nobody can use it, but somebody may repair it: what ends sessions ends it as well."""
    evidence = plant(what)
    if end == "logout":
        await open_session(store, evidence.id).logout()
    else:
        assert await store.revoke(evidence.handle)
    assert not evidence.admin.exists(evidence.key)


@pytest.mark.parametrize("what", FIELDS)
async def test_verbs_that_read_one_field_trip_over_that_field_only(
    plant: Callable[[str], Evidence], store: SessionStore, events: list[SessionEvent], what: str
) -> None:
    """`fetch` of a good field works, of the bad one finds nothing; `increment` refuses it."""
    evidence = plant(what)
    session = open_session(store, evidence.id)
    assert await session.fetch("note") == {"note": SECRET}
    assert await session.still_valid()
    assert events == []
    with pytest.raises(SessionValueError, match=r"session\['bad'\]") as caught:
        await session.increment("bad")
    assert SECRET not in str(caught.value)
    assert events == []
    assert await session.fetch("note", "bad") == {}
    assert is_reported_once(events, evidence)
    assert evidence.is_untouched()


@pytest.mark.parametrize("what", [*FIELDS, *NAMES])
async def test_a_logout_ends_a_session_of_ours_also_if_a_field_is_bad(
    plant: Callable[[str], Evidence], store: SessionStore, admin: redis.Redis, what: str
) -> None:
    """`logout` reads no fields: it was asked to end this session, and does so."""
    evidence = plant(what)
    session = open_session(store, evidence.id)
    await session.logout()
    assert not admin.exists(evidence.key)
    change = cookie_change(session)
    assert change is not None
    assert change.session_id is None


async def save(session: Session) -> None:
    await session.save()


async def renew(session: Session) -> None:
    session.renew()
    await session.save()


async def increment(session: Session) -> None:
    await session.increment("n")


@pytest.mark.parametrize("what", CLOSED)
async def test_what_turns_unreadable_under_a_request_is_not_overwritten(
    plant: Callable[[str], Evidence],
    store: SessionStore,
    admin: redis.Redis,
    events: list[SessionEvent],
    what: str,
) -> None:
    """A commit that finds something else in its session's place writes nothing and says so."""
    evidence = Evidence(admin, store)
    for verb in (save, renew, increment):
        admin.delete(evidence.key)
        evidence.hash({"n": "1"})
        session = await open_session(store, evidence.id).load()
        session["note"] = "changed"
        await store.drain()
        admin.delete(evidence.key)
        EVERYTHING[what](evidence)
        evidence.seal()
        events.clear()
        with pytest.raises(SessionGone):
            await verb(session)
        assert is_reported_once(events, evidence)
        assert evidence.is_untouched()
        assert evidence.is_unslid()


async def test_an_unreadable_session_under_an_older_secret_is_reported_as_such(
    session_redis_url: str, prefix: str, admin: redis.Redis
) -> None:
    """With two secrets, it is found under the older one: one `corrupt` event, no `unknown_id`."""
    old, new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    events: list[SessionEvent] = []
    async with (
        SessionStore.from_url(session_redis_url, prefix=prefix, secret=old) as before,
        SessionStore.from_url(
            session_redis_url, prefix=prefix, secret=[new, old], on_event=events.append
        ) as store,
    ):
        evidence = Evidence(admin, before)
        admin.set(evidence.key, SECRET)
        evidence.seal()
        for _ in range(2):
            events.clear()
            session = await open_session(store, evidence.id).load()
            assert dict(session) == {}
            assert is_reported_once(events, evidence)
        assert await open_session(store, evidence.id).fetch("note") == {}
        assert await open_session(store, evidence.id).increment("n") == 1
        await open_session(store, evidence.id).logout()
        assert evidence.is_untouched()
        assert evidence.is_unslid()
