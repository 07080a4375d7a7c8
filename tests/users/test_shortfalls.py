"""A login or renewal of several writes, one of which reaches no replica."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from asgi_redis_session import Durability, DurabilityNotReached, Session, SessionStore
from asgi_redis_session.devserver import DevServer

from ..support.internals import new_id, open_session
from ..support.servers import QUICK, frozen, replicated
from ..support.sessions import create, is_live, log_in
from ..support.steps import Steps

ONE = Durability(replicas=1, timeout=0.3)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[DevServer, DevServer]]:
    """A master and its replica."""
    with DevServer(search=False, options=QUICK) as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(search=False, options=follow) as replica:
            yield master, replica


async def _renew(session: Session) -> None:
    session.renew()


async def _log_in(session: Session) -> None:
    await session.login("ann")


@pytest.mark.parametrize("short", ["the hash", "the place"])
@pytest.mark.parametrize(
    ("user", "verb"), [("ann", _renew), ("ann", _log_in), ("", _log_in), (None, _log_in)]
)
async def test_one_write_that_falls_short_is_told(
    pair: tuple[DevServer, DevServer], prefix: str, user: str | None, verb: Any, short: str
) -> None:
    """Whether it is that of the hash or that of the place; the session is there all the same."""
    master, replica = pair
    replicated(master)
    async with SessionStore.from_url(master.url, prefix=prefix) as store:
        session_id = None
        if user is not None:
            session_id = await (log_in(store, user) if user else create(store, n=1))
        session = await open_session(store, session_id).load()
        await verb(session)
        steps = Steps(store)

        async def on_step(name: str, _: int, send: Any) -> Any:
            is_short = (name == "confirm") == (short == "the place")
            with frozen(replica) if is_short else nullcontext():
                return await send()

        steps.on_step = on_step
        with pytest.raises(DurabilityNotReached):
            await session.save(durability=ONE)
        steps.stop()
        assert await is_live(store, new_id(session))
