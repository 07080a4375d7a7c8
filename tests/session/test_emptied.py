"""Sessions that are emptied: which of them end."""

from collections.abc import Callable

import pytest
import redis

from asgi_redis_session import Session, SessionEvent, SessionStore

from ..support.internals import cookie_change, handle_of, open_session
from ..support.keyspace import session_keys
from .conftest import New

pytestmark = pytest.mark.on_cluster


def delete_all(session: Session) -> None:
    for name in list(session):
        del session[name]


EMPTY: dict[str, Callable[[Session], object]] = {
    "clear": lambda s: s.clear(),
    "del": delete_all,
    "pop": lambda s: [s.pop(name) for name in list(s)],
    "popitem": lambda s: [s.popitem() for _ in range(len(s))],
}


@pytest.mark.parametrize("how", EMPTY)
async def test_an_emptied_anonymous_session_ends(
    store: SessionStore, new: New, admin: redis.Redis, prefix: str, how: str
) -> None:
    """However it was emptied, nothing remains in Redis, and the browser forgets the cookie."""
    session, _ = await new(a=1, b=[2])
    EMPTY[how](session)
    assert session.modified
    await session.save()
    assert session_keys(admin, prefix) == []
    change = cookie_change(session)
    assert change is not None
    assert change.session_id is None
    assert session.is_new


@pytest.mark.parametrize("how", EMPTY)
async def test_a_session_that_is_filled_again_lives_on(
    store: SessionStore, new: New, how: str
) -> None:
    """What is written after emptying is kept, under the same id."""
    session, session_id = await new(a=1, b=[2])
    EMPTY[how](session)
    session["c"] = 3
    await session.save()
    assert cookie_change(session) is None
    assert dict(await open_session(store, session_id).load()) == {"c": 3}


@pytest.mark.parametrize("how", EMPTY)
async def test_only_clear_ends_the_session_of_a_user(
    store: SessionStore, new: New, admin: redis.Redis, how: str
) -> None:
    """`clear()` logs out, as in apps for Starlette; removing the last field by hand does not."""
    _, session_id = await new(a=1, b=[2])
    handle = handle_of(store, session_id)
    admin.hset(f"{store.prefix}:{handle}", "@user", "ada")
    session = await open_session(store, session_id).load()
    EMPTY[how](session)
    await session.save()
    info = await store.get(handle)
    if how == "clear":
        assert info is None
    else:
        assert info is not None
        assert info.user_id == "ada"
        assert info.fields == {}


async def test_a_clear_that_was_undone_is_no_change(
    store: SessionStore, new: New, admin: redis.Redis
) -> None:
    """Clearing and putting everything back leaves nothing to write, nor a half-meant logout."""
    _, session_id = await new(a=1)
    handle = handle_of(store, session_id)
    admin.hset(f"{store.prefix}:{handle}", "@user", "ada")
    session = await open_session(store, session_id).load()
    session.clear()
    session["a"] = 1
    await session.save()
    assert not session.modified
    del session["a"]
    await session.save()
    assert await store.get(handle) is not None


async def test_clearing_a_new_session_creates_nothing(
    store: SessionStore, admin: redis.Redis, prefix: str, events: list[SessionEvent]
) -> None:
    """A session that was filled and emptied in one request never reaches Redis."""
    session = await open_session(store).load()
    session["a"] = 1
    session.clear()
    session["b"] = []
    session.pop("b")
    await session.save()
    assert cookie_change(session) is None
    assert session_keys(admin, prefix) == []
    assert events == []
