"""A Cluster whose nodes hang, die and take over."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable

from ..support.internals import (
    handles_of,
    key_of,
    lanes_of,
    limit_pages_of_places,
    new_id,
    open_session,
)
from ..support.keyspace import index_key, link_key, plant
from ..support.nodes import on
from ..support.servers import SOON_MS, Cluster, ask, frozen, replicated, wait_for
from ..support.sessions import create, is_live, load, works


async def test_a_hung_node_delays_only_its_own_sessions(
    healthy: Cluster, store: SessionStore
) -> None:
    """While one master hangs, a thousand loads from the others are done; its own wait."""
    hung = healthy.owner("any")
    theirs = await on(healthy, store, hung)
    others = [await on(healthy, store, hung, other=True) for _ in range(5)]
    with frozen(hung):
        waiting = asyncio.create_task(load(store, theirs))
        for _ in range(10):
            assert await asyncio.gather(*[load(store, one) for one in others * 20]) == [0] * 100
        assert not waiting.done()
    # It may have been replaced meanwhile; either way the load is answered.
    assert await waiting == 0


async def test_a_hung_node_answers_its_callers_in_time(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """Its callers get SessionUnavailable, also those who queue while others wait."""
    hung = healthy.owner("any")
    theirs = await on(healthy, store, hung)
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=0.5) as hasty:
        with frozen(hung):
            results = await asyncio.gather(
                *[load(hasty, theirs) for _ in range(50)], return_exceptions=True
            )
        assert {type(result) for result in results} == {SessionUnavailable}


async def test_a_planned_failover_loses_nothing(healthy: Cluster, store: SessionStore) -> None:
    """CLUSTER FAILOVER under load: no error, each increment counts once."""
    session_id = await create(store, n=0)
    key = key_of(store, session_id)
    old = healthy.owner(key)
    replica = healthy.replica_of(old)
    counted, over = 0, asyncio.Event()

    async def count() -> None:
        nonlocal counted
        while not over.is_set():
            await open_session(store, session_id).increment("n")
            counted += 1

    counting = [asyncio.create_task(count()) for _ in range(5)]
    ask(replica, "CLUSTER FAILOVER")
    await asyncio.to_thread(wait_for, lambda: healthy.owner(key) is replica)
    over.set()
    await asyncio.gather(*counting)
    assert await load(store, session_id) == counted


async def test_a_killed_master_is_replaced(prefix: str) -> None:
    """Its sessions fail until a replica has taken over, then work again; the others' never fail."""
    with Cluster(3, 1, dead_after_ms=SOON_MS) as cluster:
        async with SessionStore.from_url(cluster.url, prefix=prefix, timeout=3) as store:
            dead = cluster.owner("any")
            theirs = await on(cluster, store, dead)
            other = await on(cluster, store, dead, other=True)
            replicated(dead)
            os.kill(dead.pid, signal.SIGKILL)
            with pytest.raises(SessionUnavailable, match=f"127.0.0.1:{dead.port}"):
                await load(store, theirs)

            async def until_it_works(session_id: str) -> Any:
                while True:
                    assert await load(store, other) == 0
                    try:
                        return await load(store, session_id)
                    except SessionUnavailable:
                        await asyncio.sleep(0.05)

            assert await asyncio.wait_for(until_it_works(theirs), 100) == 0
            await works(store, theirs)
            await store.drain()
            assert not [lane for lane in lanes_of(store) if f":{dead.port}," in lane.address]


@pytest.mark.parametrize("also_hangs", ["nothing", "what is noted of them as an actor"])
async def test_revoke_all_ends_what_it_can_reach(
    healthy: Cluster, store: SessionStore, prefix: str, also_hangs: str
) -> None:
    """With a node hung it says so, and has ended the user's other sessions; then the rest."""
    hung = healthy.owner("any")
    user = named(
        lambda name: (
            healthy.owner(index_key(prefix, name)) is not hung
            and (healthy.owner(link_key(prefix, "actor", "actor", name)) is hung)
            is (also_hangs != "nothing")
        )
    )
    theirs = await on(healthy, store, hung, user=user)
    others = [await on(healthy, store, hung, other=True, user=user) for _ in range(3)]
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=1) as hasty:
        assert await hasty.users.count(user) >= 4  # it knows the nodes by now
        with frozen(hung):
            with pytest.raises(SessionUnavailable):
                await hasty.users.revoke_all(user)
            assert [await is_live(store, one) for one in others] == [False] * 3
    await asyncio.to_thread(healthy.await_healthy)
    # The hung node may have found the command in its socket when it woke up, and done it.
    was_live = await is_live(store, theirs)
    assert await store.users.revoke_all(user) >= was_live
    assert not await is_live(store, theirs)
    assert await store.users.count(user) == 0


async def test_revoke_all_goes_on_after_a_page_of_places(
    healthy: Cluster,
    store: SessionStore,
    admin: Any,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of five pages, the sessions on a hung node can't be ended: all others are, on each page."""
    limit_pages_of_places(monkeypatch, 12)
    hung = healthy.owner("any")
    user = named(lambda name: healthy.owner(index_key(prefix, name)) is not hung)
    ids = plant(admin, store, user, 60)
    others = [one for one in ids if healthy.owner(key_of(store, one)) is not hung]
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=1) as hasty:
        assert await hasty.users.count(user) == 60  # it knows the nodes by now
        with frozen(hung):
            with pytest.raises(SessionUnavailable):
                await hasty.users.revoke_all(user)
            assert not any(await asyncio.gather(*[is_live(store, one) for one in others]))
    await asyncio.to_thread(healthy.await_healthy)
    await store.users.revoke_all(user)
    assert await store.users.count(user) == 0


async def test_a_hung_list_keeps_no_other_user_of_a_provider_logged_in(
    healthy: Cluster, store: SessionStore, prefix: str
) -> None:
    """Two users have logged in on what a provider ends; the node with one's list hangs."""
    hung, issuer = healthy.owner("any"), "https://id.example.com"
    sub = named(lambda name: healthy.owner(link_key(prefix, "sub", issuer, name)) is not hung)
    ann = named(lambda name: healthy.owner(index_key(prefix, name)) is hung)
    bob = named(lambda name: healthy.owner(index_key(prefix, name)) is not hung)

    async def log_in_beside(user: str) -> str:
        while True:
            session = await open_session(store).load()
            await session.login(user, issuer=issuer, sub=sub)
            await session.save()
            session_id = new_id(session)
            if healthy.owner(key_of(store, session_id)) is not hung:
                return session_id

    anns, bobs = await log_in_beside(ann), await log_in_beside(bob)
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=1) as hasty:
        assert await hasty.users.count(bob) >= 1  # it knows the nodes by now
        with frozen(hung):
            with pytest.raises(SessionUnavailable):
                await hasty.revoke_sid(issuer, sub=sub)
            assert not await is_live(store, bobs)
    await asyncio.to_thread(healthy.await_healthy)
    await store.revoke_sid(issuer, sub=sub)
    assert not await is_live(store, anns)


def named(fits: Callable[[str], bool]) -> str:
    """The first name whose keys are where a test needs them."""
    return next(name for number in itertools.count() if fits(name := f"ann-{number}"))


async def test_an_older_secret_on_a_hung_node_hinders_nobody(healthy: Cluster, prefix: str) -> None:
    """A session that is found under the newest secret does not wait for the older one's node."""
    new, old = "n" * 16, "o" * 16
    async with SessionStore.from_url(
        healthy.url, prefix=prefix, secret=[new, old], timeout=3
    ) as store:
        hung = healthy.owner("any")
        while True:
            session_id = await create(store, n=7)
            places = [healthy.owner(f"{prefix}:{one}") for one in handles_of(store, session_id)]
            if places[1] is hung and places[0] is not hung:
                break
        with frozen(hung):
            assert await load(store, session_id) == 7
            await store.drain()
