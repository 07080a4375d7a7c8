"""A session before it is loaded."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import SessionNotLoaded, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import open_session
from .conftest import New

pytestmark = pytest.mark.on_cluster

SYNC_USES: dict[str, Callable[[Any], object]] = {
    "[]": lambda s: s["a"],
    "[] =": lambda s: s.__setitem__("a", 1),
    "del []": lambda s: s.__delitem__("a"),
    "in": lambda s: "a" in s,
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "list": list,
    "dict": dict,
    "**": lambda s: {**s},
    "get": lambda s: s.get("a"),
    "get with a default": lambda s: s.get("a", 1),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "pop": lambda s: s.pop("a"),
    "pop with a default": lambda s: s.pop("a", None),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("a", 1),
    "update": lambda s: s.update({"a": 1}),
    "update by keyword": lambda s: s.update(a=1),
    "|": lambda s: s | {"a": 1},
    "| on the right": lambda s: {"a": 1} | s,
    "|=": lambda s: s.__ior__({"a": 1}),
    "clear": lambda s: s.clear(),
    "copy": lambda s: s.copy(),
    "==": lambda s: s == {},
    "!=": lambda s: s != {},
    "is_new": lambda s: s.is_new,
    "handle": lambda s: s.handle,
    "user_id": lambda s: s.user_id,
    "created_at": lambda s: s.created_at,
    "authenticated_at": lambda s: s.authenticated_at,
    "expires_at": lambda s: s.expires_at,
    "expires_in": lambda s: s.expires_in,
    "amr": lambda s: s.amr,
    "actor": lambda s: s.actor,
    "renew": lambda s: s.renew(),
    "set_lifetime": lambda s: s.set_lifetime(idle=60),
}


@pytest.mark.parametrize("use", SYNC_USES)
@pytest.mark.parametrize("has_cookie", [True, False])
async def test_an_unloaded_session_says_how_to_load_it(
    kit: SessionKit, store: SessionStore, new: New, use: str, *, has_cookie: bool
) -> None:
    """Each use before loading raises `SessionNotLoaded`, naming the cure, and sends nothing."""
    _, session_id = await new(a=1)
    session = open_session(store, session_id if has_cookie else None)
    with kit.count() as commands, pytest.raises(SessionNotLoaded) as caught:
        SYNC_USES[use](session)
    assert commands.lines == []
    assert "await session.load()" in str(caught.value)
    assert "autoload=True" in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert not session.loaded
    assert not session.modified
    assert repr(session) == "<Session not loaded>"
    await session.save()
    assert dict(await session.load()) == ({"a": 1} if has_cookie else {})


async def test_fetch_leaves_the_session_unloaded(store: SessionStore, new: New) -> None:
    """`fetch` reads single fields; the mapping still needs a load."""
    _, session_id = await new(a=1, b=[2])
    session = open_session(store, session_id)
    assert await session.fetch("b", "missing") == {"b": [2]}
    with pytest.raises(SessionNotLoaded):
        session["a"]
