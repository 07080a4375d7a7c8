"""
Giving a session another key, and writing what has changed: for a renewal, and for a login.

On one node that is one script. Where several servers hold the keys, as in a Cluster, it takes two:
the session is taken from its old key, then put under the new one.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ..errors import SessionUnavailable
from ..options import Durability
from ..transport.failures import KeysApart
from ..transport.scripts import Script
from ..transport.written import Written
from . import scripts
from .engine import Engine
from .record import Changes, Record, Span, unconfirmed_ms
from .sealing import Seal


class _Form(NamedTuple):
    """The scripts of a move. *restore*: the second step in a Cluster."""

    script: Script[Any]
    restore: Script[Any]


_RENEWAL = _Form(scripts.RENEW, scripts.RESTORE_SAVE)
_LOGIN = _Form(scripts.LOGIN, scripts.RESTORE_LOGIN)


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
    arguments = engine.hashes.save_args(record, changes, seal, extend=extend)
    has_place = record.metadata.user_id is not None
    return await _move(
        engine, _RENEWAL, record, handle, arguments, has_place=has_place, concern=concern
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
    arguments = engine.hashes.login_args(changes, span, seal)
    return await _move(
        engine,
        _LOGIN,
        record,
        login.handle,
        arguments,
        user_id=login.user_id,
        has_place=True,
        concern=concern,
    )


async def _move(
    engine: Engine,
    form: _Form,
    record: Record,
    handle: str,
    arguments: Sequence[Any],
    *,
    user_id: str = "",
    has_place: bool,
    concern: Durability | None,
) -> Written[Any]:
    """Run the scripts. *user_id*: who logs in. *has_place*: the new key waits for its place."""
    client = engine.client
    lives = unconfirmed_ms(client.timeout, concern) if has_place else ""
    if not client.is_sharded:
        keys = engine.hashes.keys_to_move(record.handle, handle)
        with suppress(KeysApart):
            return await client.write(form.script, keys, (lives, *arguments), concern=concern)
    taken, taken_shortfall = await engine.hashes.take_hash(record.handle, user_id, concern)
    if taken.state <= 0:
        return Written(taken, None)
    try:
        reply, shortfall = await client.write(
            form.restore, (client.key(handle),), (taken.packed, lives, *arguments), concern=concern
        )
    except SessionUnavailable as error:
        if error.is_refusal and record.metadata.user_id is None:
            # The other node is full, for instance. An anonymous session is put back. A user's may
            # have been revoked meanwhile, and must not come back.
            await engine.hashes.put_back(record.handle, taken.packed)
        raise
    return Written(reply, shortfall or taken_shortfall)
