"""What a user may ask for: a copy of the data in their sessions, and its erasure."""

import asyncio
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from .engine.engine import Engine
from .engine.pruning import PAGE, dead_places
from .errors import SessionUnreadable
from .info import SEALED, SessionInfo

#: No user has more sessions.
_ALL = 2**31

#: What says something about the reader of a list, and nothing about the session.
_LEFT_OUT = ("current",)


async def export_user(engine: Engine, user_id: str | int | UUID) -> list[dict[str, Any]]:
    """Return all live sessions of a user, as `json.dumps` takes them."""
    index = engine.places.key_of(user_id)
    found: dict[str, SessionInfo | None] = {}
    while True:
        places = await engine.places.newest(index, 0, _ALL)
        new = [place for place in places if place.handle not in found][:PAGE]
        if not new:
            # What got a new id meanwhile was read again under it, and is no longer listed here.
            listed = [found[place.handle] for place in places]
            return [_exported(info) for info in listed if info is not None]
        infos = await asyncio.gather(*[engine.outside.peek(place.handle) for place in new])
        missing = [place for place, info in zip(new, infos, strict=True) if info is None]
        unreadable = len(missing) - len(await dead_places(engine, missing))
        if unreadable:  # a copy without them would look complete
            raise SessionUnreadable(unreadable, outcome="so nothing was exported")
        found |= {place.handle: info for place, info in zip(new, infos, strict=True)}


def _exported(info: SessionInfo) -> dict[str, Any]:
    names = [field.name for field in fields(info) if field.name not in _LEFT_OUT]
    exported = {name: _plain(getattr(info, name)) for name in names}
    exported["fields"] = {name: _plain(value) for name, value in info.fields.items()}
    return exported


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return SEALED.value if value is SEALED else value
