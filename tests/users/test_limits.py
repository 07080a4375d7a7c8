"""How many sessions a user may have."""

import asyncio
import random
import secrets
from collections import Counter
from typing import Any

import pytest

from asgi_redis_session import SessionGone, SessionLimitReached, SessionStore

from ..support.internals import Send, handle_of, new_id, open_session, take_place
from ..support.keyspace import index_key, look, plant
from ..support.sessions import create, is_live, live_among, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster


async def test_50_logins_at_once_evict_down_to_the_limit(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 3: never more than 3 that can be read, and exactly 3 at the end, all listed."""
    async with (
        opened(session_redis_url, prefix, max_sessions_per_user=3) as store,
        opened(session_redis_url, prefix, max_sessions_per_user=3) as other,
    ):
        ids: list[str] = []
        chance = random.Random(3)

        async def on_step(_name: str, _number: int, send: Send) -> Any:
            await asyncio.sleep(chance.random() * 0.002)
            return await send()

        # Two app servers, so that one's steps come between another's.
        both = [Steps(store), Steps(other)]
        for steps in both:
            steps.on_step = on_step

        async def enter() -> None:
            await asyncio.sleep(chance.random() * 0.01)
            try:
                ids.append(await log_in(chance.choice((store, other)), "ann"))
            except SessionGone:  # evicted before it was finished
                return
            assert len(await live_among(store, ids)) <= 3
            assert len(await store.users.list("ann")) <= 3

        await asyncio.gather(*[enter() for _ in range(50)])
        for steps in both:
            steps.on_step = None
        assert len(await live_among(store, ids)) == 3
        assert await store.users.count("ann") == 3
        seen = look(admin, prefix)
        assert len(seen.users) == 3
        assert len(seen.places[index_key(prefix, "ann")]) == 3


async def test_no_two_places_have_the_same_time(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """2,000 logins at once: one order of age, the same for whoever makes room."""
    handles = [secrets.token_hex(16) for _ in range(2000)]
    await asyncio.gather(*[take_place(store, "ann", handle) for handle in handles])
    places = look(admin, prefix).places[index_key(prefix, "ann")]
    assert places.keys() == set(handles)
    assert len(set(places.values())) == 2000


async def test_50_logins_at_once_are_rejected_beyond_the_limit(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 3: exactly 3 succeed; the others change nothing, not even the session they had."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=3, on_limit="reject"
    ) as store:
        olds = [await create(store, n=number) for number in range(50)]
        results = await asyncio.gather(
            *[log_in(store, "ann", old) for old in olds], return_exceptions=True
        )
        assert Counter(type(result).__name__ for result in results) == {
            "str": 3,
            "SessionLimitReached": 47,
        }
        assert await store.users.count("ann") == 3
        seen = look(admin, prefix)
        assert Counter(seen.users.values()) == {"": 47, "ann": 3}
        assert len(seen.places[index_key(prefix, "ann")]) == 3
        for old, result in zip(olds, results, strict=True):
            assert await is_live(store, old) is isinstance(result, SessionLimitReached)


@pytest.mark.parametrize("on_limit", ["reject", "evict"])
async def test_only_living_sessions_count(
    on_limit: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Expired sessions make room first, so nobody is turned away or thrown out for them."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=3, on_limit=on_limit
    ) as store:
        ids = [await log_in(store, "ann") for _ in range(3)]
        admin.delete(f"{prefix}:{handle_of(store, ids[2])}")
        ids.append(await log_in(store, "ann"))
        assert await live_among(store, ids) == [*ids[:2], ids[3]]
        assert len(look(admin, prefix).places[index_key(prefix, "ann")]) == 3


@pytest.mark.parametrize("on_limit", ["reject", "evict"])
async def test_logging_in_again_on_the_only_session(
    on_limit: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 1: a login on the session that is there replaces it; renewing does not need room."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=1, on_limit=on_limit
    ) as store:
        session_id = await log_in(store, "ann", n=1)
        for _ in range(3):
            session_id = await log_in(store, "ann", session_id)
            session = await open_session(store, session_id).load()
            session.renew()
            await session.save()
            session_id = new_id(session)
        assert dict(await open_session(store, session_id).load()) == {"n": 1}
        assert len(look(admin, prefix).users) == 1
        if on_limit == "reject":
            with pytest.raises(SessionLimitReached):
                await log_in(store, "ann")
        else:
            newer = await log_in(store, "ann")
            assert await live_among(store, [session_id, newer]) == [newer]


async def test_eviction_takes_the_oldest_login(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """By the time of login, not of use; also when the limit was lowered meanwhile."""
    async with opened(session_redis_url, prefix) as store:
        ids = plant(admin, store, "ann", 10)
    async with opened(session_redis_url, prefix, max_sessions_per_user=4) as store:
        await open_session(store, ids[0]).load()
        ids.append(await log_in(store, "ann"))
        assert await live_among(store, ids) == ids[-4:]
        assert await store.users.count("ann") == 4


async def test_a_renewal_is_no_newer_login(session_redis_url: str, prefix: str) -> None:
    """A session keeps its time of login under its new id, so it is the oldest all the same."""
    async with opened(session_redis_url, prefix, max_sessions_per_user=2) as store:
        first, second = [await log_in(store, "ann") for _ in range(2)]
        session = await open_session(store, first).load()
        session.renew()
        await session.save()
        third = await log_in(store, "ann")
        assert await live_among(store, [new_id(session), second, third]) == [second, third]
