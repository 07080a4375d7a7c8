"""What can't be read in Redis: the user is anonymous, the evidence stays, and nobody gets a 500."""

import logging
import pickle
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_redis_session import Session, SessionEvent, SessionGone, SessionStore
from asgi_redis_session.errors import SessionValueError

from .page import Page
from .support.internals import cookie_change, handle_of, open_session

Plant = Callable[["Evidence"], object]

_LONG_MS = 600_000
_SECRET = "hush"

executed: list[str] = []


def execute(what: str) -> None:
    executed.append(what)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return execute, ("boom",)


class Evidence:
    """Something planted under the key of a session's id, and what it looked like then."""

    def __init__(self, admin: redis.Redis, store: SessionStore) -> None:
        self.admin = admin
        self.id = secrets.token_urlsafe(32)
        self.handle = handle_of(store, self.id)
        self.key = f"{store.prefix}:{self.handle}"
        self._before: Any = None

    def hash(self, fields: Mapping[Any, Any]) -> None:
        """A session of ours, but for the fields that are given (None: left out)."""
        whole: dict[Any, Any] = {
            "@v": "1",
            "@created": "1700000000000",
            "@seen": "1700000000000",
            "note": _SECRET,
            **fields,
        }
        for name, value in whole.items():
            if value is not None:
                self.admin.hset(self.key, name, value)

    def seal(self) -> None:
        """Remember what is there, to compare."""
        assert self.admin.pexpire(self.key, _LONG_MS)
        self._before = self._content()

    def is_untouched(self) -> bool:
        """Whether the key is of the same type and holds the same bytes still."""
        return bool(self._content() == self._before)

    def _content(self) -> tuple[object, object]:
        kind = self.admin.type(self.key)
        # The dump of a large hash is in no fixed order.
        read = self.admin.hgetall if kind == b"hash" else self.admin.dump
        return kind, read(self.key)

    def is_unslid(self) -> bool:
        """Whether the TTL was left alone too."""
        return _LONG_MS - 60_000 < int(self.admin.pttl(self.key)) <= _LONG_MS


def metadata(name: str, *texts: str | None) -> dict[str, Plant]:
    def plant(text: str | None) -> Plant:
        return lambda evidence: evidence.hash({"@" + name: text})

    return {f"@{name} {text!r}": plant(text) for text in texts}


def field(raw: bytes) -> Plant:
    return lambda evidence: evidence.hash({"bad": raw})


#: Not a session of ours at all: found out before anything else happens.
AT_THE_DOOR: dict[str, Plant] = {
    "string": lambda e: e.admin.set(e.key, _SECRET),
    "empty string": lambda e: e.admin.set(e.key, ""),
    "string of JSON": lambda e: e.admin.set(e.key, '{"user":"hush"}'),
    "string of pickle": lambda e: e.admin.set(e.key, pickle.dumps(Bomb())),
    "list": lambda e: e.admin.rpush(e.key, _SECRET, "1"),
    "set": lambda e: e.admin.sadd(e.key, _SECRET),
    "sorted set": lambda e: e.admin.zadd(e.key, {_SECRET: 1}),
    "stream": lambda e: e.admin.xadd(e.key, {"@v": "1"}),
    "HyperLogLog": lambda e: e.admin.pfadd(e.key, _SECRET),
    "hash of somebody else": lambda e: e.admin.hset(e.key, "name", _SECRET),
    "hash of old metadata": lambda e: e.admin.hset(e.key, "@created", "1700000000000"),
    **metadata("v", None, "99", "2", "0", "", "1.0", "01", " 1", "1 ", "true", "'1"),
    **metadata("deadline", "", "soon", "nan", "inf", "0x7fffffffffff", "9999999999999.5"),
    **metadata("idle", "", "long", "nan", "inf", "0x10000", "60000.5", "0", "-1"),
}

#: Metadata that only some verbs look at.
METADATA: dict[str, Plant] = {
    **metadata("created", "", "then", "nan", "1.5", "9" * 40),
    **metadata("auth", "then", "9" * 40),
    **metadata("seen", "then"),
    "invalid UTF-8 as @created": lambda e: e.hash({"@created": b"\xff\xfe"}),
}

#: A session of ours with a field named "bad" that can't be read.
FIELDS: dict[str, Plant] = {
    "cut list": field(b"[1,2"),
    "cut dict": field(b'{"a":"hush'),
    "cut inside a character": field(b'["\xc3'),
    "trailing garbage": field(b"[1,2]hush"),
    "two values": field(b"[1][2]"),
    "number and garbage": field(b"1hush"),
    "lonely minus": field(b"-"),
    "invalid UTF-8": field(b"hush\xff\xfe"),
    "invalid UTF-8 after our quote": field(b"'hush\xff"),
    "UTF-8 of a surrogate": field(b"\xed\xa0\x80"),
    "escaped surrogate": field(b'["\\ud800"]'),
    "double quote": field(b'"hush"'),
    "open double quote": field(b'"hush'),
    "NaN": field(b"NaN"),
    "Infinity": field(b"Infinity"),
    "NaN inside": field(b"[NaN]"),
    "minus Infinity": field(b"-Infinity"),
    "number out of range": field(b"1e999"),
    "5000 digits": field(b"7" * 5_000),
    "100000 lists": field(b"[" * 100_000),
    "100000 closed lists": field(b"[" * 100_000 + b"]" * 100_000),
    "100000 dicts": field(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "pickle": field(pickle.dumps(Bomb())),
    "zlib": field(b"\x78\x9c\x4b\x2c\x4e\x01"),
}

NAMES: dict[str, Plant] = {
    "invalid UTF-8 as a name": lambda e: e.hash({b"hush\xff": "1"}),
    "surrogate as a name": lambda e: e.hash({b"\xed\xa0\x80": "1"}),
}

EVERYTHING = {**AT_THE_DOOR, **METADATA, **FIELDS, **NAMES}
CLOSED = [name for name in EVERYTHING if name in AT_THE_DOOR]
OPEN = [name for name in EVERYTHING if name not in AT_THE_DOOR]


@pytest.fixture
def plant(admin: redis.Redis, store: SessionStore) -> Callable[[str], Evidence]:
    def place(what: str) -> Evidence:
        evidence = Evidence(admin, store)
        EVERYTHING[what](evidence)
        evidence.seal()
        return evidence

    return place


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page


def look(session: Session) -> dict[str, Any]:
    """Read all that can be read."""
    assert session.handle is session.user_id is None
    assert session.created_at is session.authenticated_at is session.expires_at is None
    assert session.is_new
    return dict(session)


def is_reported_once(events: list[SessionEvent], evidence: Evidence) -> bool:
    """Whether there is one event, which says which session and why, but not what is in it."""
    (event,) = events
    return (
        event.name == "corrupt"
        and event.handle == evidence.handle
        and bool(event.detail)
        and _SECRET not in repr(event)
    )


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
        assert _SECRET not in caplog.text
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
    assert await session.fetch("note") == {"note": _SECRET}
    assert await session.still_valid()
    assert events == []
    with pytest.raises(SessionValueError, match=r"session\['bad'\]") as caught:
        await session.increment("bad")
    assert _SECRET not in str(caught.value)
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
        admin.set(evidence.key, _SECRET)
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_pickle_is_never_executed(
    admin: redis.Redis, store: SessionStore, protocol: int
) -> None:
    """Bytes that would run code when unpickled run nothing, wherever they are planted."""
    raw = pickle.dumps(Bomb(), protocol)
    plants: list[dict[Any, Any]] = [{"bad": raw}, {raw: "1"}]
    plants += [{name: raw} for name in ("@v", "@created", "@deadline", "@idle", "@user", "@auth")]
    for fields in plants:
        evidence = Evidence(admin, store)
        evidence.hash(fields)
        await open_session(store, evidence.id).load()
        await open_session(store, evidence.id).fetch("bad")
        await store.get(evidence.handle)
    assert executed == []


_raw = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"1", b"0", b"-1", b"1700000000000", b"9" * 20, b"1e5", b"[1,2", b"nan", b""]),
    st.integers(-5, 2**45).map(lambda n: b"%d" % n),
)


_ours = st.sampled_from([b"@created", b"@deadline", b"@idle", b"@auth", b"@seen", b"@user"])


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.builds(
        dict.__or__,
        st.dictionaries(st.binary(max_size=6), _raw, max_size=4),
        st.dictionaries(_ours, _raw, max_size=6),
    )
)
@example({b"@deadline": b"99999999999999999999"})
@example({b"@created": b"99999999999999999999"})
@example({b"@idle": b"99999999999999999999"})
@example({b"@idle": b"1", b"@auth": b""})
async def test_whatever_a_hash_holds_no_request_fails(
    admin: redis.Redis,
    store: SessionStore,
    page: Page,
    events: list[SessionEvent],
    fields: dict[bytes, bytes],
) -> None:
    """A hash with random fields and metadata: requests that read, then write, all get their 200."""
    evidence = Evidence(admin, store)
    evidence.hash(fields)
    evidence.seal()
    page.client.cookies.clear()
    page.client.cookies.set("session", evidence.id)
    events.clear()
    try:

        def inspect(session: Session) -> None:
            repr(session)
            dict(session)
            for name in ("handle", "user_id", "created_at", "authenticated_at", "expires_at"):
                getattr(session, name)

        assert (await page(inspect)).status_code == 200
        if [event.name for event in events] == ["corrupt"]:
            # An idle time of a few milliseconds may be over by now, or while we look.
            assert evidence.is_untouched() or (
                b"@idle" in fields and not admin.exists(evidence.key)
            )
        await store.get(evidence.handle)
        assert (await page(lambda session: session.update(z=1))).status_code == 200
    finally:
        admin.delete(evidence.key)
