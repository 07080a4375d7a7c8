"""Between the hash of a login or renewal and the confirmation of its place."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore, SessionUnavailable

from ..support.gate import Gate, gate_to
from ..support.internals import discard, open_session
from ..support.keyspace import forget, index_key, look
from ..support.sessions import create, is_live, log_in, opened
from ..support.steps import Steps
from .test_crashes import CRASHES

#: The verbs that write a hash and confirm a place.
MOVES = [name for name in CRASHES if "log" in name and "logout" not in name] + ["renew"]
TIMEOUT = 20
#: How long (ms) a hash may live until its place is confirmed: five timeouts.
UNCONFIRMED_MS = 5 * TIMEOUT * 1000


@pytest.fixture
def proxy(session_redis_url: str) -> Iterator[Gate]:
    with gate_to(session_redis_url) as gate:
        yield gate


@pytest.mark.on_cluster
@pytest.mark.parametrize("what", MOVES)
async def test_what_is_never_confirmed_vanishes(
    what: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """
    revoke_all between any two steps, then a crash at any later one: a session that no list shows
    has no more than a few timeouts to live.
    """
    prepare, act = CRASHES[what]
    unlisted = 0
    async with opened(session_redis_url, prefix, timeout=TIMEOUT) as store:
        for revoked_before in range(1, 8):
            for crashes_at in range(revoked_before, 8):
                for done in (False, True):
                    session = await prepare(store)
                    await store.drain()
                    await _crash(store, session, act, revoked_before, crashes_at, done=done)
                    seen = look(admin, prefix)
                    assert seen.immortal == []
                    for handle in seen.unlisted(prefix):
                        unlisted += 1
                        assert admin.pttl(f"{prefix}:{handle}") <= UNCONFIRMED_MS
                    discard(session)
                    await store.drain()
                    forget(admin, prefix)
    # On one node, the revoke_all that takes the place of a renewal ends its old hash as well.
    assert unlisted > 0 or what == "renew"


async def _crash(
    store: SessionStore, session: Session, act: Any, revoked_before: int, at: int, *, done: bool
) -> None:
    steps = Steps(store)

    async def on_step(_: str, number: int, send: Any) -> Any:
        if number == revoked_before:
            steps.on_step = None
            await store.users.revoke_all("ann")
            steps.on_step = on_step
        numbers.append(number)
        if len(numbers) == at and not done:
            raise asyncio.CancelledError
        reply = await send()
        if len(numbers) == at:
            raise asyncio.CancelledError
        return reply

    numbers: list[int] = []
    steps.on_step = on_step
    try:
        await act(store, session)
    except (asyncio.CancelledError, Exception):  # noqa: BLE001  (revoked, or it has crashed)
        pass
    finally:
        steps.stop()


@pytest.mark.on_cluster
@pytest.mark.parametrize("what", MOVES)
async def test_what_is_confirmed_has_its_own_ttl(
    what: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """All steps done: the session lives as long as its idle time says, not for the few timeouts."""
    prepare, act = CRASHES[what]
    async with opened(session_redis_url, prefix, timeout=TIMEOUT) as store:
        session = await prepare(store)
        await act(store, session)
        assert admin.pttl(f"{prefix}:{session.handle}") > UNCONFIRMED_MS


@pytest.mark.on_cluster
async def test_a_hash_that_has_vanished_is_not_confirmed(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A process that was suspended for too long before the last steps gives out no cookie."""
    session = await open_session(store).load()
    reached, go_on = Steps(store).pause_before("confirm")
    await session.login("ann")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    admin.delete(*[f"{prefix}:{handle}" for handle in look(admin, prefix).users])
    go_on.set()
    with pytest.raises(Exception, match="ended"):
        await saving
    assert await store.users.count("ann") == 0
    assert look(admin, prefix).users == {}


@pytest.mark.on_cluster
@pytest.mark.parametrize("what", ["fresh login", "login on an anonymous session"])
async def test_a_login_that_fails_at_any_step_locks_nobody_out(
    what: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Cancelled, or Redis away, before or after each step: the next login is granted at once."""
    prepare, act = CRASHES[what]
    number = failures = 0
    while failures == 4 * number:
        number += 1
        for error in (asyncio.CancelledError(), SessionUnavailable("away")):
            for done in (False, True):
                async with opened(
                    session_redis_url, prefix, max_sessions_per_user=1, on_limit="reject"
                ) as store:
                    session = await prepare(store)
                    steps = Steps(store)
                    steps.fail_at(number, error, done=done)
                    has_failed = False
                    try:
                        await act(store, session)
                    except (asyncio.CancelledError, SessionUnavailable):
                        has_failed = True
                    steps.on_step = None
                    discard(session)
                    await store.drain()
                    if has_failed:
                        failures += 1
                        assert await is_live(store, await log_in(store, "ann"))
                forget(admin, prefix)
    assert number >= 4


@pytest.mark.parametrize("held", ["commands", "replies"])
@pytest.mark.parametrize("step", ["reserve", "create", "confirm"])
async def test_a_login_that_times_out_at_any_step_locks_nobody_out(
    proxy: Gate, admin: Any, prefix: str, step: str, held: str
) -> None:
    """
    The network hangs at each step, and what it has held back arrives after everybody has given up:
    the place goes, and so does the session.
    """
    store = proxy.store(prefix=prefix, timeout=0.3, max_sessions_per_user=1, on_limit="reject")
    async with store:
        await create(store, n=1)
        session = await open_session(store).load()
        reached, go_on = Steps(store).pause_before(step)

        async def act() -> None:
            await session.login("ann")
            await session.save()

        acting = asyncio.create_task(act())
        await reached.wait()
        proxy.hang() if held == "commands" else proxy.hold_replies()
        go_on.set()
        with pytest.raises(SessionUnavailable):
            await acting
        discard(session)
        proxy.open()
        while admin.zcard(index_key(prefix, "ann")) or len(look(admin, prefix).users) > 1:
            await asyncio.sleep(0.01)
        assert await is_live(store, await log_in(store, "ann"))
