"""A lane's deadlines: they measure Redis, and each is one caller's own."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from asgi_redis_session import (
    CookiePolicy,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
)
from asgi_redis_session.transport.failures import LaneBroken, LaneClosed
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.pool import private_pool

from ..support.gate import Gate, gate_to
from ..support.internals import connection_of, limit_whole_queue, open_session
from ..support.sessions import create
from .test_lane import echo

pytestmark = [pytest.mark.on_cluster, pytest.mark.one_node]


@pytest.fixture
def gate(session_redis_url: str) -> Any:
    with gate_to(session_redis_url) as gate:
        yield gate


async def lane_through(gate: Gate, seconds: float) -> Lane:
    """A lane that is connected."""
    lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=seconds)
    await lane.submit(*echo("first"), asyncio.get_running_loop().time() + 20)
    return lane


async def test_a_blocked_event_loop_fails_nobody(gate: Gate) -> None:
    """A handler computes for longer than the timeout; the replies have long arrived."""
    lane = await lane_through(gate, 0.5)
    connection = connection_of(lane)
    for _ in range(3):
        waiting = [lane.submit(*echo(f"k{number}", "v")) for number in range(50)]
        await asyncio.sleep(0.001)
        time.sleep(1.2)  # noqa: ASYNC251  (that is the fault)
        assert [(await reply)[0] for reply in waiting] == [b"k%d" % number for number in range(50)]
    assert connection_of(lane) is connection
    await lane.aclose()


async def test_a_deadline_fails_only_its_own_caller(gate: Gate) -> None:
    """Of two callers in one batch, the impatient one gives up; the connection stays."""
    lane = await lane_through(gate, 20)
    connection = connection_of(lane)
    gate.hang()
    patient = lane.submit(*echo("patient", "v"))
    impatient = lane.submit(*echo("impatient", "v"), asyncio.get_running_loop().time() + 0.2)
    with pytest.raises(LaneBroken, match="did not answer"):
        await impatient
    assert not patient.done()
    gate.open()
    assert await patient == [b"patient", b"v"]
    assert await lane.submit(*echo("next", "v")) == [b"next", b"v"]
    assert connection_of(lane) is connection
    await lane.aclose()


async def test_a_deadline_counts_in_the_queue(gate: Gate) -> None:
    """What is queued behind a batch that gets no answer gives up in its own time."""
    lane = await lane_through(gate, 20)
    gate.hang()
    sent = lane.submit(*echo("sent"))
    await asyncio.sleep(0.01)
    queued = lane.submit(*echo("queued"), asyncio.get_running_loop().time() + 0.2)
    with pytest.raises(LaneBroken):
        await queued
    assert not sent.done()
    gate.open()
    await sent
    await lane.aclose()


async def test_a_slow_network_carries_several_batches(gate: Gate, admin: Any, prefix: str) -> None:
    """While one batch is not answered yet, the next one reaches Redis."""
    lane = await lane_through(gate, 2)
    gate.hold_replies()
    first = lane.submit(*echo("first"))
    await asyncio.sleep(0.01)
    writing = "redis.call('SET', KEYS[1], '1', 'PX', 60000) return {KEYS[1], '1'}"
    packed, key = echo(prefix)
    second = lane.submit(packed.replace(*texts(writing)), key)
    while not admin.exists(prefix):
        await asyncio.sleep(0.01)
    assert not first.done()
    gate.open()
    assert await first == [b"first", b""]
    assert await second == [prefix.encode(), b"1"]
    await lane.aclose()


def texts(script: str) -> tuple[bytes, bytes]:
    """What to replace in a packed `echo`, to have it run another script."""
    old, new = b"return {KEYS[1], ARGV[1]}", script.encode()
    return b"$%d\r\n%b" % (len(old), old), b"$%d\r\n%b" % (len(new), new)


async def test_a_slow_connection_gets_connected(gate: Gate, prefix: str) -> None:
    """Each round trip of its set-up takes most of a timeout: only the first callers fail."""
    gate.slow(0.45, 0.45)
    async with gate.store(prefix=prefix, timeout=1.0) as store:
        for _ in range(20):
            try:
                assert await open_session(store, "A" * 43).load() == {}
                break
            except SessionUnavailable:
                continue
        else:
            pytest.fail("it never got connected")


async def test_a_full_queue_refuses_at_once(
    session_redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load beyond the limit gets SessionUnavailable before any other has been answered."""
    limit_whole_queue(monkeypatch, 5)
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
        session_id = await create(store, n=1)
        loads = [asyncio.create_task(open_session(store, session_id).load()) for _ in range(8)]
        done = await asyncio.gather(*loads, return_exceptions=True)
        refused = [one for one in done if isinstance(one, SessionUnavailable)]
        assert len(refused) == 3
        assert "wait for" in str(refused[0])
        assert store.stats.refused == 3
        assert (await open_session(store, session_id).load())["n"] == 1


async def test_a_refused_request_is_told_when_to_try_again(
    session_redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of the queue, the answer is 503 with Retry-After; the others are served."""
    limit_whole_queue(monkeypatch, 5)
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
        session_id = await create(store, n=1)

        async def page(scope: Any, receive: Any, send: Any) -> None:
            await scope["session"].load()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        policy = CookiePolicy(name="session", secure=False)
        app = SessionMiddleware(page, store=store, cookie=policy)
        transport = httpx.ASGITransport(app=app)
        cookie = {"cookie": f"session={session_id}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            asked = [client.get("/", headers=cookie) for _ in range(8)]
            answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 3
        for answer in answers:
            assert answer.headers.get("retry-after") == ("1" if answer.status_code == 503 else None)
        assert store.stats.refused == 3


def test_the_end_of_the_event_loop_fails_what_is_queued(gate: Gate) -> None:
    """What was sent and what waits behind it get LaneClosed, so that nobody blames Redis."""

    async def leave() -> list[asyncio.Future[Any]]:
        lane = await lane_through(gate, 20)
        gate.hang()
        sent = lane.submit(*echo("sent"))
        await asyncio.sleep(0.01)
        return [sent, lane.submit(*echo("queued"))]

    for reply in asyncio.run(leave()):
        assert isinstance(reply.exception(), LaneClosed)
        assert str(reply.exception()) == "the event loop is shutting down"
