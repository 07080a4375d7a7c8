"""Fields that end sooner than their session, in sessions that are searched for."""

from datetime import timedelta
from typing import Any

import pytest

from asgi_redis_session import Limits, SessionStore, SessionValueError
from asgi_redis_session.engine import timed
from asgi_redis_session.search import fields

from ..support.internals import key_of, new_id, open_session
from ..support.search import NOTE, TENANT, TOTAL, found, handles, indexed, put

HOUR = timedelta(hours=1)


@pytest.mark.needs_search
async def test_a_search_shows_it_until_its_end(shop: SessionStore, admin: Any) -> None:
    """The session is found by other fields before and after; what it shows is what lives."""
    session = await put(shop, tenant="x")
    session.set("otp", "123", ttl=HOUR)
    await session.save()
    shown = [info.fields async for info in shop.search.find(TENANT == "x")]
    assert shown == [{"tenant": "x", "stored": True, "otp": "123"}]
    assert not admin.hset(key_of(shop, new_id(session)), "@-otp", 1)
    shown = [info.fields async for info in shop.search.find(TENANT == "x")]
    assert shown == [{"tenant": "x", "stored": True}]


@pytest.mark.needs_search
@pytest.mark.parametrize("ends", [False, True])
async def test_beside_it_all_indexed_fields_stay_found(
    shop: SessionStore, admin: Any, *, ends: bool
) -> None:
    """Removing what has ended leaves the shadows of other fields alone."""
    session = await put(shop, tenant="x", total=5, note="red")
    session.set("otp", "123", ttl=HOUR)
    await session.save()
    session_id = new_id(session)
    if ends:
        assert not admin.hset(key_of(shop, session_id), "@-otp", 1)
    where = (TENANT == "x") & (TOTAL == 5) & (NOTE == "red")
    for number in range(2):
        changed = await open_session(shop, session_id).load()
        changed["number"] = number
        await changed.save()
        await shop.drain()
        assert await found(shop, where) == handles(session)
    assert admin.hexists(key_of(shop, session_id), "@-otp") is not ends


@pytest.mark.needs_search
async def test_shadows_are_not_among_the_fields_that_are_limited(
    session_redis_url: str, prefix: str
) -> None:
    """Three fields are three, indexed or not; one with a TTL is one of them."""
    async with indexed(session_redis_url, prefix, limits=Limits(fields=3)) as shop:
        session = await put(shop, tenant="x", total=5)
        session_id = new_id(session)
        with pytest.raises(SessionValueError, match="at most 3"):
            await open_session(shop, session_id).increment("n")
        del session["tenant"]
        session.set("otp", "123", ttl=HOUR)
        await session.save()
        with pytest.raises(SessionValueError, match="at most 3"):
            await open_session(shop, session_id).increment("n")
        assert await open_session(shop, session_id).take("otp") == "123"
        assert await open_session(shop, session_id).increment("n") == 1


@pytest.mark.anywhere
def test_its_names_are_none_of_a_shadow() -> None:
    """The hash holds both: what removes the one must not remove the other."""
    shadows = {kind("a").shadow_name for kind in (fields.Tag, fields.Num, fields.Text)}
    assert len(shadows) == 3
    assert not shadows & {timed.VALUE + "a", timed.END + "a"}
