"""
All sessions of a store, without Redis Search: a pass over all keys.

It costs Redis a look at every key that it holds, also those of other prefixes, and reads of all
sessions that are shown. So it is for operators and jobs; requests never do it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from ..errors import SessionValueError
from ..info import SessionInfo
from ..transport.passes import pass_over
from .engine import Engine
from .ids import is_handle
from .verbs import Ending, end_session

#: Sessions that are read at once.
_BATCH = 50
#: How many handles are remembered, to leave out those that SCAN shows again. It does so while Redis
#: resizes its table, soon after the first time.
_REMEMBERED = 50_000
#: How often all keys are passed over to end sessions, at most.
_MOST_PASSES = 5
#: No user has more sessions.
_ALL = 2**31


async def count_all(engine: Engine, keys_per_second: int | None) -> int:
    """Count the sessions; none of them is read."""
    number = 0
    async with aclosing(_handles(engine, keys_per_second)) as pages:
        async for handles in pages:
            number += len(handles)
    return number


async def scan_all(
    engine: Engine, keys_per_second: int | None, idle_ms: int
) -> AsyncGenerator[SessionInfo, None]:
    """Yield all sessions that were not used for so long."""
    async with aclosing(_handles(engine, keys_per_second)) as pages:
        async for handles in pages:
            for info in await _read(engine, handles, idle_ms):
                yield info


async def scan_user(
    engine: Engine, index: bytes, idle_ms: int
) -> AsyncGenerator[SessionInfo, None]:
    """Yield those of one user, in the order of their index, without a pass over all keys."""
    places = await engine.places.newest(index, 0, _ALL)
    handles = [place.handle for place in places]
    for start in range(0, len(handles), _BATCH):
        for info in await _read(engine, handles[start : start + _BATCH], idle_ms):
            yield info


async def end_where(
    engine: Engine,
    matches: Callable[[SessionInfo], bool],
    keys_per_second: int | None,
    idle_ms: int,
    *,
    note: str | None,
    is_trial: bool,
) -> int:
    """End all sessions for which *matches* is true; returns how many, or how many it would end."""
    ended: list[Ending] = []
    for _ in range(_MOST_PASSES):
        found = 0
        async with aclosing(_handles(engine, keys_per_second)) as pages:
            async for handles in pages:
                infos = await _read(engine, handles, idle_ms)
                chosen = [info.handle for info in infos if _is_match(matches, info)]
                found += len(chosen)
                if is_trial:
                    ended += [Ending(existed=True)] * len(chosen)
                    continue
                ends = await asyncio.gather(*[_end(engine, handle, note) for handle in chosen])
                ended += [ending for ending in ends if ending.existed]
        # Again, until a pass finds none: a session that got a new id during a pass may have moved
        # to where the pass had already been.
        if is_trial or not found:
            break
    for ending in ended:
        if ending.shortfall is not None:
            raise ending.shortfall
    return len(ended)


async def _handles(
    engine: Engine, keys_per_second: int | None
) -> AsyncGenerator[Sequence[str], None]:
    """
    Yield the handles of all sessions, in batches.

    SCAN may show a key twice. The last 50,000 handles at least are remembered, so none of them is
    yielded again.
    """
    prefix = engine.client.key("")
    # Other keys of the store, and of stores whose prefix begins with this one, are longer.
    pattern = f"{prefix.decode()}{'?' * 32}"
    recent: set[str] = set()
    older: set[str] = set()
    async with aclosing(pass_over(engine.client, pattern, keys_per_second)) as pages:
        async for keys in pages:
            names = dict.fromkeys(key[len(prefix) :].decode(errors="replace") for key in keys)
            handles = [
                name
                for name in names
                if is_handle(name) and name not in recent and name not in older
            ]
            recent.update(handles)
            if len(recent) >= _REMEMBERED:
                recent, older = set(), recent
            for start in range(0, len(handles), _BATCH):
                yield handles[start : start + _BATCH]


async def _read(engine: Engine, handles: Sequence[str], idle_ms: int) -> list[SessionInfo]:
    infos = await asyncio.gather(
        *[engine.outside.peek(handle, idle_ms=idle_ms) for handle in handles]
    )
    return [info for info in infos if info is not None]


async def _end(engine: Engine, handle: str, note: str | None) -> Ending:
    return await end_session(
        engine,
        (handle,),
        reason="revoked",
        note=note,
        concern=engine.end_durability,
        own_connection=True,
    )


def _is_match(matches: Callable[[SessionInfo], bool], info: SessionInfo) -> bool:
    answer = matches(info)
    if answer is not True and answer is not False:
        # A coroutine, for instance, would count as true, and all sessions would end.
        raise SessionValueError(
            "store.revoke_where takes a function that returns True or False, and this one has "
            f"returned {type(answer).__name__}."
        )
    return answer
