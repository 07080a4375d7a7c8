"""What the app changes while a save is on its way."""

import asyncio

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import cookie_change, open_session
from .conftest import New

pytestmark = pytest.mark.on_cluster


async def test_a_field_written_during_a_save_is_kept(store: SessionStore, new: New) -> None:
    """A task that writes while another saves loses nothing: it is saved the next time."""
    session, session_id = await new(n=1)
    session["a"] = 1
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session["a"] = 2
    session["b"] = 3
    await saving
    assert session.modified
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"n": 1, "a": 2, "b": 3}


async def test_a_field_put_back_during_a_save_is_kept(store: SessionStore, new: New) -> None:
    """A value that returns to the stored one while the other is being saved is saved next."""
    session, session_id = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session["a"] = 1
    await saving
    assert session.modified
    await session.save()
    assert dict(await open_session(store, session_id).load()) == dict(session) == {"a": 1}


async def test_a_field_removed_while_the_session_is_created_stays_removed(
    store: SessionStore,
) -> None:
    """A deletion during the first save is not forgotten."""
    session = await open_session(store).load()
    session.update(a=1, b=2)
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    del session["a"]
    await saving
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert dict(await open_session(store, change.session_id).load()) == dict(session) == {"b": 2}


async def test_a_renewal_asked_for_during_a_save_is_not_forgotten(
    store: SessionStore, new: New
) -> None:
    """`renew()` in one task, while another saves, still gives a new id at the next save."""
    session, session_id = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session.renew()
    await saving
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.session_id not in (None, session_id)


async def test_a_shorter_lifetime_asked_for_during_a_save_is_not_forgotten(new: New) -> None:
    """`set_lifetime()` in one task, while another saves, takes effect at the next save."""
    session, _ = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session.set_lifetime(idle=60, absolute=120)
    await saving
    await session.save()
    assert session.expires_at is not None
    assert session.created_at is not None
    assert (session.expires_at - session.created_at).total_seconds() <= 121
