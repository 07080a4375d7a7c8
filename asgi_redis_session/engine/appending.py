"""
The verb of `Session` that adds to a list: `append`.

The item is encoded here, and Redis joins it to the list as text, so that the list need not travel.
"""

from typing import Any, NamedTuple

from ..errors import DurabilityNotReached, SessionValueError
from ..options import Limits
from ..quiet import hiding
from . import scripts
from .atomic import is_stored, transform
from .codec import decode
from .fields import too_many_fields
from .phases import STORED, UNLOADED
from .scripts import FULL, LARGE
from .state import SessionState


@hiding("raw")
class _Appended(NamedTuple):
    """*items*: how many there are now. *raw*: the list; None if it was not asked for."""

    items: int
    raw: bytes | None
    shortfall: DurabilityNotReached | None


async def append(state: SessionState, name: str, item: Any, keep: int) -> int:
    """Add an item to the end of a list, keep the last *keep*, and return how many there are."""
    engine = state.engine
    encoded = state.fields.encoded(name, [item])[1:-1]
    if engine.sealing is not None or engine.shadows.of(name) is not None:
        # Redis can't join what it can't read, and a shadow depends on the whole list.
        return len(await transform(state, name, lambda held: _joined(name, held, item, keep), []))
    async with state.turn:
        if state.has_no_id():
            state.adopt(None)
        state.fields.refuse_one_more(name)
        if state.phase is UNLOADED or (state.phase is STORED and is_stored(state, name)):
            appended = await _append_stored(state, name, encoded, keep)
            if appended is not None:
                state.note_extended()
                if appended.raw is not None:
                    state.fields.set_stored(name, decode(appended.raw), appended.raw)
                state.raise_shortfall(appended.shortfall)
                return appended.items
            ended = await engine.reader.absence(state.handles())
            if state.phase is STORED:
                state.raise_gone(ended)
            state.adopt(None, ended)
    fields = state.writable()
    joined = _joined(name, fields.values.get(name, []), item, keep)
    fields.set(name, joined)
    return len(joined)


async def _append_stored(
    state: SessionState, name: str, encoded: bytes, keep: int
) -> _Appended | None:
    """Let Redis add it; None if there is no such session."""
    engine, limits = state.engine, state.engine.limits
    bounds = (keep, limits.fields, limits.field_bytes)
    wanted = int(state.phase is STORED)
    arguments = (engine.lifetime.idle_ms, int(state.extends), name, encoded, *bounds, wanted)
    for handle in state.handles():
        reply, shortfall = await engine.client.write(
            scripts.APPEND, (engine.client.key(handle),), arguments, concern=engine.durability
        )
        if reply.state == FULL:
            raise too_many_fields(name, limits.fields)
        if reply.state == LARGE:
            raise _too_large(name, limits)
        if engine.reports.is_there(handle, reply.state):
            if not reply.items:
                raise _no_list(name)
            return _Appended(reply.items, reply.raw, shortfall)
    return None


def _joined(name: str, held: Any, item: Any, keep: int) -> list[Any]:
    if not isinstance(held, list):
        raise _no_list(name)
    return [*held, item][-keep:]


def _no_list(name: str) -> SessionValueError:
    return SessionValueError(
        f"session[{name!r}] can't be appended to: it holds no list. Assign a list first, or choose "
        "another name."
    )


def _too_large(name: str, limits: Limits) -> SessionValueError:
    return SessionValueError(
        f"session[{name!r}]: with this item, the list would take more bytes than a field may hold "
        f"({limits.field_bytes}). Keep fewer items, or raise Limits(field_bytes=...)."
    )
