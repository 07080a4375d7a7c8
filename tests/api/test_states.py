"""What a session remembers of a commit, once that commit is over."""

import pytest

from asgi_redis_session import SessionEvent, SessionGone, SessionStore

from ..support.internals import cookie_change, new_id, open_session


async def test_after_session_gone_a_field_set_and_removed_makes_no_session(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """A new session in which nothing is left to store is not created, also after SessionGone."""
    first = await open_session(store).load()
    first["n"] = 1
    await first.save()
    session = await open_session(store, new_id(first)).load()
    await store.revoke(session.handle or "")
    session["n"] = 2
    with pytest.raises(SessionGone):
        await session.save()
    events.clear()
    session["hint"] = 1
    del session["hint"]
    assert not session.modified
    await session.save()
    assert session.is_new
    assert events == []
    assert cookie_change(session) is None


async def test_an_increment_after_clear_ends_the_clearing(store: SessionStore) -> None:
    """Once a field was written after `clear`, removing it later does not log the user out."""
    session = await open_session(store).load()
    await session.login("ann")
    session["cart"] = 1
    await session.save()
    session_id = new_id(session)
    session.clear()
    assert await session.increment("visits") == 1
    await session.save()
    del session["visits"]
    await session.save()
    again = await open_session(store, session_id).load()
    assert again.user_id == "ann"
    assert dict(again) == {}
