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
