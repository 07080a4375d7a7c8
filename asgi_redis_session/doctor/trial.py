"""
Trying what the store does: a session is written, read, changed and ended.

It uses the same code as a request, so it fails where a request would: full memory, a write concern
that is not reached, a server that refuses writes.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from ..engine.engine import Engine
from ..engine.keys import tombstone
from ..engine.record import Changes, Span
from ..engine.scripts import ABSENCE
from ..errors import DurabilityNotReached, SessionUnavailable
from ..transport.failures import KeysApart
from ..transport.route import Server
from .checks import Verdict, ok, problem

#: It has no user, and lives this long (ms) should it not be ended.
_LIVES = Span(10_000, None)
#: How many keys are asked for from elsewhere: enough, even if there are two servers only.
_TRIES = 16


class _UnnoticedShardsError(Exception):
    """A script was executed although one of its keys is on another server."""


async def try_out(engine: Engine, server: Server) -> Verdict:
    """Write, read and end a session of our own on this server."""
    try:
        shortfall = await _live(engine, server)
    except _UnnoticedShardsError:
        return problem(
            "One address leads to several servers, and a script reaches only the keys of one of "
            "them, without an error: a login would lose its session. Set "
            "SessionStore(sharded=True)."
        )
    except SessionUnavailable as error:
        return problem(f"A session could not be written, read and ended: {error}")
    if shortfall is not None:
        return problem(f"A session was written, but: {shortfall}")
    return ok("A session was written, read and ended.")


async def _live(engine: Engine, server: Server) -> DurabilityNotReached | None:
    hashes, changes = engine.hashes, Changes({"doctor": b"1"})
    session_id, handle = next(
        new for new in _new(engine) if server.serves(engine.client.key(new[1]))
    )
    seal = engine.seal(session_id, handle)
    _, shortfall = await hashes.create(handle, changes, _LIVES, engine.durability, seal)
    try:
        record = await engine.reader.load((handle,), session_id, extend=True, from_cookie=False)
        if record is None or record.stored.raws.get(b"doctor") != b"1":
            raise SessionUnavailable("what was read is not what was written.")
        await _refuse_unnoticed_shards(engine, handle)
    finally:
        _, missed = await hashes.delete(handle, None, concern=engine.end_durability)
    return shortfall or missed


async def _refuse_unnoticed_shards(engine: Engine, handle: str) -> None:
    """Ask for this session in scripts whose first key is elsewhere, as a login does."""
    client = engine.client
    for _, other in islice(_new(engine), _TRIES):
        if not client.is_sharded:
            keys = (tombstone(client, other), client.key(handle))
            with suppress(KeysApart):
                reply = await client.write(ABSENCE, keys)
                if not reply.reply.is_occupied:
                    raise _UnnoticedShardsError


def _new(engine: Engine) -> Iterator[tuple[str, str]]:
    while True:
        yield engine.ids.new()
