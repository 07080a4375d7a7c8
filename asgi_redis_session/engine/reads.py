"""
Reading a session without a script, at a fifth of what that costs Redis.

HGETALL brings the fields, and the lane brings the server's time. What load.lua would decide is
decided here, by the same rules. Extending the TTL takes a second command, fire-and-forget.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from ..quiet import hiding
from ..transport.plain import Plain
from ..transport.scripts import Script
from .scripts import CORRUPT, GONE, LOAD

READ_ALL = "HGETALL"
#: What load.lua would have done to the TTL. Its reply is not needed.
EXTEND: Plain[Any] = Plain("extend", "PEXPIREAT", lambda reply, _: reply)

_TIMES = (b"@idle", b"@deadline", b"@created", b"@auth", b"@seen")
#: The longest number of milliseconds, in digits: as in lua/common.lua.
_DIGITS = 14
_NEVER = b"9" * _DIGITS


@hiding("fields")
class Read(NamedTuple):
    """
    What there is under a key. *state* is when the session expires, or a code of `scripts`.

    *fields*: by name, in bytes. *idle_ms*: how long the session lives without use.
    """

    state: int
    now_ms: int = 0
    fields: dict[bytes, bytes] = {}  # noqa: RUF012  (it is never changed)
    idle_ms: int = 0


def _as_read(
    _key: bytes,
    state: int,
    now_ms: int = 0,
    fields: Sequence[bytes] = (),
    _timed: Sequence[bytes] = (),
) -> Read:
    return Read(state, now_ms, by_name(fields))


#: load.lua for all fields, with what it answers as a `Read`. It has extended the TTL itself.
WHOLE: Script[Read] = Script(LOAD.name, LOAD.text, _as_read)


def reading(store_idle_ms: int) -> Plain[Read]:
    """Return the command that reads a session, in a store with this idle time."""
    return Plain(LOAD.name, READ_ALL, partial(judge, defaults(store_idle_ms)))


def defaults(store_idle_ms: int) -> Sequence[bytes]:
    """Return what counts for each of `_TIMES` that a hash does not name."""
    return (b"%d" % store_idle_ms, _NEVER, b"0", b"0", b"0")


def judge(unless_given: Sequence[bytes], raws: Any, now_ms: int) -> Read:
    """
    Say what load.lua would say of this hash, at this time of the server.

    *unless_given*: the store's `defaults`.
    """
    if not raws:  # None: something else than a hash
        return Read(CORRUPT if raws is None else GONE)
    if type(raws) is list:  # RESP2
        raws = by_name(raws)
    times = list(map(raws.get, _TIMES, unless_given))
    if raws.get(b"@v") != b"1" or not _are_milliseconds(times):
        return Read(CORRUPT)
    idle_ms, deadline_ms = int(times[0]), int(times[1])
    if not idle_ms:
        return Read(CORRUPT)
    expires_ms = now_ms + idle_ms
    if deadline_ms < expires_ms:
        if deadline_ms <= now_ms:
            return Read(GONE, now_ms, raws)
        expires_ms = deadline_ms
    return Read(expires_ms, now_ms, raws, idle_ms)


def _are_milliseconds(times: Sequence[bytes]) -> bool:
    """Whether all of these can be read as numbers of milliseconds."""
    return all(times) and b"".join(times).isdigit() and max(map(len, times)) <= _DIGITS


def by_name(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return what HGETALL has answered as names and values in turn, by name."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
