"""What `increment` says when it can't add."""

import pytest

from asgi_redis_session import Limits, SessionEvent, SessionGone, SessionStore, SessionValueError

from ..support.internals import handle_of, key_of, open_session
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster


async def test_what_is_no_integer(store: SessionStore) -> None:
    """The whole sentence, which names the field and the two causes."""
    session = open_session(store, await create(store, name="ann"))
    with pytest.raises(SessionValueError) as error:
        await session.increment("name")
    assert str(error.value) == (
        "session['name'] can't be incremented: it holds no 64-bit integer, or the sum would not "
        "fit one (2^53 in a field that is indexed as a Num)."
    )


async def test_a_field_too_many(session_redis_url: str, prefix: str) -> None:
    """It names the field that would be new; those that are there still count."""
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, limits=Limits(fields=1)
    ) as store:
        session = open_session(store, await create(store, n=1))
        with pytest.raises(SessionValueError, match=r"^session\['hits'\]: .* at most 1 fields"):
            await session.increment("hits")
        assert await session.increment("n") == 2


async def test_a_session_of_another_layout(
    store: SessionStore, events: list[SessionEvent], admin: object
) -> None:
    """It is reported with its handle, and nothing is added."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    admin.hset(key_of(store, session_id), "@v", "2")  # type: ignore[attr-defined]
    with pytest.raises(SessionGone):
        await session.increment("n")
    assert (events[-1].name, events[-1].handle) == ("corrupt", handle_of(store, session_id))
    assert admin.hget(key_of(store, session_id), "n") == b"1"  # type: ignore[attr-defined]
