"""The lane: one connection, many callers."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection, Redis
from redis.exceptions import ResponseError

from asgi_redis_session import SessionStore
from asgi_redis_session.transport.failures import LaneBroken
from asgi_redis_session.transport.lane import Lane
from asgi_redis_session.transport.pool import private_pool

from ..support.gate import gate_to
from ..support.internals import connection_of, open_session, unread_bytes
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster

ECHO = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
async def lane(session_redis_url: str) -> Any:
    client = Redis.from_url(session_redis_url)
    lane = Lane(private_pool(client), timeout=20)
    yield lane
    await lane.aclose()
    await client.aclose(close_connection_pool=True)


def pack(*parts: Any) -> bytes:
    return b"".join(Connection().pack_command(*parts))


def echo(key: str, value: str = "") -> tuple[bytes, bytes]:
    return pack("EVAL", ECHO, 1, key, value), key.encode()


@pytest.mark.one_node
async def test_one_callers_error_is_its_own(lane: Lane) -> None:
    """An error reply reaches its caller only."""
    good = [lane.submit(*echo(f"k{number}", "v")) for number in range(10)]
    bad = lane.submit(pack("EVAL", "return redis.error_reply('ERR mine')", 1, "k"), b"k")
    good += [lane.submit(*echo(f"k{number}", "v")) for number in range(10, 20)]
    with pytest.raises(ResponseError, match="mine"):
        await bad
    assert [(await reply)[0] for reply in good] == [b"k%d" % number for number in range(20)]
    assert lane.batches == 1
    assert lane.commands == 21


@pytest.mark.one_node
async def test_commands_gather_while_a_batch_is_on_its_way(lane: Lane) -> None:
    """What is submitted meanwhile leaves together, as one batch."""
    first = lane.submit(*echo("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [lane.submit(*echo(f"k{number}")) for number in range(100)]
    await asyncio.gather(first, *rest)
    assert (lane.batches, lane.commands) == (2, 101)


@pytest.mark.one_node
async def test_nothing_is_sent_but_the_command(session_redis_url: str) -> None:
    """Neither before nor behind it, if it is a script, unless ASKING is asked for."""
    with gate_to(session_redis_url) as gate:
        lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=20)
        assert lane.purpose == "requests"
        await lane.submit(*echo("first"))
        for asking, more in ((False, b""), (True, pack("ASKING"))):
            before, _ = gate.carried
            packed, key = echo("k", "v")
            assert await lane.submit(packed, key, asking=asking) == [b"k", b"v"]
            assert gate.carried[0] - before == len(packed) + len(more)
        await lane.aclose()


@pytest.mark.one_node
@pytest.mark.parametrize("reply", ["7", "{}", "{'theirs'}", "'mine'", "{1, KEYS[1]}"])
async def test_a_reply_of_another_shape_is_never_delivered(lane: Lane, reply: str) -> None:
    """A script answers a list that begins with its key."""
    with pytest.raises(LaneBroken, match=r"^a reply belongs to another command$"):
        await lane.submit(pack("EVAL", f"return {reply}", 1, "mine"), b"mine")


@pytest.mark.one_node
async def test_a_reply_that_names_another_key_is_never_delivered(lane: Lane) -> None:
    """A caller gets LaneBroken, the connection goes, and the next command works."""
    wrong = lane.submit(pack("EVAL", ECHO, 1, "theirs", "secret"), b"mine")
    after = lane.submit(*echo("k", "v"))
    for reply in (wrong, after):
        with pytest.raises(LaneBroken, match="another command"):
            await reply
    assert await lane.submit(*echo("k", "v")) == [b"k", b"v"]


@pytest.mark.one_node
async def test_a_stray_reply_on_the_idle_connection_is_never_read_as_ours(lane: Lane) -> None:
    """An unread reply that waits on the connection: it is thrown away before the next batch."""
    await lane.submit(*echo("k"))
    connection = connection_of(lane)
    await connection.send_command("EVAL", ECHO, 1, "stray", "somebody else's")
    while not unread_bytes(lane):
        await asyncio.sleep(0.01)
    assert await lane.submit(*echo("k", "v")) == [b"k", b"v"]
    assert connection_of(lane) is not None


async def test_a_connection_closed_while_idle_is_replaced(store: SessionStore, admin: Any) -> None:
    """CLIENT KILL between two requests: the second does not notice."""
    session_id = await create(store, n=1)
    for client in admin.client_list(_type="normal"):
        if client["id"] != str(admin.client_id()):
            admin.client_kill_filter(_id=client["id"])
    await asyncio.sleep(0.05)
    assert (await open_session(store, session_id).load())["n"] == 1


@pytest.mark.one_node
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_write_after_an_idle_connection_was_lost(
    session_redis_url: str, prefix: str, ending: Any
) -> None:
    """FIN or RST between two requests: the second does not notice, though it is a write."""
    with gate_to(session_redis_url) as gate:
        async with SessionStore.from_url(gate.url, prefix=prefix) as store:
            session = await open_session(store, await create(store, n=1)).load()
            gate.cut_now(ending)
            await asyncio.sleep(0.05)
            await session.increment("n")
            assert await session.still_valid()
            await session.logout()


@pytest.mark.one_node
async def test_each_caller_has_a_deadline_of_its_own(session_redis_url: str) -> None:
    """A hung server: every caller gives up within the timeout, counted from its own queueing."""
    with gate_to(session_redis_url) as gate:
        client = Redis.from_url(gate.url)
        lane = Lane(private_pool(client), timeout=1)
        await lane.submit(*echo("k"))
        gate.hang()

        def now() -> float:
            """The lane's clock, which stops while the event loop is blocked."""
            return asyncio.get_running_loop().time() - lane.blocked

        async def longer() -> None:
            """A control by the same clock: what stops that stops both."""
            end = now() + 1 + 0.3
            while now() < end:
                await asyncio.sleep(0.1)
                for _ in range(3):  # the lane notices first that the loop was blocked
                    await asyncio.sleep(0)

        async def waits() -> None:
            control = asyncio.create_task(longer())
            with pytest.raises(LaneBroken, match=r"did not answer within 1 s"):
                await lane.submit(*echo("k"))
            assert not control.done()
            control.cancel()

        waiting = []
        for _ in range(6):
            waiting.append(asyncio.create_task(waits()))
            await asyncio.sleep(0.25)
        await asyncio.gather(*waiting)
        gate.open()
        assert await lane.submit(*echo("k", "v")) == [b"k", b"v"]
        await lane.aclose()
        await client.aclose(close_connection_pool=True)


@pytest.mark.one_node
async def test_cancelled_callers_never_cancel_the_batch(lane: Lane) -> None:
    """Cancelled before or after sending, the others' replies arrive."""
    replies = [lane.submit(*echo(f"k{number}", "v")) for number in range(30)]
    for reply in replies[::3]:
        reply.cancel()
    await asyncio.sleep(0)
    for reply in replies[1::3]:
        await asyncio.sleep(0)
        reply.cancel()
    assert [(await reply)[0] for reply in replies[2::3]] == [
        b"k%d" % number for number in range(2, 30, 3)
    ]


# --- Plain commands ---


def plain(*command: str) -> tuple[bytes, bytes]:
    return pack(*command), b"k"


@pytest.mark.one_node
async def test_plain_replies_are_those_of_their_commands(lane: Lane, admin: Any) -> None:
    """In order, beside a script's; also where the server does not know the proof's script."""
    admin.script_flush()
    for flush in (False, True):
        if flush:
            admin.script_flush()
        both = [lane.submit(*plain(name, "k"), is_plain=True) for name in ("GET", "STRLEN")]
        script = lane.submit(*echo("other", "v"))
        assert [reply for reply, _ in await asyncio.gather(*both)] == [None, 0]
        assert await script == [b"other", b"v"]


@pytest.mark.one_node
async def test_plain_replies_out_of_step_reach_nobody(lane: Lane) -> None:
    """One reply too many in the batch: every plain caller gets LaneBroken; the next one works."""
    await lane.submit(*echo("k"))
    before = lane.submit(*plain("GET", "k"), is_plain=True)
    two = lane.submit(pack("GET", "k") + pack("GET", "k"), b"k", is_plain=True)
    after = lane.submit(*plain("GET", "k"), is_plain=True)
    for reply in (before, two, after):
        with pytest.raises(LaneBroken, match="another command"):
            await reply
    reply, _ = await lane.submit(*plain("GET", "k"), is_plain=True)
    assert reply is None


@pytest.mark.one_node
async def test_a_plain_commands_error_is_its_own(lane: Lane, admin: Any) -> None:
    """The others of its batch get their replies. A key of another type is no error: it is None."""
    admin.set("text", "x", px=60_000)
    good = lane.submit(*plain("STRLEN", "text"), is_plain=True)
    wrong_type = lane.submit(pack("HGETALL", "text"), b"text", is_plain=True)
    bad = lane.submit(pack("GETRANGE", "text"), b"text", is_plain=True)
    with pytest.raises(ResponseError, match="wrong number"):
        await bad
    assert (await good)[0] == 1
    assert (await wrong_type)[0] is None


@pytest.mark.one_node
async def test_a_plain_reply_comes_with_the_servers_time(lane: Lane, admin: Any) -> None:
    """In milliseconds since 1970: by it, the client judges what a script would have judged."""
    seconds, micros = admin.time()
    _, now_ms = await lane.submit(*plain("GET", "k"), is_plain=True)
    later, later_micros = admin.time()
    assert seconds * 1000 + micros // 1000 <= now_ms <= later * 1000 + later_micros // 1000


@pytest.mark.one_node
async def test_a_scripts_reply_does_not_wait_for_the_proof(session_redis_url: str) -> None:
    """The connection is cut behind it: the script's caller has its reply, the plain one none."""
    with gate_to(session_redis_url) as gate:
        lane = Lane(private_pool(Redis.from_url(gate.url)), timeout=20)
        await lane.submit(*echo("k"))
        _, before = gate.carried
        await lane.submit(*echo("k"))
        _, after = gate.carried
        gate.cut("replies", after - before)
        script = lane.submit(*echo("k"))
        held = lane.submit(*plain("GET", "k"), is_plain=True)
        assert await script == [b"k", b""]
        with pytest.raises(LaneBroken):
            await held
        await lane.aclose()
