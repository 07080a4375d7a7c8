"""
Reading a session without a script, at a fifth of what that costs Redis.

HGETALL brings the fields, and the lane brings the server's time. What load.lua would decide is
decided here, by the same rules. Extending the TTL takes a second command, fire-and-forget.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..transport.plain import Plain
from ..transport.scripts import Script
from .scripts import CORRUPT, GONE, LOAD

READ_ALL = "HGETALL"
#: What load.lua would have done to the TTL. Its reply is not needed.
EXTEND: Plain[Any] = Plain("extend", "PEXPIREAT", lambda reply, _: reply)

_TIMES = (b"@idle", b"@deadline", b"@created", b"@auth", b"@seen")
#: The longest number of milliseconds, in digits: as in lua/common.lua.
_DIGITS = 14
_NO_FIELDS: dict[bytes, bytes] = {}


class Read:
    """
    What there is under a key. *state* is when the session expires, or a code of `scripts`.

    *fields*: by name, in bytes. *idle_ms*: how long the session lives without use; 0 if a script
    has extended its TTL.
    """

    __slots__ = ("fields", "idle_ms", "now_ms", "state")

    def __init__(
        self,
        state: int,
        now_ms: int = 0,
        fields: dict[bytes, bytes] = _NO_FIELDS,
        idle_ms: int = 0,
    ) -> None:
        self.state = state
        self.now_ms = now_ms
        self.fields = fields
        self.idle_ms = idle_ms


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
    return Plain(LOAD.name, READ_ALL, partial(judge, store_idle_ms))


def judge(store_idle_ms: int, raws: Any, now_ms: int) -> Read:
    """
    Say what load.lua would say of this hash, at this time of the server.

    *store_idle_ms*: the idle time of a session that has none of its own.
    """
    if not raws:  # None: something else than a hash
        return Read(CORRUPT if raws is None else GONE)
    if type(raws) is list:  # RESP2
        raws = by_name(raws)
    if raws.get(b"@v") != b"1":
        return Read(CORRUPT)
    for name in _TIMES:
        time = raws.get(name)
        if time is not None and not (time.isdigit() and len(time) <= _DIGITS):
            return Read(CORRUPT)
    idle, deadline = raws.get(b"@idle"), raws.get(b"@deadline")
    idle_ms = store_idle_ms if idle is None else int(idle)
    if not idle_ms:
        return Read(CORRUPT)
    expires_ms = now_ms + idle_ms
    if deadline is not None and (deadline_ms := int(deadline)) < expires_ms:
        if deadline_ms <= now_ms:
            return Read(GONE, now_ms, raws)
        expires_ms = deadline_ms
    return Read(expires_ms, now_ms, raws, idle_ms)


def by_name(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return what HGETALL has answered as names and values in turn, by name."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
