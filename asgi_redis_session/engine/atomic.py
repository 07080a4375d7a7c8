"""
The verbs of `Session` that read a field and write it in one atomic step: `transform` and `take`.

Where the session or the field is new in this request, they work on what is staged instead.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from ..absence import Absence
from ..transport.written import Written
from . import scripts
from .actions import load
from .codec import CorruptValue, decode
from .fields import too_many_fields
from .phases import STORED
from .record import Changes, Ended
from .scripts import CHANGED, FULL, Field
from .sealing import Seal
from .state import SessionState


async def transform(
    state: SessionState, name: str, function: Callable[[Any], Any], default: Any
) -> Any:
    """Replace a field by what *function* makes of it; again if another request came in between."""
    await load(state)
    async with state.turn:
        fields = state.writable()
        if state.phase is not STORED or not is_stored(state, name):
            value = function(fields.values[name] if name in fields.values else deepcopy(default))
            fields.set(name, value)
            return value
        raw, stored = fields.stored_bytes(name), fields.stored_name(name)
        while True:
            value = function(deepcopy(default) if raw is None else decode(raw))
            encoded = fields.encoded(name, value)
            reply, shortfall = await _swap(state, stored, raw, encoded)
            if reply.state != CHANGED:
                break
            stored = reply.field.decode()
            try:
                raw = _opened(state, stored, reply.raw)
            except CorruptValue as error:
                _report_corrupt(state, error)
                state.raise_gone(Ended(Absence("unreadable")))
        if reply.state == FULL:
            raise too_many_fields(name, state.engine.limits.fields)
        if reply.state <= 0:
            state.raise_gone(await state.engine.reader.absence(state.handles()))
        state.note_extended()
        fields.set_stored(name, value, encoded)
        state.raise_shortfall(shortfall)
        return value


async def take(state: SessionState, name: str, default: Any) -> Any:
    """Read a field and remove it; one of several concurrent callers gets it."""
    await load(state)
    async with state.turn:
        fields = state.writable()
        if state.phase is not STORED or not is_stored(state, name):
            value = fields.values.get(name, default)
            if name in fields.values:
                fields.remove(name)
            return value
        reply, shortfall = await _take_field(state, name)
        if reply.state <= 0:
            state.raise_gone(await state.engine.reader.absence(state.handles()))
        fields.forget(name)
        state.raise_shortfall(shortfall)
        try:
            raw = _opened(state, reply.field.decode(), reply.raw)
            return default if raw is None else decode(raw)
        except CorruptValue as error:
            _report_corrupt(state, error)
            return default


def is_stored(state: SessionState, name: str) -> bool:
    """Whether the app has not changed the field in this request, nor inside its value."""
    login = state.pending_login
    if login is not None and not login.keeps_data:
        return False
    state.fields.collect()
    return name not in state.fields.staged


async def _swap(
    state: SessionState, name: str, expected: bytes | None, encoded: bytes
) -> Written[Field]:
    """
    Write a field, by its name in the hash, if it is as *expected*.

    State CHANGED if it is not, FULL if it is one too many.
    """
    engine, seal = state.engine, _seal_of(state)
    (handle,) = state.handles()
    if seal is not None and expected is not None:
        expected = seal.as_held(name, expected)
    sets, removes = engine.hashes.field_args(seal, Changes({name: encoded}))
    held = (int(expected is not None), expected or b"", engine.limits.fields)
    arguments = (engine.lifetime.idle_ms, int(state.extends), name, *held, len(sets))
    return await engine.client.write(
        scripts.SWAP,
        (engine.client.key(handle),),
        (*arguments, *sets, *removes),
        concern=engine.durability,
    )


def _seal_of(state: SessionState) -> Seal | None:
    return None if state.record is None else state.record.seal


def _opened(state: SessionState, name: str, raw: bytes | None) -> bytes | None:
    """Return what Redis holds of a field in plain bytes, and remember it as it is there."""
    seal = _seal_of(state)
    return raw if seal is None or raw is None else seal.open(name, raw)


def _report_corrupt(state: SessionState, error: CorruptValue) -> None:
    (handle,) = state.handles()
    state.engine.reports.corrupt(handle, str(error))


async def _take_field(state: SessionState, name: str) -> Written[Field]:
    engine = state.engine
    (handle,) = state.handles()
    shadow = engine.shadows.of(name)
    return await engine.client.write(
        scripts.TAKE_FIELD,
        (engine.client.key(handle),),
        (engine.lifetime.idle_ms, name, "" if shadow is None else shadow.name),
        concern=engine.durability,
    )
