"""
Trying what the store does: a session is written, read, changed and ended.

It goes the way of all sessions, so it meets what they would meet: full memory, a write concern that
is not reached, a server that refuses writes.
"""

from collections.abc import Iterator

from ..engine.engine import Engine
from ..engine.record import Changes, Span
from ..errors import DurabilityNotReached, SessionUnavailable
from ..transport.route import Server
from .checks import Verdict, ok, problem

#: It has no user, and lives this long (ms) should it not be ended.
_LIVES = Span(10_000, None)


async def try_out(engine: Engine, server: Server) -> Verdict:
    """Write, read and end a session of our own on this server."""
    try:
        shortfall = await _live(engine, server)
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
    finally:
        _, missed = await hashes.delete(handle, None, concern=engine.end_durability)
    return shortfall or missed


def _new(engine: Engine) -> Iterator[tuple[str, str]]:
    while True:
        yield engine.ids.new()
