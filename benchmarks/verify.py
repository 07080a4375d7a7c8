"""
Does a contender do its work? Asked before anything is measured.

Whoever doesn't read the session from Redis, doesn't write it there, or leaves it there after
logging out, is refused: its figures would mean nothing.
"""

from typing import Any

from redis import Redis

from .contenders import FIELDS, Contender
from .load import Worker


class NotVerified(Exception):
    """This contender's session is not really read, written or ended."""


def cookie_of(header: str) -> str:
    """The value in a `Set-Cookie` header."""
    return header.partition(";")[0].removeprefix("session=")


def verify(target: Worker, redis: Redis) -> dict[str, Any]:
    """Raise `NotVerified`, or say what was seen: Redis commands of single requests."""
    if target.contender.clone is None:
        _expect(target.request("GET", "/read")[1] == "ada", "reads nothing")
        return {}
    cookie = _start(target, "small")
    seen: dict[str, Any] = {"read": _commands(redis, lambda: _read(target, cookie))}
    cookie, seen["write"] = _verify_write(target, redis, cookie)
    seen["untouched"] = _commands(redis, lambda: target.request("GET", "/untouched", cookie))
    _verify_big(target)
    _verify_login(target, redis)
    if target.contender.in_redis:
        _verify_read_from_redis(target, redis)
    return seen


def _start(target: Worker, size: str) -> str:
    status, _, header = target.request("POST", f"/start/{size}")
    _expect(status == 200 and header.startswith("session="), "starts no session")
    return cookie_of(header)


def _read(target: Worker, cookie: str) -> None:
    _expect(target.request("GET", "/read", cookie)[1] == FIELDS["user"], "doesn't read its session")


def _verify_write(target: Worker, redis: Redis, cookie: str) -> tuple[str, float]:
    """Three times one more, found again in the session, and in the bytes that Redis holds."""
    commands = 0.0
    for expected in (2, 3, 4):
        before, counted = _contents(redis), _count(redis)
        _, body, header = target.request("POST", "/write", cookie)
        commands = _count(redis) - counted
        _expect(body == str(expected), "doesn't count on")
        cookie = cookie_of(header) if header else cookie
        if target.contender.in_redis:
            _expect(_contents(redis) != before, "writes nothing to Redis")
    shown = target.request("GET", "/show", cookie)[1].replace(" ", "")
    _expect('"n":4' in shown and '"cart":["SKU-1"]' in shown, "has lost a field")
    return cookie, commands


def _verify_big(target: Worker) -> None:
    if not target.contender.in_redis:
        return  # two hundred fields don't fit a cookie
    cookie = _start(target, "big")
    body = target.request("GET", "/big/read", cookie)[1]
    _expect(body == "value 100 of two hundred", "doesn't read a big session")
    target.request("POST", "/big/write", cookie)
    _expect(target.request("POST", "/big/write", cookie)[1] == "3", "doesn't write a big session")


def _verify_login(target: Worker, redis: Redis) -> None:
    before = len(_lasting(redis))
    _, _, header = target.request("POST", "/login")
    cookie = cookie_of(header)
    _expect(len(cookie) > 20, "gives no cookie for a login")
    _read(target, cookie)
    _, _, header = target.request("POST", "/logout", cookie)
    _expect(header != "", "leaves the browser its cookie after a logout")
    if target.contender.in_redis:
        _expect(target.request("GET", "/read", cookie)[0] >= 400, "is still there after a logout")
        _expect(len(_lasting(redis)) <= before, "leaves keys behind after a logout")


def _verify_read_from_redis(target: Worker, redis: Redis) -> None:
    """Take the session away behind its back: whoever still answers has not looked."""
    cookie = _start(target, "small")
    redis.flushdb()
    status, body, _ = target.request("GET", "/read", cookie)
    _expect(status >= 400 or body != FIELDS["user"], "doesn't read from Redis")


def _commands(redis: Redis, ask: Any) -> int:
    ask()
    before = _count(redis)
    ask()
    return _count(redis) - before


def _count(redis: Redis) -> int:
    """Commands so far, those inside scripts included, those of this function not."""
    stats: Any = redis.info("commandstats")
    ours = ("cmdstat_info", "cmdstat_select", "cmdstat_dump", "cmdstat_scan", "cmdstat_keys")
    return sum(entry["calls"] for name, entry in stats.items() if name not in ours)


#: A key that ends within this time (s) is no session, but may say for a while why one has ended.
MOMENT = 60


def _lasting(redis: Redis) -> list[bytes]:
    keys: Any = redis.keys()
    return [key for key in keys if not 0 <= redis.ttl(key) <= MOMENT]


def _contents(redis: Redis) -> dict[bytes, bytes]:
    keys: Any = redis.keys()
    return {key: redis.dump(key) for key in keys}  # type: ignore[misc]


def _expect(kept: bool, otherwise: str) -> None:
    if not kept:
        raise NotVerified(otherwise)


def describe(contender: Contender, error: NotVerified) -> str:
    return f"{contender.title} is not measured: it {error}."
