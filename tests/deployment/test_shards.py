"""One address in front of several servers, as hosted services have it (docs/deployment.md)."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import new_id, open_session
from ..support.sessions import create, is_live, log_in, opened, works
from ..support.shards import Shards, shards

pytestmark = pytest.mark.anywhere


@pytest.fixture(scope="module")
def refusing() -> Iterator[Shards]:
    """Three servers; a script whose keys belong to different ones is refused with CROSSSLOT."""
    with shards(apart="refused") as found:
        yield found


@pytest.fixture(scope="module")
def unnoticed() -> Iterator[Shards]:
    """Three servers; a script runs where its first key is."""
    with shards(apart="unnoticed") as found:
        yield found


async def log_in_over_a_session(store: SessionStore, user: str) -> str:
    """A session with a field, then a login on it; returns the id after that."""
    return await log_in(store, user, await create(store, cart=["tea"]), at="work")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_every_verb_works_behind_one_address(
    refusing: Shards, prefix: str, protocol: int
) -> None:
    """CROSSSLOT is no outage: a renewal and a login take two steps, and nothing is lost."""
    async with opened(f"{refusing.url}?protocol={protocol}", prefix) as store:
        for number in range(6):
            await works(store, await create(store, n=number))
        ids = [await log_in_over_a_session(store, "ann") for _ in range(6)]
        for session_id in ids:
            session = await open_session(store, session_id).load()
            assert dict(session) == {"cart": ["tea"], "at": "work"}
        assert await store.users.count("ann") == 6
        assert await store.users.revoke_all("ann") == 6
        assert not any([await is_live(store, session_id) for session_id in ids])
        assert store.stats.errors == 0


async def test_it_is_noticed_once(refusing: Shards, prefix: str) -> None:
    """After the first refusal no script is sent with keys on different servers."""
    async with opened(refusing.url, prefix) as store:
        for _ in range(4):
            await log_in_over_a_session(store, "ann")
        refusing.refused = 0
        for _ in range(8):
            await log_in_over_a_session(store, "ann")
        assert refusing.refused == 0


async def test_concurrent_requests_notice_together(refusing: Shards, prefix: str) -> None:
    """Many logins at once, the first ones of a process: all succeed."""
    async with opened(refusing.url, prefix) as store:
        ids = [await create(store, n=n) for n in range(20)]
        sessions = [await open_session(store, session_id).load() for session_id in ids]

        async def login(session: Any, number: int) -> None:
            await session.login(f"user-{number % 3}")
            await session.save()

        await asyncio.gather(*[login(one, n) for one, n in zip(sessions, count(), strict=False)])
        counts = [await store.users.count(f"user-{n}") for n in range(3)]
        assert counts == [7, 7, 6]
        assert all([await is_live(store, new_id(session)) for session in sessions])


async def test_an_endpoint_that_says_nothing_needs_the_option(
    unnoticed: Shards, prefix: str
) -> None:
    """With sharded=True everything works where scripts run at their first key."""
    async with opened(unnoticed.url, prefix, sharded=True) as store:
        for number in range(6):
            await works(store, await create(store, n=number))
        ids = [await log_in_over_a_session(store, "ann") for _ in range(6)]
        assert all([await is_live(store, session_id) for session_id in ids])
        assert await store.users.revoke_all("ann") == 6
        assert (await store.check(write=True)).is_ok


async def test_the_doctor_finds_an_endpoint_that_says_nothing(
    unnoticed: Shards, prefix: str
) -> None:
    """Without the option, a login would lose its session: the trial says so, with the cure."""
    async with opened(unnoticed.url, prefix) as store:
        report = await store.check(write=True)
        (found,) = [one.message for one in report.of("problem") if one.name == "write"]
        assert "Set SessionStore(sharded=True)" in found


async def test_the_doctor_has_nothing_against_an_endpoint_that_refuses(
    refusing: Shards, prefix: str
) -> None:
    """CROSSSLOT is noticed by the trial, as it would be by a login."""
    async with opened(refusing.url, prefix) as store:
        assert (await store.check(write=True)).is_ok
