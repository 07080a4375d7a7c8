"""
A sample of what Redis holds: whether all of it is what this library writes.

It is read and left as it is. A request looks only at its own session, so damage in sessions that no
request uses is seen only here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ..engine.codec import CorruptValue, StoredHash
from ..engine.ids import is_handle
from ..engine.places import Place
from ..engine.reads import defaults, judge
from ..engine.scripts import CORRUPT

#: The sample: what SCAN shows of the prefix in so many steps of so many keys, and no more than this
#: of either kind. A step takes Redis less than a millisecond.
_STEPS, _STEP_KEYS, _MOST = 20, 50, 100
#: How many places of a user's list are looked at, at either end: the oldest and the latest.
_ENDS = 10


class Sample(NamedTuple):
    """How many keys were read, and which of them hold what this library does not write."""

    sessions: int
    lists: int
    bad_sessions: Sequence[str]
    bad_lists: int


async def take_sample(redis: Redis, prefix: bytes) -> Sample | None:
    """
    Read some sessions and some users' lists of one server; None if SCAN is not permitted.

    *prefix*: what all keys of the store begin with.
    """
    try:
        names = await _names(redis, prefix)
    except NoPermissionError:
        return None
    handles = [name for name in names if is_handle(name)][:_MOST]
    lists = [name for name in names if name.startswith("user:")][:_MOST]
    hashes = redis.pipeline(transaction=False)
    for handle in handles:
        hashes.hgetall(_key(prefix, handle))
    indexes = redis.pipeline(transaction=False)
    for name in lists:
        indexes.zrange(_key(prefix, name), 0, _ENDS - 1, withscores=True)
        indexes.zrevrange(_key(prefix, name), 0, _ENDS - 1, withscores=True)
    found = await hashes.execute(raise_on_error=False)
    ends = await indexes.execute(raise_on_error=False)
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return Sample(
        len(handles),
        len(lists),
        [name for name, raws in zip(handles, found, strict=True) if not _is_session(raws)],
        sum(not (_is_list(oldest) and _is_list(latest)) for oldest, latest in pairs),
    )


async def _names(redis: Redis, prefix: bytes) -> list[str]:
    """Return the names of some keys, without the prefix."""
    names: set[str] = set()
    cursor = 0
    for _ in range(_STEPS):
        found: Any = await redis.scan(cursor, match=prefix + b"*", count=_STEP_KEYS)
        cursor, keys = found
        names.update(key[len(prefix) :].decode(errors="replace") for key in keys)
        if not cursor or len(names) >= 2 * _MOST:
            break
    return sorted(names)


def _key(prefix: bytes, name: str) -> bytes:
    return prefix + name.encode()


def _is_session(raws: Any) -> bool:
    """Whether a session can be read from this reply; one that has ended meanwhile can."""
    if isinstance(raws, ResponseError):
        return not _is_wrong_type(raws)
    if judge(defaults(1), raws, 0).state == CORRUPT:
        return False
    try:
        StoredHash(raws)
    except CorruptValue:
        return False
    return True


def _is_list(places: Any) -> bool:
    if isinstance(places, ResponseError):
        return not _is_wrong_type(places)
    return all(
        Place(member.decode(errors="replace"), b"%r" % score).is_possible
        for member, score in places
    )


def _is_wrong_type(error: ResponseError) -> bool:
    return str(error).startswith("WRONGTYPE")
