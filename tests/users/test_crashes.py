"""A crash after, or before, every single step of a verb."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore, SessionUnavailable

from ..support.internals import cookie_change, discard, is_cluster, open_session
from ..support.keyspace import age_pending, forget, index_key, look
from ..support.sessions import create, live_among, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

ROOT = Path(__file__).parents[2]


async def _fresh(store: SessionStore) -> Session:
    return await open_session(store).load()


async def _anonymous(store: SessionStore) -> Session:
    return await open_session(store, await create(store, n=1)).load()


async def _ann(store: SessionStore) -> Session:
    return await open_session(store, await log_in(store, "ann", n=1)).load()


async def _bob(store: SessionStore) -> Session:
    return await open_session(store, await log_in(store, "bob", n=1)).load()


async def _login(store: SessionStore, session: Session) -> None:
    await session.login("ann")
    await session.save()


async def _renew(store: SessionStore, session: Session) -> None:
    session.renew()
    await session.save()


async def _logout(store: SessionStore, session: Session) -> None:
    await session.logout()


async def _revoke_all(store: SessionStore, session: Session) -> None:
    await store.users.revoke_all("ann")


async def _revoke_others(store: SessionStore, session: Session) -> None:
    await store.users.revoke_others(session)


CRASHES = {
    "fresh login": (_fresh, _login),
    "login on an anonymous session": (_anonymous, _login),
    "login again": (_ann, _login),
    "login on another's session": (_bob, _login),
    "renew": (_ann, _renew),
    "logout": (_ann, _logout),
    "revoke_all": (_ann, _revoke_all),
    "revoke_others": (_ann, _revoke_others),
}


@pytest.mark.parametrize("what", CRASHES)
async def test_a_crash_at_any_step_leaves_nothing_unlisted(
    what: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """
    Whether the process dies or Redis is away, before or after each step: no live session is
    unlisted, no key without a TTL, nobody holds an id that is alive, and a count repairs the index.
    """
    prepare, act = CRASHES[what]
    crashed = 0
    for limit in (None, 2):
        for make, done in [
            (make, done)
            for make in (asyncio.CancelledError, lambda: SessionUnavailable("away"))
            for done in (False, True)
        ]:
            number = 0
            while True:
                number += 1
                async with opened(session_redis_url, prefix, max_sessions_per_user=limit) as store:
                    others = [await log_in(store, "ann") for _ in range(2 - (prepare is _ann))]
                    session = await prepare(store)
                    await store.drain()
                    steps = Steps(store)
                    steps.fail_at(number, make(), done=done)
                    try:
                        await act(store, session)
                    except SessionUnavailable:
                        discard(session)
                    except asyncio.CancelledError:
                        pass
                    else:
                        assert number > len(steps.names)
                        break
                    crashed += 1
                    assert cookie_change(session) is None or act is _logout
                    steps.on_step = None
                    await store.drain()
                    seen = look(admin, prefix)
                    assert seen.unlisted(prefix) == []
                    assert seen.immortal == []
                    if limit is not None:
                        assert len(await live_among(store, others)) <= limit
                    age_pending(admin, prefix)
                    for user in ("ann", "bob"):
                        live = {handle for handle, of in seen.users.items() if of == user}
                        assert await store.users.count(user) == len(live)
                        key = index_key(prefix, user)
                        assert set(look(admin, prefix).places.get(key, {})) == live
                    forget(admin, prefix)
            forget(admin, prefix)
    assert crashed >= 16


KILLED = """
import asyncio, os, signal, sys
from asgi_redis_session import SessionStore
from tests.support.internals import around_scripts, open_session, stop_pruning

url, prefix, session_id, last = sys.argv[1:]


async def main():
    store, steps = SessionStore.from_url(url, prefix=prefix), iter(range(1, 100))

    async def around(name, send):
        reply = await send()
        if next(steps) == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    around_scripts(store, around)
    stop_pruning(store)
    session = await open_session(store, session_id).load()
    await session.login("ann")
    await session.save()


asyncio.run(main())
"""


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 6, 7])
async def test_a_process_that_is_killed_between_the_steps_of_a_login(
    session_redis_url: str, store: SessionStore, admin: Any, prefix: str, last: int
) -> None:
    """
    SIGKILL after load, place, hash (in a Cluster: taken, put back) and confirmation (there: and its
    own TTL), or not at all, as there are no more steps: nothing unlisted, nothing without TTL.
    """
    hash_steps = 2 if is_cluster(store) else 1
    session_id = await create(store, cart="tea")
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, session_redis_url, prefix, session_id, str(last)],
        check=False,
        cwd=ROOT,
        timeout=200,
    )
    assert killed.returncode == (-signal.SIGKILL if last <= 2 + 2 * hash_steps else 0)
    seen = look(admin, prefix)
    assert seen.unlisted(prefix) == []
    assert seen.immortal == []
    # The anonymous session, or the one that it became; between taken and put back, none.
    became = last >= 2 + hash_steps
    assert len(seen.users) == (last < 3) + became
    assert await open_session(store, session_id).still_valid() is (last < 3)
    assert await store.users.revoke_all("ann") == became
    assert look(admin, prefix).places == {}
