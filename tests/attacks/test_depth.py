"""Nesting: whether a session can be read or written does not depend on the stack."""

import sys
from typing import Any

from asgi_redis_session import Limits, SessionStore

from ..support.internals import key_of, open_session
from ..support.sessions import create
from ..support.values import nested
from .conftest import Cases


async def _at_depth(frames: int, act: Any) -> Any:
    """Await *act* with so many coroutines around it, each of which is a frame of the stack."""
    return await (_at_depth(frames - 1, act) if frames else act())


async def test_the_stack_does_not_decide_what_can_be_read(
    session_redis_url: str, prefix: str, admin: Any, cases: Cases
) -> None:
    """Up to the greatest depth that `Limits` takes, and what was stored when it took more."""
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, timeout=20, limits=Limits(depth=64)
    ) as store:
        for depth in (1, 32, 64, 200, 400):
            session_id = await create(store, x=nested(min(depth, 64)))
            admin.hset(key_of(store, session_id), "x", "[" * depth + "]" * depth)
            for frames in (0, 300, 600, sys.getrecursionlimit() - 300):

                async def load(session_id: str = session_id) -> Any:
                    return await open_session(store, session_id).load()

                session = await _at_depth(frames, load)
                assert not session.is_new, (depth, frames)
                assert session["x"] == nested(depth)
                if depth <= 64:
                    session["y"] = nested(depth)
                    await _at_depth(frames, session.save)
                cases()
