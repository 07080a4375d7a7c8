"""
Many sessions, quickly: one that the contender itself has stored, and copies of exactly its bytes
under ids of their own.
"""

import random
from collections.abc import Callable
from typing import Any

from hiredis import pack_command
from redis import Redis

from .load import Worker

CHUNK = 1000
TTL_MS = 3_600_000
#: Cookies that the load sends; more than a sample has requests.
MOST_COOKIES = 100_000

Clone = Callable[[], tuple[str, str | None]]


def template(target: Worker, redis: Redis, size: str) -> Any:
    """What the contender stores for a session of this size; its database must be empty."""
    target.request("POST", f"/start/{size}")
    keys: Any = redis.keys()
    (key,) = keys
    dump = redis.dump(key)
    redis.delete(key)
    return dump


def copy(redis: Redis, clone: Clone, dump: Any, count: int) -> list[str]:
    """Store *dump* under *count* new keys; returns the cookies that find them."""
    before: Any = redis.dbsize()
    made = [clone() for _ in range(count)]
    link: Any = redis.connection_pool.get_connection()
    link.send_command("CLIENT", "REPLY", "OFF")  # a million times OK takes long to read
    for start in range(0, count, CHUNK):
        commands: Any = [("RESTORE", key, TTL_MS, dump) for _, key in made[start : start + CHUNK]]
        link.send_packed_command([b"".join(map(pack_command, commands))])
    link.send_command("CLIENT", "REPLY", "ON")
    link.read_response()
    redis.connection_pool.release(link)
    stored: Any = redis.dbsize()
    if stored != before + count:
        raise SystemExit(f"Redis stored {stored - before} of {count} copies of a session.")
    return [cookie for cookie, _ in made]


def fill(target: Worker, redis: Redis, sizes: dict[str, int]) -> dict[str, list[str]]:
    """So many sessions of each size, in an empty database: the cookies to send, in no order."""
    clone, cookies = target.contender.clone, {}
    if clone is None:
        return {size: ["none"] for size in sizes}
    if target.contender.in_redis:
        dumps = {size: template(target, redis, size) for size in sizes}
        for size, count in sizes.items():
            cookies[size] = copy(redis, clone, dumps[size], count)
    else:
        cookies = {size: [clone()[0] for _ in range(count)] for size, count in sizes.items()}
    for size, some in cookies.items():
        random.Random(1).shuffle(some)
        _find(target, size, some[-1])
        del some[MOST_COOKIES:]
    return cookies


def _find(target: Worker, size: str, cookie: str) -> None:
    path, expected = {
        "small": ("/read", "ada"),
        "big": ("/big/read", "value 100 of two hundred"),
    }[size]
    if target.request("GET", path, cookie)[1] != expected:
        raise SystemExit(f"{target.contender.title}: a copied session is not found.")


def bytes_each(target: Worker, redis: Redis, size: str, count: int) -> int:
    """What Redis needs for a session, its key and its expiry included; empties the database."""
    assert target.contender.clone is not None
    redis.flushdb()
    dump = template(target, redis, size)
    before = used(redis)
    copy(redis, target.contender.clone, dump, count)
    each = round((used(redis) - before) / count)
    redis.flushdb()
    return each


def used(redis: Redis) -> int:
    used: Any = redis.info("memory")
    return int(used["used_memory"])
