"""Sessions that nobody can read, as evidence that must stay as it is."""

import pickle
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import redis

from asgi_redis_session import Session, SessionEvent, SessionStore

from ..support.internals import handle_of

Plant = Callable[["Evidence"], object]

_LONG_MS = 600_000
SECRET = "hush"

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
            "note": SECRET,
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
    "string": lambda e: e.admin.set(e.key, SECRET),
    "empty string": lambda e: e.admin.set(e.key, ""),
    "string of JSON": lambda e: e.admin.set(e.key, '{"user":"hush"}'),
    "string of pickle": lambda e: e.admin.set(e.key, pickle.dumps(Bomb())),
    "list": lambda e: e.admin.rpush(e.key, SECRET, "1"),
    "set": lambda e: e.admin.sadd(e.key, SECRET),
    "sorted set": lambda e: e.admin.zadd(e.key, {SECRET: 1}),
    "stream": lambda e: e.admin.xadd(e.key, {"@v": "1"}),
    "HyperLogLog": lambda e: e.admin.pfadd(e.key, SECRET),
    "hash of somebody else": lambda e: e.admin.hset(e.key, "name", SECRET),
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
        and SECRET not in repr(event)
    )
