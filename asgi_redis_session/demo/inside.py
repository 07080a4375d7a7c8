"""What Redis holds of a session: its hash as it is, and its TTL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..session import Session
from ..store import SessionStore

__all__ = ["Inside", "look_inside"]

#: What the metadata of a hash means. The app never sees these fields.
_MEANINGS = {
    "@v": "version of the layout",
    "@created": "when it began",
    "@seen": "when it was last written",
    "@deadline": "when it ends at the latest",
    "@idle": "idle time in ms",
    "@auth": "when the user signed in",
    "@user": "who is signed in",
    "@agent": "the browser at sign-in",
    "@ip": "the address at sign-in",
    "@claims": "what the app says of it",
}
_MINUTE, _DAY = 60, 86_400


@dataclass(frozen=True, slots=True)
class Inside:
    """
    *rows*: name, value and meaning of each field; those of the app have no meaning here.

    *copies*: how many fields are copies for the search index. *ttl*: in seconds.
    """

    key: str
    ttl: int
    rows: Sequence[tuple[str, str, str]]
    copies: int

    @property
    def left(self) -> str:
        """The TTL in words; `shop.js` counts it down."""
        if self.ttl >= _DAY:
            return f"{round(self.ttl / _DAY)} days"
        return f"{-(-self.ttl // _MINUTE)} min" if self.ttl >= _MINUTE else f"{self.ttl} s"


async def look_inside(redis: Any, store: SessionStore, session: Session) -> Inside | None:
    """Return what `HGETALL` and `PTTL` answer for this session; None if Redis holds nothing."""
    if session.handle is None:
        return None
    key = f"{store.prefix}:{session.handle}"
    stored, ttl_ms = await redis.hgetall(key), await redis.pttl(key)
    if not stored:
        return None
    texts = {_text(name): _text(value) for name, value in stored.items()}
    shown = sorted(name for name in texts if name in _MEANINGS or not name.startswith("@"))
    rows = [(name, texts[name], _MEANINGS.get(name, "")) for name in shown]
    rows.sort(key=lambda row: row[0] in _MEANINGS)
    return Inside(key, max(0, round(ttl_ms / 1000)), rows, len(texts) - len(rows))


def _text(raw: Any) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
