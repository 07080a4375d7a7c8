"""Sessions that are ended for a reason: `session.absence` says it, in the app's own words."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import Absence, Session, SessionEvent, SessionStore, SessionValueError

from ..support.internals import handle_of, open_session
from ..support.sessions import log_in, opened

pytestmark = pytest.mark.on_cluster

REASON = "password changed – on 27 November"


async def absence_of(store: SessionStore, session_id: str) -> Absence:
    """Why the next request with this id has no session."""
    await store.drain()  # on a Cluster, the tombstone is not waited for
    absence = (await open_session(store, session_id).load()).absence
    assert absence is not None
    return absence


async def others(store: SessionStore) -> Session:
    """Another session of ann's."""
    return await open_session(store, await log_in(store, "ann")).load()


async def end_others(store: SessionStore, _: str) -> Any:
    return await store.users.revoke_others(await others(store), reason=REASON)


VERBS: dict[str, Callable[[SessionStore, str], Awaitable[Any]]] = {
    "store.revoke": lambda store, handle: store.revoke(handle, reason=REASON),
    "revoke_where": lambda store, _: store.revoke_where(lambda _: True, reason=REASON),
    "users.revoke": lambda store, handle: store.users.revoke("ann", handle, reason=REASON),
    "revoke_all": lambda store, _: store.users.revoke_all("ann", reason=REASON),
    "revoke_others": end_others,
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_reason_reaches_the_browser(
    store: SessionStore, events: list[SessionEvent], verb: str
) -> None:
    """Its kind stays `revoked`; the event has the reason as its detail."""
    session_id = await log_in(store, "ann")
    assert await VERBS[verb](store, handle_of(store, session_id)) == 1
    absence = await absence_of(store, session_id)
    assert (absence.kind, absence.reason) == ("revoked", REASON)
    assert absence.at is not None
    (ended,) = [event for event in events if event.name == "ended"]
    assert (ended.reason, ended.detail) == ("revoked", REASON)


async def test_without_a_reason_there_is_a_sentence(store: SessionStore) -> None:
    """The library's own, for the kind."""
    session_id = await log_in(store, "ann")
    await store.users.revoke_all("ann")
    assert await absence_of(store, session_id) == Absence(
        "revoked", (await absence_of(store, session_id)).at
    )
    assert (await absence_of(store, session_id)).reason.endswith(".")


async def test_version_0_1_reads_the_kind(store: SessionStore, prefix: str, admin: Any) -> None:
    """It reads the first member of a tombstone alone, which is what it wrote itself."""
    handle = handle_of(store, await log_in(store, "ann"))
    await store.users.revoke_all("ann", reason=REASON)
    await store.drain()
    key = f"{prefix}:ended:{{{prefix}:{handle}}}"
    assert admin.zrange(key, 0, 0) == [b"revoked"]
    assert 0 < admin.pttl(key) <= 60_000


async def test_a_reason_is_remembered_as_long_as_the_end(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """`remember_ended=` is for both."""
    async with opened(session_redis_url, prefix, remember_ended=3600) as store:
        session_id = await log_in(store, "ann")
        await store.users.revoke_all("ann", reason=REASON)
        await store.drain()
        handle = handle_of(store, session_id)
        assert admin.pttl(f"{prefix}:ended:{{{prefix}:{handle}}}") > 3_000_000


@pytest.mark.parametrize("reason", ["", " ", "a\nb", "a\x1b[31m", "\ud800", "x" * 201])
async def test_what_is_no_reason_ends_nothing(store: SessionStore, reason: str) -> None:
    """One line, printable, of at most 200 characters."""
    await log_in(store, "ann")
    with pytest.raises(SessionValueError, match="reason"):
        await store.users.revoke_all("ann", reason=reason)
    assert await store.users.count("ann") == 1
