"""
Fields that end sooner than their session: how Redis holds them.

The field `otp` with a TTL is `@=otp` (its value), `@-otp` (when it ends, by Redis' clock) and the
mark `@timed` of a session that has, or had, such fields. A process of an earlier version neither
shows these names nor changes them. A field that was written without a TTL since has its plain name,
which wins. No I/O here.
"""

from collections.abc import Mapping

from .codec import StoredHash

#: In the hash of each session that has fields with a TTL.
MARK = b"@timed"
#: In front of a field's name: its value, and when it ends. A shadow has another one.
VALUE, END = "@=", "@-"
_VALUE, _END = VALUE.encode(), END.encode()
_NEITHER = (_VALUE, _END)
_DIGITS = 14


class TimedHash(StoredHash):
    """
    The hash of a session that has fields with a TTL, by the names that the app knows.

    *left_ms*: how long each of them lasts. *ended*: the names of those that have ended.
    """

    __slots__ = ("ended", "left_ms")

    def __init__(
        self, raws: dict[bytes, bytes], left_ms: Mapping[str, int], ended: tuple[str, ...] = ()
    ) -> None:
        super().__init__(raws)
        self.left_ms = left_ms
        self.ended = ended


def seen_at(now_ms: int, raws: Mapping[bytes, bytes]) -> TimedHash:
    """Return what there is of a hash at this time of the server. Raises `CorruptValue`."""
    shown, left_ms, ended = live_at(now_ms, raws)
    return TimedHash(shown, left_ms, ended)


def live_at(
    now_ms: int, raws: Mapping[bytes, bytes]
) -> tuple[dict[bytes, bytes], dict[str, int], tuple[str, ...]]:
    """Return the fields that live by the app's names, how long some last, and which have ended."""
    shown = {name: raw for name, raw in raws.items() if not name.startswith(_NEITHER)}
    left_ms: dict[str, int] = {}
    ended: list[str] = []
    for stored, raw in raws.items():
        name = stored[2:]
        if not stored.startswith(_VALUE):
            continue
        end = raws.get(_END + name, b"")
        end_ms = int(end) if end.isdigit() and len(end) <= _DIGITS else 0
        known = name.decode(errors="replace")
        if end_ms > now_ms and name not in shown and name[:1] not in (b"", b"@"):
            shown[name] = raw
            left_ms[known] = end_ms - now_ms
        else:
            ended.append(known)
    return shown, left_ms, tuple(ended)


def as_stored(
    fields: Mapping[str, bytes | None], ttls: Mapping[str, int | None]
) -> dict[str, bytes | None]:
    """
    Return changed fields by the names that Redis holds.

    *ttls*: for each field that has a TTL, or had one: how long it lasts (ms), 0 if it has no TTL
    any more, None if it keeps the end that it has. The script adds the time to it: see `write` in
    lua/common.lua.
    """
    stored = {name: raw for name, raw in fields.items() if ttls.get(name, 0) == 0}
    ends: dict[str, bytes | None] = {}
    for name, ttl_ms in ttls.items():
        if ttl_ms == 0 or name not in fields:
            stored |= {VALUE + name: None, END + name: None}
            continue
        stored[VALUE + name] = fields[name]
        if ttl_ms is not None:
            stored[name] = None
            ends[END + name] = b"%d" % ttl_ms
    if ends:
        ends[MARK.decode()] = b"+%d" % len(ends)
    return stored | ends
