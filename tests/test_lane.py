"""The lane and the store on connections that die, lie, hang, or belong to somebody else."""

import asyncio
import gc
import logging
import os
import secrets
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.exceptions import ResponseError

from asgi_redis_session import (
    SessionEvent,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.transport.lane import Lane, LaneBroken
from asgi_redis_session.transport.pool import private_pool

from .gate import gate_to
from .support.internals import (
    connection_of,
    cookie_change,
    handle_of,
    key_of,
    limit_queue,
    open_session,
    refresh,
    scripts,
    unread_bytes,
)
from .test_concurrency import connections, create

ECHO = "return {KEYS[1], ARGV[1]}"
#: Milliseconds: well below the idle time, and long enough for a busy machine.
MINUTE = 60_000


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
    assert lane.batches == 2


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

        async def longer() -> None:
            """A control in the same loop: what keeps that busy keeps both."""
            await asyncio.sleep(1 + 0.3)
            for _ in range(100):
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


async def test_scripts_come_back_after_script_flush(store: SessionStore, admin: Any) -> None:
    """NOSCRIPT, at any time and for any verb, refreshes included, costs a round trip."""
    session_id = await create(store, n=1)
    handle = handle_of(store, session_id)
    admin.script_flush()
    assert (await open_session(store, session_id).load())["n"] == 1
    admin.script_flush()
    assert await open_session(store, session_id).increment("n") == 2
    session = await open_session(store, session_id).load()
    session["n"] = 3
    admin.script_flush()
    await session.save()
    admin.script_flush()
    admin.pexpire(f"{store.prefix}:{handle}", MINUTE)
    refresh(store, handle)
    while admin.pttl(f"{store.prefix}:{handle}") <= MINUTE:
        await store.drain()
        await asyncio.sleep(0.01)
    admin.script_flush()
    assert await store.revoke(handle)


@pytest.mark.one_node
async def test_a_load_that_is_tried_again_may_meet_a_server_without_scripts(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """A restarted server has cut the connection and knows no script: a load survives both."""
    with gate_to(session_redis_url) as gate:
        async with SessionStore.from_url(gate.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.script_flush()
            gate.cut("commands", 0)
            assert (await open_session(store, session_id).load())["n"] == 1
            await open_session(store, session_id).logout()


@pytest.mark.one_node
@pytest.mark.parametrize("made", ["pool", "blocking", "decoding", "default"])
async def test_any_client_is_made_safe(session_redis_url: str, prefix: str, made: str) -> None:
    """Whatever a handed-in client retries, decodes or times out, the store does not."""
    client = {
        "pool": lambda: Redis.from_url(session_redis_url, max_connections=1),
        "blocking": lambda: Redis(
            connection_pool=BlockingConnectionPool.from_url(session_redis_url, timeout=1)
        ),
        "decoding": lambda: Redis.from_url(session_redis_url, decode_responses=True),
        "default": lambda: Redis(
            port=urlsplit(session_redis_url).port or 0,
            socket_timeout=5,
        ),
    }[made]()
    async with SessionStore(client, prefix=prefix) as store:
        session_id = await create(store, text="é", raw="'")
        assert dict(await open_session(store, session_id).load()) == {"text": "é", "raw": "'"}
        assert await store.revoke(handle_of(store, session_id))
    assert await client.ping()  # not ours: still open
    await client.aclose(close_connection_pool=True)


async def test_unix_sockets_work(prefix: str) -> None:
    """unix:// URLs reach a server that listens on no port."""
    with DevServer(unix=True) as server:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            assert (await open_session(store, session_id).load())["n"] == 1


def test_several_event_loops_share_a_store(session_redis_url: str, prefix: str) -> None:
    """Loops in threads, and one after the other, each get their own connection."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    session_id = asyncio.run(create(store, n=0))

    async def work() -> None:
        for _ in range(50):
            await open_session(store, session_id).increment("n")
        await store.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def finish() -> int:
        async with store:
            n: int = (await open_session(store, session_id).load())["n"]
            await open_session(store, session_id).logout()
            return n

    assert asyncio.run(finish()) == 200


def test_a_loop_that_nobody_closed_leaves_no_connection(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """A lane closes with its event loop, without a warning (pytest turns those into errors)."""
    before = {client["id"] for client in admin.client_list()}
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    session_id = asyncio.run(create(store, n=0))
    asyncio.run(open_session(store, session_id).logout())
    gc.collect()
    assert connections(admin, before) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_workers_open_connections_of_their_own(session_redis_url: str, prefix: str) -> None:
    """A store that has been used before a fork works in parent and children, replies unmixed."""
    store = SessionStore.from_url(session_redis_url, prefix=prefix)
    loop = asyncio.new_event_loop()
    ids = [loop.run_until_complete(create(store, who=number)) for number in range(4)]

    async def check(number: int) -> None:
        for _ in range(200):
            assert (await open_session(store, ids[number]).load())["who"] == number

    children = []
    for number in range(1, 4):
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            try:
                asyncio.run(check(number))
                os._exit(0)
            except BaseException:  # noqa: BLE001  (a child must not return into pytest)
                os._exit(1)
        children.append(pid)
    loop.run_until_complete(check(0))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    for session_id in ids:
        loop.run_until_complete(open_session(store, session_id).logout())
    loop.run_until_complete(store.aclose())
    loop.close()


async def test_closing_waits_for_what_is_on_its_way(store: SessionStore, admin: Any) -> None:
    """Refreshes that nobody waits for are sent before the connection closes."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    refresh(store, handle_of(store, session_id))
    await store.aclose()
    assert admin.pttl(key) > MINUTE


async def test_a_closed_store_can_be_used_again(store: SessionStore) -> None:
    """`aclose` closes connections, not the store: the next command opens a new one."""
    session_id = await create(store, n=1)
    await store.aclose()
    assert (await open_session(store, session_id).load())["n"] == 1


# --- Secrets ---


def secret(letter: str) -> str:
    return letter * 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (secret("a"), [secret("b"), secret("a")]),
        (None, [secret("b"), None]),
        ([secret("a"), None], [secret("c"), secret("b"), secret("a")]),
    ],
)
async def test_older_secrets_are_still_read(
    session_redis_url: str, prefix: str, old: Any, new: Any
) -> None:
    """A session keeps its key under the old secret until it is renewed, then takes the newest."""
    before = SessionStore.from_url(session_redis_url, prefix=prefix, secret=old)
    after = SessionStore.from_url(session_redis_url, prefix=prefix, secret=new)
    newest = SessionStore.from_url(session_redis_url, prefix=prefix, secret=new[0])
    async with before, after, newest:
        session_id = await create(before, n=1)
        assert await open_session(after, session_id).increment("n") == 2
        assert await open_session(after, session_id).fetch("n") == {"n": 2}
        session = await open_session(after, session_id).load()
        assert session.handle == handle_of(before, session_id)
        assert await session.still_valid()
        session["n"] = 3
        session.renew()
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert (await open_session(newest, change.session_id).load())["n"] == 3
        assert not await open_session(before, session_id).still_valid()
        await open_session(after, change.session_id).logout()
        assert not await open_session(newest, change.session_id).still_valid()


async def test_another_secret_finds_nothing(session_redis_url: str, prefix: str) -> None:
    """HMAC keys: without the secret a known id leads to no session."""
    one = SessionStore.from_url(session_redis_url, prefix=prefix, secret=secret("a"))
    other = SessionStore.from_url(session_redis_url, prefix=prefix, secret=secret("b"))
    async with one, other:
        session_id = await create(one, n=1)
        assert len(await open_session(other, session_id).load()) == 0
        await open_session(one, session_id).logout()


@pytest.mark.parametrize("nonsense", ["short", [], ["a" * 20, "a" * 20], [5], ["a" * 20, "x"]])
def test_unusable_secrets_are_refused(nonsense: Any) -> None:
    """Too short, none at all, twice the same: one sentence, and the secret is not in it."""
    with pytest.raises(ValueError, match="secret") as refusal:
        SessionStore.from_url("redis://", secret=nonsense)
    assert "a" * 20 not in str(refusal.value)


# --- Errors people meet ---


@pytest.mark.parametrize("prefix", ["", "a b", "a:", ":a", "a::b", "a*", "ü", "{a}", 5])
def test_unusable_prefixes_are_refused(prefix: Any) -> None:
    """A prefix is plain words joined by colons."""
    with pytest.raises(ValueError, match="shop:session"):
        SessionStore.from_url("redis://", prefix=prefix)


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://x", "", "postgres://x", "redis://x:port"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """The sentence shows what a Redis URL looks like."""
    with pytest.raises(ValueError, match="redis://host:6379/0"):
        SessionStore.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "reddis://user:hunter2@host",
        "redis://:hunter2/x@localhost:6379/0",
        "redis://:hunter2#x@localhost:6379/0",
        "redis://:hunter2@localhost:6379/abc",
        "redis://:hunter2@localhost:6379/0?bogus=1",
    ],
)
def test_a_url_is_never_shown_with_its_password(url: str) -> None:
    """A mistyped URL with a password in it is refused, and the message leaves that out."""
    with pytest.raises(ValueError, match="Redis URL") as refusal:
        SessionStore.from_url(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_another_client_is_refused() -> None:
    """A synchronous client, say: the sentence names what is needed instead."""
    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        SessionStore(redis.Redis())  # type: ignore[arg-type]


async def sentence(url: str, **options: Any) -> str:
    async with SessionStore.from_url(url, timeout=20, **options) as store:
        with pytest.raises(SessionUnavailable) as error:
            await create(store, n=1)
        return str(error.value)


@pytest.mark.one_node
async def test_nobody_listens() -> None:
    """The sentence says where nobody answered."""
    with socket.socket() as deaf:  # has the port, so that nobody else gets it, and never listens
        deaf.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert f"Redis at {place}, database 0," in await sentence(f"redis://{place}/0")


async def test_a_wrong_password_and_database() -> None:
    """Password and database: one sentence that says what and where, never the password."""
    with DevServer(options={"requirepass": "right"}) as server:
        where = f"127.0.0.1:{server.port}"
        for url in (f"redis://:hunter2@{where}/0", f"redis://{where}/0"):
            message = await sentence(url)
            assert where in message
            assert "credentials" in message or "NOAUTH" in message or "Auth" in message
            assert "hunter2" not in message
        message = await sentence(f"redis://:right@{where}/77")
        assert "database 77" in message


@pytest.mark.one_node
async def test_an_outage_is_one_line_in_the_log(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One error when it begins, one warning when it ends, however many requests fail."""
    events: list[SessionEvent] = []
    caplog.set_level(logging.DEBUG, logger="asgi_redis_session")
    with gate_to(session_redis_url) as gate:
        async with SessionStore.from_url(
            gate.url, prefix=prefix, timeout=20, on_event=events.append
        ) as store:
            session_id = await create(store, n=1)
            gate.shut()
            for _ in range(5):
                with pytest.raises(SessionUnavailable):
                    await open_session(store, session_id).load()
            gate.open()
            await open_session(store, session_id).load()
            await open_session(store, session_id).logout()
            assert store.stats.errors == 5
    lines = [record for record in caplog.records if record.name == "asgi_redis_session"]
    assert [record.levelname for record in lines] == ["ERROR", "WARNING"]
    assert [event.name for event in events].count("unavailable") == 5


async def test_out_of_memory_still_reads_and_ends(prefix: str) -> None:
    """OOM: reads and logout work, writes raise SessionUnavailable and write nothing."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.config_set("maxmemory", "1")
            session = await open_session(store, session_id).load()
            session["n"] = 2
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await session.save()
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await open_session(store, session_id).increment("n")
            with pytest.raises(SessionUnavailable, match=r"OOM|maxmemory"):
                await create(store, n=1)
            assert (await open_session(store, session_id).load())["n"] == 1
            await open_session(store, session_id).logout()
            assert not await open_session(store, session_id).still_valid()


async def test_a_replica_still_reads(prefix: str) -> None:
    """Read-only server: loads survive, writes raise SessionUnavailable."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        async with SessionStore.from_url(server.url, prefix=prefix) as store:
            session_id = await create(store, n=1)
            admin.config_set("replica-serve-stale-data", "yes")
            admin.replicaof("127.0.0.1", "1")
            session = await open_session(store, session_id).load()
            assert session["n"] == 1
            session["n"] = 2
            with pytest.raises(SessionUnavailable, match=r"READONLY|read only"):
                await session.save()
            admin.replicaof("NO", "ONE")
            await session.save()
            assert (await open_session(store, session_id).load())["n"] == 2


async def test_no_key_stays_without_ttl_when_expiry_is_forbidden(prefix: str) -> None:
    """An ACL without PEXPIREAT: creation fails, and no immortal session is left behind."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-pexpireat")
        url = server.url.replace("redis://", "redis://app:pw@")
        async with SessionStore.from_url(url, prefix=prefix) as store:
            with pytest.raises(SessionUnavailable):
                await create(store, n=1)
        assert admin.keys() == []


async def test_a_failing_on_event_harms_nobody(
    session_redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The request goes on; the failure is logged with the event's name."""

    def broken(event: SessionEvent) -> None:
        raise ValueError("a bug in the app's hook")

    async with SessionStore.from_url(session_redis_url, prefix=prefix, on_event=broken) as store:
        session_id = await create(store, n=1)
        await open_session(store, session_id).logout()
    assert "on_event failed for the event 'created'" in caplog.text


@pytest.mark.one_node
async def test_a_taken_id_is_drawn_again(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the random source to repeat an id, the session that has it would stay untouched."""
    taken = await create(store, n=1)
    other = await create(store, n=2)
    draws = iter([taken, "B" * 43, taken, "C" * 43])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(draws))
    assert await create(store, n=3) == "B" * 43
    session = await open_session(store, other).load()
    session.renew()
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.session_id == "C" * 43
    assert (await open_session(store, taken).load())["n"] == 1
    assert (await open_session(store, "C" * 43).load())["n"] == 2


async def test_refreshes_are_dropped_before_they_pile_up(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue of what nobody waits for is bounded; what is dropped is counted."""
    session_id = await create(store, n=1)
    limit_queue(monkeypatch, 3)
    for _ in range(10):
        refresh(store, handle_of(store, session_id))
    await store.drain()
    stats = store.stats
    assert (stats.refreshes, stats.refreshes_dropped) == (3, 7)


async def test_shutdown_of_the_app_sends_what_nobody_waits_for(
    session_redis_url: str, prefix: str, store: SessionStore, admin: Any
) -> None:
    """`lifespan.shutdown` is passed on, and answered when the refreshes are in Redis."""
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    admin.pexpire(key, MINUTE)
    own = SessionStore.from_url(session_redis_url, prefix=prefix)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert "session" not in scope
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        refresh(own, handle_of(own, session_id))
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "lifespan.shutdown.complete":
            assert admin.pttl(key) > MINUTE

    await SessionMiddleware(app, store=own)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_stats_count(session_redis_url: str, prefix: str) -> None:
    """Plain counters, also of connections that have been closed since."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
        session_id = await create(store, n=1)
        session = await open_session(store, session_id).load()
        session["n"] = 2
        await session.logout()
        refresh(store, handle_of(store, session_id))
        await store.aclose()
        stats = store.stats.as_dict()
    assert stats["loads"] == 1
    assert stats["commits"] == 1
    assert stats["refreshes"] == 1
    assert 4 <= stats["commands"] <= 8
    assert stats["errors"] == 0


def test_every_script_is_known_by_its_sha(admin: Any) -> None:
    """The SHA-1 that is sent is the one that Redis computes."""
    assert [admin.script_load(script.text) for script in scripts()] == [
        script.sha for script in scripts()
    ]
