"""What is sent behind a batch: the proof of plain commands, and the barrier of durable writes."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from asgi_redis_session import Durability
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.batch import Rider
from asgi_redis_session.transport.failures import BarrierNotReached, LaneBroken
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.plain import Plain
from asgi_redis_session.transport.pool import private_pool
from asgi_redis_session.transport.proof import Proof, ScriptProof

from ..support.gate import gate_to
from ..support.servers import ask, client_of
from .test_lane import echo, pack

# --- Proofs ---


@pytest.fixture(scope="module")
def guarded() -> Iterator[DevServer]:
    """
    A server where `app` may not PING, and only read keys that begin with "r", so that no script
    uses one.
    """
    with DevServer(search=False) as server:
        rights = ("on", ">pw", "%RW~w*", "%R~r*", "+@all", "-ping")
        ask(server, "ACL", "SETUSER", "app", *rights)
        yield server


def lane_of(url: str) -> Lane:
    return Lane(private_pool(Redis.from_url(url)), timeout=20)


@pytest.fixture
async def lane(guarded: DevServer) -> AsyncIterator[Lane]:
    lane = lane_of(guarded.url.replace("redis://", "redis://app:pw@"))
    await strlen(lane, "w")
    yield lane
    await lane.aclose()


def strlen(lane: Lane, key: str) -> "asyncio.Future[Any]":
    return lane.submit(pack("STRLEN", key), key.encode(), is_plain=True)


ENDING = ("PING", "TIME")
BATCH = {"STRLEN", "EVALSHA", "EVAL", *ENDING}


async def test_a_batch_ends_with_a_ping_and_the_time(alone: DevServer) -> None:
    """One PING with a nonce and one TIME for all of its plain commands; no script."""
    lane = lane_of(alone.url)
    with Listener(alone) as listener:
        await asyncio.gather(*[strlen(lane, key) for key in "abc"])
        await asyncio.gather(*[strlen(lane, key) for key in "de"])
        sent = [command for command in listener.heard() if command[0] in BATCH]
    assert [name for name, *_ in sent] == [*["STRLEN"] * 3, *ENDING, *["STRLEN"] * 2, *ENDING]
    first, second = [int(command[1]) for command in sent if command[0] == "PING"]
    assert second == first + 1
    await lane.aclose()


async def test_where_ping_is_refused_a_script_proves() -> None:
    """
    The first batch is proven again (twice: the server does not know the script), those behind it
    at once: PING is sent no second time.
    """
    with DevServer(search=False) as server, client_of(server) as admin:
        admin.acl_setuser("app", True, passwords=["+pw"], keys=["*"], commands=["+@all", "-ping"])
        lane = lane_of(server.url.replace("redis://", "redis://app:pw@"))
        for batches in (3, 1):
            before = lane.batches
            replies = [strlen(lane, key) for key in "abc"]
            assert [length for length, _ in await asyncio.gather(*replies)] == [0] * 3
            assert lane.batches - before == batches
        (refused,) = admin.acl_log()
        assert (refused["object"], refused["count"]) == ("ping", 1)
        await lane.aclose()


async def test_where_the_time_is_refused_nothing_can_be_read() -> None:
    """The callers are told what their user lacks."""
    with DevServer(search=False) as server, client_of(server) as admin:
        admin.acl_setuser("app", True, passwords=["+pw"], keys=["*"], commands=["+@all", "-time"])
        lane = lane_of(server.url.replace("redis://", "redis://app:pw@"))
        for reply in [strlen(lane, key) for key in "ab"]:
            with pytest.raises(ResponseError, match="'time' command"):
                await reply
        await lane.aclose()


async def test_only_its_own_nonce_proves_a_batch(alone: DevServer, lane: Lane) -> None:
    """Replies as of another batch, in its place, right in number and kind: they reach nobody."""
    by_ping = lane_of(alone.url)
    await strlen(by_ping, "w")
    another = Proof(1).command(), ScriptProof(b"w", 1, has_asking=False, in_full=True).command()
    for asked, ending in zip((by_ping, lane), another, strict=True):
        stray = asked.submit(pack("STRLEN", "w") + ending, b"w", is_plain=True)
        with pytest.raises(LaneBroken, match="another command"):
            await stray
        assert (await strlen(asked, "w"))[0] == 0
    await by_ping.aclose()


@pytest.mark.parametrize("keys", [("w1", "r1"), ("w1", "r1", "r2"), ("w1", "w2", "r1", "r2", "r3")])
async def test_a_proof_that_is_refused_is_tried_on_another_key(
    lane: Lane, keys: tuple[str, ...]
) -> None:
    """One after the other, the last one first, until one is accepted."""
    replies = [strlen(lane, key) for key in keys]
    assert [reply for reply, _ in await asyncio.gather(*replies)] == [0] * len(keys)
    assert (await strlen(lane, "w1"))[0] == 0


async def test_a_key_whose_command_has_failed_proves_nothing(lane: Lane) -> None:
    """Its error reaches its own caller; the proof uses one that was answered."""
    good, bad, last = strlen(lane, "w1"), strlen(lane, "x"), strlen(lane, "r1")
    with pytest.raises(NoPermissionError):
        await bad
    assert (await good)[0] == (await last)[0] == 0


async def test_a_batch_that_can_not_be_proven_is_refused(lane: Lane) -> None:
    """Each of its callers gets the error of the proof; the connection stays."""
    before = lane.batches
    for reply in [strlen(lane, "r1"), strlen(lane, "r2")]:
        with pytest.raises(NoPermissionError):
            await reply
    assert (await strlen(lane, "w1"))[0] == 0
    assert lane.batches - before == 3  # two of them, and the second proof of the first one


# --- Barriers ---


@pytest.fixture(scope="module")
def alone() -> Iterator[DevServer]:
    """A server without a replica."""
    with DevServer(search=False) as server:
        yield server


class Listener:
    """What a server is asked on the connections of others."""

    def __init__(self, server: DevServer) -> None:
        self._server = server
        self._client = client_of(server)
        self._monitor = self._client.monitor()

    def __enter__(self) -> Self:
        self._client.__enter__()
        self._monitor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._monitor.__exit__(*error)
        self._client.__exit__(*error)

    def heard(self) -> list[list[str]]:
        """Each command so far."""
        mark, found = secrets.token_hex(8), []
        ask(self._server, "ECHO", mark)
        for line in self._monitor.listen():
            if mark in line["command"]:
                break
            found.append(line["command"].split())
        return found

    def waits(self) -> list[list[str]]:
        """The arguments of each WAIT so far."""
        return [arguments for name, *arguments in self.heard() if name == "WAIT"]


def durable(url: str, concern: Durability) -> Lane:
    return Lane(private_pool(Redis.from_url(url)), timeout=20, purpose=concern)


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_barrier_ends_before_the_first_deadline(alone: DevServer) -> None:
    """It may take nine tenths of what is left until then, so that its answer arrives in time."""
    lane = durable(alone.url, Durability(replicas=1, timeout=3600))
    with Listener(alone) as listener:
        replies = [lane.submit(*echo("k"), in_seconds(seconds)) for seconds in (3000, 1000, 2000)]
        while not (waits := listener.waits()):
            await asyncio.sleep(0.01)
    ((replicas, within),) = waits
    assert replicas == "1"
    assert 800_000 < int(within) <= 900_000
    for reply in replies:
        reply.cancel()
    ask(alone, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await lane.aclose()


async def test_a_barrier_that_nobody_waits_behind_takes_no_time(alone: DevServer) -> None:
    """A rider alone, or a caller who has given up before anything was sent: a millisecond."""
    lane = durable(alone.url, Durability(replicas=1, timeout=3600))
    with Listener(alone) as listener:
        lane.submit(*echo("k")).cancel()
        await lane.drain()
        lane.submit_rider(Rider(pack("STRLEN", "k"), b"k", in_seconds(1000), LENGTH))
        await lane.drain()
        assert listener.waits() == [["1", "1"]] * 2
    assert lane.batches == 2
    await lane.aclose()


LENGTH: Plain[int] = Plain("length", "STRLEN", lambda length, _: length)


async def test_a_shortfall_comes_with_the_reply(alone: DevServer) -> None:
    """What was written stands; the reason names the server."""
    lane = durable(alone.url, Durability(replicas=1, timeout=0.05))
    where = f"Redis at 127.0.0.1:{alone.port}, database 0,"
    for reply in [lane.submit(*echo(key, "v")) for key in ("one", "other")]:
        with pytest.raises(BarrierNotReached) as short:
            await reply
        assert str(short.value) == f"{where} says: 0 of 1 replicas have it"
        assert short.value.reply in ([b"one", b"v"], [b"other", b"v"])
    await lane.aclose()


async def test_an_error_does_not_wait_for_the_barrier(alone: DevServer) -> None:
    """Nothing was written; the others of the batch have their shortfall."""
    lane = durable(alone.url, Durability(replicas=1, timeout=0.05))
    good = lane.submit(*echo("k"))
    with pytest.raises(ResponseError, match="mine"):
        await lane.submit(pack("EVAL", "return redis.error_reply('ERR mine')", 1, "k"), b"k")
    with pytest.raises(BarrierNotReached):
        await good
    await lane.aclose()


async def test_nothing_is_sent_behind_a_barrier(alone: DevServer) -> None:
    """Redis would not look at it before; what is not sent can be sent on another connection."""
    with gate_to(alone.url) as gate:
        client = Redis.from_url(gate.url)
        lane = Lane(private_pool(client), timeout=1, purpose=Durability(replicas=1, timeout=3600))
        lane.submit(*echo("k"), in_seconds(1000))
        while not gate.carried[0]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        sent, _ = gate.carried
        waits = lane.submit(*echo("waits"), in_seconds(1000))
        await asyncio.sleep(0.4)  # it has looked several times
        assert gate.carried[0] == sent
        waits.cancel()
        await lane.aclose()
