"""The write concern of an end, where there is no session left to end."""

import pytest

from asgi_redis_session import Durability, DurabilityNotReached, SessionStore

from ..support.internals import cookie_change, new_id, open_session

#: No server of the tests has so many replicas.
UNREACHABLE = Durability(replicas=9, timeout=0.05)


async def test_an_end_that_is_tried_again_still_needs_its_durability(
    session_redis_url: str, prefix: str
) -> None:
    """The first try has ended the session; the second still says that the end may be lost."""
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, timeout=20, end_durability=UNREACHABLE
    ) as store:
        first = await open_session(store).load()
        first["n"] = 1
        await first.save()
        session_id, handle = new_id(first), first.handle or ""
        for _ in range(2):
            with pytest.raises(DurabilityNotReached):
                await store.revoke(handle)
        assert await store.get(handle) is None
        session = open_session(store, session_id)
        with pytest.raises(DurabilityNotReached):
            await session.logout()
        assert session.is_new
        assert cookie_change(session) is None
