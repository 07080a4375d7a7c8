"""
A sample of what Redis holds: whether all of it is what this library writes.

It is read and left as it is. A request looks only at its own session, so damage in sessions that no
request uses is seen only here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ..engine.codec import CorruptValue, StoredHash
from ..engine.ids import is_handle
from ..engine.places import Place
from ..engine.reads import judge
from ..engine.scripts import CORRUPT
from ..engine.sealing import Sealing, is_sealed

#: The sample: what SCAN shows of the prefix in so many steps of so many keys, and no more than this
#: of either kind. A step takes Redis less than a millisecond.
_STEPS, _STEP_KEYS, _MOST = 20, 50, 100
#: What PTTL answers for a key that never expires.
_NO_TTL = -1
#: How many places of a user's list are looked at, at either end: the oldest and the latest.
_ENDS = 10


class Sample(NamedTuple):
    """
    How many keys were read, and which of them hold what this library does not write.

    *sealed*: how many sessions hold encrypted values. *unsealed*: how many hold values that are
    not, though the store is one that encrypts. *shapes*: of each session, how many fields it has,
    and the length of the longest name or value. *immortal*: the keys without a TTL. *places*: how
    many places of users were looked at; *dead*: how many of them have no session. A node of a
    Cluster can't say that, so both are 0 there.
    """

    sessions: int
    lists: int
    bad_sessions: Sequence[str]
    bad_lists: int
    sealed: int = 0
    unsealed: int = 0
    shapes: Sequence[tuple[int, int]] = ()
    immortal: Sequence[str] = ()
    places: int = 0
    dead: int = 0


async def take_sample(
    redis: Redis, prefix: bytes, sealing: Sealing | None, *, is_node: bool
) -> Sample | None:
    """
    Read some sessions and some users' lists of one server; None if SCAN is not permitted.

    *prefix*: what all keys of the store begin with. *sealing*: how it encrypts. *is_node*: whether
    a user's sessions may be on other servers.
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
        hashes.pttl(_key(prefix, handle))
    indexes = redis.pipeline(transaction=False)
    for name in lists:
        indexes.zrange(_key(prefix, name), 0, _ENDS - 1, withscores=True)
        indexes.zrevrange(_key(prefix, name), 0, _ENDS - 1, withscores=True)
        indexes.pttl(_key(prefix, name))
    replies = await hashes.execute(raise_on_error=False)
    found, ttls = replies[::2], replies[1::2]
    replies = await indexes.execute(raise_on_error=False)
    oldest, latest, ttls_of_lists = replies[::3], replies[1::3], replies[2::3]
    pairs = list(zip(oldest, latest, strict=True))
    held = [list(_values(raws)) for raws in found]
    listed = set() if is_node else {handle for ends in replies for handle in _handles(ends)}
    alive = [await redis.exists(_key(prefix, handle)) for handle in sorted(listed)[:_MOST]]
    return Sample(
        len(handles),
        len(lists),
        [name for name, raws in zip(handles, found, strict=True) if not _is_session(raws)],
        sum(not (_is_list(oldest) and _is_list(latest)) for oldest, latest in pairs),
        sum(any(is_sealed(raw) for _, raw in values) for values in held),
        sum(any(_is_unsealed(name, raw, sealing) for name, raw in values) for values in held),
        [_shape(raws) for raws in found if isinstance(raws, dict) and raws],
        [
            name
            for name, ttl in zip([*handles, *lists], [*ttls, *ttls_of_lists], strict=True)
            if ttl == _NO_TTL
        ],
        len(alive),
        alive.count(0),
    )


async def count_plain(redis: Redis, prefix: bytes, sealing: Sealing) -> int:
    """Count the sessions of one server that hold values which *sealing* would encrypt."""
    number, cursor = 0, 0
    while True:
        found: Any = await redis.scan(cursor, match=prefix + b"*", count=_STEP_KEYS)
        cursor, keys = found
        hashes = redis.pipeline(transaction=False)
        # SCAN may show a key twice, but not often: what is counted here is only compared with zero.
        for key in {key for key in keys if is_handle(key[len(prefix) :].decode(errors="replace"))}:
            hashes.hgetall(key)
        for raws in await hashes.execute(raise_on_error=False):
            number += any(_is_unsealed(name, raw, sealing) for name, raw in _values(raws))
        if not cursor:
            return number


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
    if judge(1, raws, 0).state == CORRUPT:
        return False
    try:
        StoredHash({name: raw for name, raw in raws.items() if not is_sealed(raw)})
    except CorruptValue:
        return False
    return True


def _shape(raws: dict[bytes, bytes]) -> tuple[int, int]:
    return len(raws), max(len(part) for pair in raws.items() for part in pair)


def _handles(places: Any) -> Iterator[str]:
    """The handles that a part of a user's list names; none of what is no list."""
    for member, _ in places if isinstance(places, list) else ():
        if is_handle(handle := member.decode(errors="replace")):
            yield handle


def _values(raws: Any) -> Iterator[tuple[bytes, bytes]]:
    """The app's fields in what HGETALL has answered, by their names in the hash."""
    if isinstance(raws, dict):
        for name, raw in raws.items():
            if name[:1] != b"@" or name[:2] == b"@=":  # with a TTL
                yield name, raw


def _is_unsealed(name: bytes, raw: bytes, sealing: Sealing | None) -> bool:
    return sealing is not None and not is_sealed(raw) and not sealing.is_plain(name)


def _is_list(places: Any) -> bool:
    if isinstance(places, ResponseError):
        return not _is_wrong_type(places)
    return all(
        Place(member.decode(errors="replace"), b"%r" % score).is_possible
        for member, score in places
    )


def _is_wrong_type(error: ResponseError) -> bool:
    return str(error).startswith("WRONGTYPE")
