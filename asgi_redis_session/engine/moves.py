"""
Giving a session another key, and writing what has changed: for a renewal, and for a login.

On one node that is one script. Where several servers hold the keys, as in a Cluster, it takes two:
the session is taken from its old key, then put under the new one.

Values that are encrypted for the old key are encrypted again for the new one. The first script
looks whether they still are as they were read; if not, it answers what they are now, and changes
nothing. So the write of another request moves along, as it does without encryption.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ..errors import SessionUnavailable
from ..options import Durability
from ..transport.failures import KeysApart
from ..transport.scripts import Script
from ..transport.written import Written
from . import scripts
from .codec import CorruptValue
from .engine import Engine
from .reads import by_name
from .record import Changes, Record, Span, unconfirmed_ms
from .scripts import CHANGED, GONE
from .sealing import Seal


class _Form(NamedTuple):
    """The scripts of a move. *sealed*: if values are encrypted. *restore*: second in a Cluster."""

    plain: Script[Any]
    sealed: Script[Any]
    restore: Script[Any]


class _Move(NamedTuple):
    """
    A move of a session.

    *handle*: of its new id. *user_id*: who logs in. *has_place*: the new key lives for a short
    while, until its place is confirmed.
    """

    engine: Engine
    record: Record
    form: _Form
    handle: str
    concern: Durability | None
    has_place: bool
    user_id: str = ""


_RENEWAL = _Form(scripts.RENEW, scripts.RENEW_SEALED, scripts.RESTORE_SAVE)
_LOGIN = _Form(scripts.LOGIN, scripts.LOGIN_SEALED, scripts.RESTORE_LOGIN)


async def move_renewed(
    engine: Engine,
    record: Record,
    handle: str,
    seal: Seal | None,
    changes: Changes,
    *,
    extend: bool,
    concern: Durability | None,
) -> Written[Any]:
    """Move a session to the key of its new id, which has this *handle* and *seal*."""
    has_place = record.metadata.user_id is not None
    return await _move(
        _Move(engine, record, _RENEWAL, handle, concern, has_place),
        changes,
        lambda changes: engine.hashes.save_args(record, changes, seal, extend=extend),
    )


async def move_logged_in(
    engine: Engine,
    record: Record,
    seal: Seal | None,
    changes: Changes,
    span: Span,
    *,
    concern: Durability | None,
) -> Written[Any]:
    """Move a session to the key of the login among its *changes*, whose new id has this *seal*."""
    login = changes.login
    assert login is not None  # noqa: S101  (verbs.login asks for it)
    had_claims = record.metadata.claims is not None
    return await _move(
        _Move(engine, record, _LOGIN, login.handle, concern, True, login.user_id),  # noqa: FBT003
        changes,
        lambda changes: engine.hashes.login_args(changes, span, seal, had_claims=had_claims),
    )


async def _move(
    move: _Move, changes: Changes, arguments: Callable[[Changes], Sequence[Any]]
) -> Written[Any]:
    """*arguments*: how the script takes the changes. State GONE if the values can't be read."""
    held = move.record.seal
    if held is None:
        return await _run(move, None, arguments(changes))
    while True:
        bound = held.bound()
        try:
            carried = Changes({name: held.open(name, raw) for name, raw in bound.items()})
        except CorruptValue as error:
            move.engine.reports.corrupt(move.record.handle, str(error))
            return Written(scripts.State(b"", GONE))
        read = (len(bound), *[part for pair in bound.items() for part in pair])
        written = await _run(move, read, arguments(carried.before(changes)))
        if written.reply.state != CHANGED:
            return written
        held.held = by_name(written.reply.fields)


async def _run(move: _Move, read: Sequence[Any] | None, arguments: Sequence[Any]) -> Written[Any]:
    """Run the scripts. *read*: what reseal.lua compares; None: nothing is encrypted."""
    engine, concern, old = move.engine, move.concern, move.record.handle
    client, hashes = engine.client, engine.hashes
    lives = unconfirmed_ms(client.timeout, concern) if move.has_place else ""
    if not client.is_sharded:
        keys = hashes.keys_to_move(old, move.handle)
        script = move.form.plain if read is None else move.form.sealed
        with suppress(KeysApart):
            return await client.write(
                script, keys, (*(read or ()), lives, *arguments), concern=concern
            )
    taken, taken_shortfall = await hashes.take_hash(old, move.user_id, read, concern)
    if taken.state <= 0:
        return Written(taken, None)
    try:
        reply, shortfall = await client.write(
            move.form.restore,
            (client.key(move.handle),),
            (taken.packed, lives, *arguments),
            concern=concern,
        )
    except SessionUnavailable as error:
        if error.is_refusal and move.record.metadata.user_id is None:
            # The other node is full, for instance. An anonymous session is put back. A user's may
            # have been revoked meanwhile, and must not come back.
            await hashes.put_back(old, taken.packed)
        raise
    return Written(reply, shortfall or taken_shortfall)
