"""Plain commands and their proof, when slots are elsewhere, or on their way."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import MovedError

from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.pool import private_pool
from asgi_redis_session.transport.scripts import pack

from ..support.servers import Cluster, ask


@pytest.fixture
def target(healthy: Cluster) -> DevServer:
    return healthy.others(healthy.owner("coming"))[0]


@pytest.fixture
async def lane(healthy: Cluster, target: DevServer) -> AsyncIterator[Lane]:
    """
    A lane to a node that is about to get the slot of "coming", but has no key of it yet. Its user
    may not PING, so that a script proves.
    """
    migration = healthy.migrate("coming", target)
    ask(target, "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-ping")
    lane = Lane(private_pool(Redis.from_url(target.url, username="app", password="pw")), timeout=20)
    yield lane
    await lane.aclose()
    ask(target, "ACL", "DELUSER", "app")
    migration.finish()


async def test_the_proof_of_an_asking_command_asks(lane: Lane) -> None:
    """Else the node would send it away."""
    length, _ = await lane.submit(pack("STRLEN", "coming"), b"coming", is_plain=True, asking=True)
    assert length == 0
    length, _ = await lane.submit(pack("STRLEN", "coming"), b"coming", is_plain=True, asking=True)
    assert length == 0  # now that it is known that it may not


async def test_a_proof_on_another_key_asks_if_its_command_has_asked(
    healthy: Cluster, target: DevServer, lane: Lane
) -> None:
    """The first one is refused, because its key is on another node."""
    away = next(key for key in map(str, range(1000)) if healthy.owner(key) is not target)
    good = lane.submit(pack("STRLEN", "coming"), b"coming", is_plain=True, asking=True)
    bad = lane.submit(pack("STRLEN", away), away.encode(), is_plain=True)
    with pytest.raises(MovedError):
        await bad
    assert (await good)[0] == 0
