"""Rows 3, 5, 7, 8 and 9: Redis is well, and the way to it is not."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from functools import partial

import pytest

from asgi_redis_session import Session, SessionStore, SessionUnavailable

from ..support.internals import open_session
from .conftest import World
from .shop import OK, Browser, app_of


@pytest.mark.parametrize("seconds", [0.01, 0.1])
async def test_latency_delays_only_who_waits(world: World, seconds: float) -> None:
    """50 requests on a slow way are answered right; they share its batches, not queue for them."""
    ids = [await world.create(who=number) for number in range(50)]
    await world.loaded(ids[0])
    world.gate.slow(commands=seconds / 2, replies=seconds / 2)
    batches = world.store.stats.batches
    sessions = await asyncio.gather(*[world.loaded(session_id) for session_id in ids])
    assert [session["who"] for session in sessions] == list(range(50))
    assert world.store.stats.batches - batches <= 3


async def test_latency_beyond_the_timeout_is_refused(world: World) -> None:
    """What would take too long is refused, and works again when the way does."""
    session_id = await world.create(n=1)
    await world.loaded(session_id, hasty=True)
    world.gate.slow(replies=60)
    with pytest.raises(SessionUnavailable, match="did not answer within 1 s"):
        await world.loaded(session_id, hasty=True)
    world.gate.open()
    assert (await world.loaded(session_id))["n"] == 1


async def test_a_late_reply_reaches_nobody(world: World) -> None:
    """A reply that comes after its timeout is read by nobody, least of all by the next request."""
    mine, theirs = await world.create(who="me"), await world.create(who="them")
    await world.loaded(mine, hasty=True)
    world.gate.hold_replies()
    with pytest.raises(SessionUnavailable):
        await world.loaded(mine, hasty=True)
    world.gate.open()  # now the late reply is delivered, if there is anybody
    for _ in range(20):
        assert (await world.loaded(theirs, hasty=True))["who"] == "them"


async def test_a_lost_reply_shifts_nothing(world: World) -> None:
    """One reply out of a batch is lost: the others must not move up into its place."""
    ids = [await world.create(who=f"browser {number:02}") for number in range(20)]
    loaded = partial(world.loaded, hasty=True)
    await loaded(ids[0])
    before = world.gate.carried
    await loaded(ids[0])
    length = world.gate.carried[1] - before[1]
    for _ in range(5):
        # A commit leads the batch, so that its lost reply is not simply asked for again.
        leading = await loaded(ids[0])
        leading["who"] = "browser 00"
        world.gate.skip_replies(length)
        saved, *sessions = await asyncio.gather(
            leading.save(), *map(loaded, ids[1:]), return_exceptions=True
        )
        world.gate.open()
        assert saved is None or isinstance(saved, SessionUnavailable)
        for number, session in enumerate(sessions, 1):
            if isinstance(session, Session):
                assert session["who"] == f"browser {number:02}"
            else:
                assert isinstance(session, SessionUnavailable)


@pytest.mark.parametrize(
    "stray", [b"+OK\r\n", b"*2\r\n$1\r\nk\r\n$5\r\nstale\r\n", b"$100\r\nhalf"]
)
async def test_stray_data_on_an_idle_connection_is_not_read(world: World, stray: bytes) -> None:
    """Something that nobody asked for waits on the connection: it is thrown away with it."""
    session_id = await world.create(n=1)
    await world.loaded(session_id)
    world.gate.inject(stray)
    await asyncio.sleep(0.05)
    assert (await world.loaded(session_id))["n"] == 1
    assert world.gate.accepted == 2


async def test_a_half_open_connection_costs_one_timeout(world: World) -> None:
    """The peer has vanished without a word: one request times out, the next is answered."""
    session_id = await world.create(n=1)
    await world.loaded(session_id, hasty=True)
    world.gate.lose()
    with pytest.raises(SessionUnavailable, match="did not answer within 1 s"):
        await world.loaded(session_id, hasty=True)
    assert (await world.loaded(session_id, hasty=True))["n"] == 1
    assert world.gate.accepted == 2


@pytest.mark.parametrize("ending", ["reset", "close", "half-close", "CLIENT KILL", "timeout"])
async def test_an_idle_connection_that_ended_does_not_show(world: World, ending: str) -> None:
    """Ended while idle, by whomever: reads and commits find a new one."""
    session_id = await world.create(n=1)
    session = await world.loaded(session_id)
    if ending == "CLIENT KILL":
        world.admin.client_kill_filter(_type="normal", skipme=True)
        await world.gate.is_idle()
    elif ending == "timeout":
        world.admin.config_set("timeout", 1)
        try:
            await world.gate.is_idle()
        finally:
            world.admin.config_set("timeout", 0)
    else:
        world.gate.cut_now(ending)  # type: ignore[arg-type]
    await asyncio.sleep(0.05)  # so that the store's loop has looked, too
    session["n"] = 2
    await session.save()
    assert (await world.loaded(session_id))["n"] == 2


async def test_single_bytes_are_put_together(world: World) -> None:
    """Requests and replies that travel byte by byte are as good as whole ones."""
    session_id = await world.create(text="é" * 500, n=1)
    world.gate.crumble()
    session = await world.loaded(session_id)
    session["n"] = 2
    await session.save()
    assert await world.fields(session_id) == {"text": "é" * 500, "n": 2}


async def test_resets_under_load_mix_up_nothing(world: World) -> None:
    """100 browsers while connections are reset at random: each answer is right or a 503."""
    ids = [await world.create(who=number) for number in range(100)]
    chance, right, refused = random.Random(6), 0, 0

    async def browse(number: int) -> None:
        nonlocal right, refused
        for count in range(20):
            try:
                session = await world.loaded(ids[number])
                assert session["who"] == number
                session["count"] = count
                await session.save()
                right += 1
            except SessionUnavailable:
                refused += 1

    browsing = asyncio.gather(*map(browse, range(100)))
    while not browsing.done():
        goal = right + 1
        for _ in range(10):
            await asyncio.sleep(chance.random() / 20)
            world.gate.cut_now(chance.choice(["reset", "close"]))
        # A slow machine gets somewhere, too.
        while right < goal and not browsing.done():
            await asyncio.sleep(0.005)
    await browsing
    assert right + refused == 2000
    assert right > 0
    for number, session_id in enumerate(ids):
        assert (await world.fields(session_id))["who"] == number


@pytest.mark.long
@pytest.mark.parametrize("milliseconds", [10, 100, 1000])
async def test_latency_under_load(
    world: World, milliseconds: int, figure: Callable[[str], None]
) -> None:
    """200 requests at once wait for the way and back, and little more; others do not wait."""
    async with SessionStore.from_url(world.gate.url, prefix=world.prefix, timeout=20) as store:
        app = app_of(store)
        browsers = [Browser(app, await world.create(n=number)) for number in range(200)]
        await browsers[0].get("/read")
        world.gate.slow(replies=milliseconds / 1000)
        batches = store.stats.batches
        start = time.monotonic()
        reading = asyncio.gather(*[browser.get("/read") for browser in browsers])
        await asyncio.sleep(0)
        assert await Browser(app, browsers[0].session_id).get("/hello") == OK
        unaffected = time.monotonic() - start
        assert not reading.done()
        assert {*await reading} == {OK}
        took = time.monotonic() - start
    figure(
        f"latency of {milliseconds} ms: 200 requests at once all answered in {took:.3f} s; "
        f"a request that needs no session in {unaffected:.3f} s"
    )
    assert store.stats.batches - batches <= 3  # ways and back, not one for each request


async def test_nobody_at_the_address_is_refused_in_time() -> None:
    """A host that swallows packets (no RST, no answer): the timeout covers connecting, too."""
    with socket.socket() as full:
        # A listener whose queue is full answers as a black hole does.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            crowd.append(one)
        url = f"redis://127.0.0.1:{full.getsockname()[1]}/0"
        async with SessionStore.from_url(url, timeout=0.5) as store:
            with pytest.raises(SessionUnavailable, match=r"did not answer within 0\.5 s"):
                await open_session(store, "A" * 43).load()
        for one in crowd:
            one.close()
