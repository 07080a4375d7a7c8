"""Commands that nobody waits for: who hears of them when they fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from asgi_redis_session.transport.batch import Rider
from asgi_redis_session.transport.failures import LaneBroken
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.pool import private_pool
from asgi_redis_session.transport.scripts import Script

from ..support.gate import Gate, gate_to
from ..support.internals import limit_queue
from .test_lane import echo, pack

pytestmark = [pytest.mark.on_cluster, pytest.mark.one_node]

Failed = list[tuple[Lane, Rider, Exception]]


@pytest.fixture
def gate(session_redis_url: str) -> Any:
    with gate_to(session_redis_url) as gate:
        yield gate


@pytest.fixture
def failed() -> Failed:
    """What the lane has reported."""
    return []


@pytest.fixture
async def lane(gate: Gate, failed: Failed) -> AsyncIterator[Lane]:
    """A lane that is connected."""
    client = Redis.from_url(gate.url)
    lane = Lane(private_pool(client), timeout=20, on_failed=lambda *found: failed.append(found))
    await lane.submit(*echo("first"))
    yield lane
    await lane.aclose()


def rider(text: str, key: str = "k") -> Rider:
    """A script that nobody waits for."""
    packed = pack("EVAL", text, 1, key)
    return Rider(packed, key.encode(), float("inf"), Script("rider", text, list))


GOOD = "redis.call('SET', KEYS[1], 1, 'PX', 60000) return KEYS"


async def test_one_that_succeeds_is_not_mentioned(
    lane: Lane, failed: Failed, admin: Any, prefix: str
) -> None:
    """It is done, and counted like any other command."""
    lane.submit_rider(rider(GOOD, prefix))
    reply = lane.submit(*echo("k", "v"))
    await lane.drain()
    assert admin.delete(prefix) == 1
    assert await reply == [b"k", b"v"]
    assert failed == []
    assert (lane.batches, lane.commands) == (2, 3)


async def test_one_that_is_refused_is_named_with_its_error(
    gate: Gate, lane: Lane, failed: Failed
) -> None:
    """The connection stays, and the others of its batch are answered."""
    refused = rider("return redis.error_reply('ERR mine')")
    lane.submit_rider(refused)
    reply = lane.submit(*echo("k", "v"))
    assert await reply == [b"k", b"v"]
    ((where, which, error),) = failed
    assert (where, which) == (lane, refused)
    assert isinstance(error, ResponseError)
    assert "mine" in str(error)
    await lane.submit(*echo("next"))
    assert gate.accepted == 1


@pytest.mark.parametrize("words", [("READONLY", "ERR"), ("ERR", "READONLY")])
async def test_one_that_says_that_the_master_was_demoted(
    gate: Gate, lane: Lane, failed: Failed, words: tuple[str, str]
) -> None:
    """The batch is read to its end, then the connection goes, whatever comes after that word."""
    for word in words:
        lane.submit_rider(rider(f"return redis.error_reply('{word} mine')"))
    assert await lane.submit(*echo("k", "v")) == [b"k", b"v"]
    await lane.submit(*echo("next"))
    assert gate.accepted == 2
    assert [isinstance(error, ReadOnlyError) for _, _, error in failed] == [
        word == "READONLY" for word in words
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("return {'theirs'}", "^a reply belongs to another command$"),
        ("return 7", "^a reply belongs to another command$"),
        ("return redis.error_reply('LOADING the data')", "BusyLoadingError"),
    ],
)
async def test_an_answer_that_can_not_be_its_own(
    lane: Lane, failed: Failed, text: str, reason: str
) -> None:
    """Another key, no list, or a server that is loading: nobody gets a reply behind it."""
    lost = rider(text)
    lane.submit_rider(lost)
    behind = lane.submit(*echo("k"))
    with pytest.raises(LaneBroken, match=reason):
        await behind
    ((where, which, error),) = failed
    assert (where, which) == (lane, lost)
    assert isinstance(error, LaneBroken)
    assert await lane.submit(*echo("next", "v")) == [b"next", b"v"]


async def test_one_that_waits_outlives_the_connection(
    gate: Gate, lane: Lane, failed: Failed, admin: Any, prefix: str
) -> None:
    """What was sent is lost, and says so; what was not is sent on the next connection."""
    gate.hang()
    lost = rider(GOOD, "lost")
    lane.submit_rider(lost)
    await asyncio.sleep(0.01)
    lane.submit_rider(rider(GOOD, prefix))
    gate.cut_now()
    gate.open()
    await lane.drain()
    assert admin.delete(prefix) == 1
    ((where, which, error),) = failed
    assert (where, which) == (lane, lost)
    assert "can't be used" in str(error)


async def test_a_busy_lane_says_so(gate: Gate, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and riders that wait count alike; what was sent does not. Then it takes no rider."""
    limit_queue(monkeypatch, 3)
    gate.hang()
    sent = lane.submit(*echo("sent"))
    await asyncio.sleep(0.01)
    busy, taken = [], []
    for number in range(4):
        busy.append(lane.is_busy)
        if number % 2:
            taken.append(lane.submit_rider(rider(GOOD, "ridden")))
        else:
            lane.submit(*echo("k"))
    assert busy == [False, False, False, True]
    assert taken == [True, False]
    assert lane.queued == 3
    gate.open()
    await sent
    await lane.drain()
    assert not lane.is_busy
