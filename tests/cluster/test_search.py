"""Search on a Cluster: what one node answers, all masters together answer, or raise."""

import asyncio
import os
import random
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from asgi_redis_session import Num, SearchUnavailable, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.engine.codec import encode

from ..support.documents import ROOT, blocks
from ..support.internals import index_names, limit_pages, with_shadows
from ..support.search import INDEX, NOTE, SKUS, TENANT, TOTAL, found, put
from ..support.servers import Cluster, ask, client_of, node_id, plain_client, replicated, wait_for
from ..support.shards import spanning

SESSIONS = 1_000
TENANTS, PRODUCTS = 20, 500


@pytest.fixture(scope="module")
def searching() -> Iterator[Cluster]:
    with Cluster(3, 1, search=True) as cluster:
        yield cluster


@pytest.fixture
async def spread(searching: Cluster, prefix: str) -> AsyncIterator[SessionStore]:
    """A store on the Cluster. Its timeout is how long `revoke` waits for sessions on their way."""
    searching.await_healthy()
    async with SessionStore.from_url(searching.url, prefix=prefix, index=INDEX, timeout=5) as store:
        yield store
        await store.search.drop_index()


def some_sessions(store: SessionStore, number: int) -> dict[str, dict[str, Any]]:
    """Sessions as commits leave them, by handle."""
    chosen, now = random.Random(7), int(time.time() * 1000)
    sessions: dict[str, dict[str, Any]] = {}
    for done in range(number):
        fields = {
            "tenant": f"shop-{chosen.randrange(TENANTS)}",
            "skus": [f"SKU-{sku}" for sku in chosen.sample(range(PRODUCTS), 3)],
            "total": chosen.randrange(1000) / 4,
            "note": chosen.choice(["red shoes", "blue shoes", "green hat"]),
        }
        if done % 10 == 0:
            del fields["tenant"]
        shadows = with_shadows(store, {name: encode(value) for name, value in fields.items()})
        created = now - number + done // 3
        sessions[f"{chosen.getrandbits(128):032x}"] = {"@v": 1, "@created": created, **shadows}
    return sessions


def seed(url: str, prefix: str, sessions: dict[str, dict[str, Any]]) -> None:
    with plain_client(url) as client:
        pipeline = client.pipeline(transaction=False)
        for number, (handle, fields) in enumerate(sessions.items(), 1):
            pipeline.hset(f"{prefix}:{handle}", mapping=fields)
            pipeline.pexpire(f"{prefix}:{handle}", 3_600_000)
            if number % 1000 == 0:
                pipeline.execute()
        pipeline.execute()


async def answers(store: SessionStore) -> dict[str, Any]:
    """What a store answers to questions of every kind."""
    search = store.search
    given: dict[str, Any] = {}
    filters = [
        None,
        TENANT == "shop-7",
        ~(SKUS == "SKU-13"),
        SKUS.in_([f"SKU-{sku}" for sku in range(40)]),
        (TOTAL >= 100) & (NOTE == "shoes"),
        TENANT == "nobody",
    ]
    for where in filters:
        given[f"count({where})"] = await search.count(where)
        given[f"count({where}, exact=False)"] = await search.count(where, exact=False)
        given[f"find({where})"] = await found(store, where)
        for name in ("tenant", "skus"):
            for exact in (True, False):
                counted = await search.count_by(name, where, exact=exact)
                given[f"count_by({name}, {where}, {exact})"] = counted
        given[f"sum_by({where})"] = await search.sum_by("tenant", "total", where)
    fields = [info.fields async for info in search.find(SKUS == "SKU-1", fields=["total"])]
    given["fields"] = sorted(info["total"] for info in fields)
    return given


async def test_it_answers_what_one_node_answers(
    spread: SessionStore, searching: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same 1,000 sessions on several pages, each answer and revocation is the same."""
    limit_pages(monkeypatch, first=40, others=400)
    sessions = some_sessions(spread, SESSIONS)
    with DevServer() as alone:
        async with SessionStore.from_url(alone.url, prefix=spread.prefix, index=INDEX) as one_node:
            for url in (alone.url, searching.url):
                seed(url, spread.prefix, sessions)
            for store in (one_node, spread):
                status = await store.search.create_index()
                assert (status.documents, status.failures, status.progress) == (SESSIONS, 0, 1)
                assert status.memory > 0
            expected = await answers(one_node)
            assert await answers(spread) == expected
            ended = [await one.search.revoke(SKUS == "SKU-2") for one in (one_node, spread)]
            assert ended[0] == ended[1] > 0
            assert await answers(spread) == await answers(one_node)
            # The others need not be ended one by one.
            await spread.search.drop_index()


async def test_each_master_has_an_index_of_its_own(
    spread: SessionStore, searching: Cluster
) -> None:
    """One index per master, made once, named for a slot that the master serves; dropped at once."""
    first = await spread.search.create_index()
    assert await spread.search.create_index() == first
    names = await index_names(spread)
    assert len(names) == 3
    masters = searching.others()
    for name in names:
        (owner,) = [m for m in masters if name.encode() in ask(m, "FT._LIST")]
        assert searching.owner(name) is owner
    rebuilt = await spread.search.create_index(rebuild=True)
    assert rebuilt.name != first.name
    assert len(await index_names(spread)) == 3
    assert await spread.search.drop_index() is True
    assert await index_names(spread) == []
    assert await spread.search.drop_index() is False


async def test_an_index_of_a_single_server_is_left_over(
    spread: SessionStore, searching: Cluster
) -> None:
    """One without a hash tag, from before its server joined the Cluster, is not asked, and goes."""
    name = f"{spread.prefix}:idx:0123456789ab:1"
    ask(
        searching.owner(name),
        "FT.CREATE",
        name,
        "PREFIX",
        1,
        f"{spread.prefix}:",
        "SCHEMA",
        "a",
        "TAG",
    )
    await put(spread, tenant="acme")
    with pytest.raises(SearchUnavailable, match="no index yet"):
        await spread.search.count()
    await spread.search.create_index()
    assert await spread.search.count() == 1
    assert name not in await index_names(spread)


async def test_another_declaration_is_noticed(spread: SessionStore, searching: Cluster) -> None:
    """By every question, until the index is rebuilt on all masters."""
    await spread.search.create_index()
    session = await put(spread, tenant="acme")
    async with SessionStore.from_url(
        searching.url, prefix=spread.prefix, index=[TENANT], timeout=5
    ) as other:
        for question in (other.search.count, other.search.status, other.search.create_index):
            with pytest.raises(SearchUnavailable, match="another declaration"):
                await question()
        await other.search.create_index(rebuild=True)
        assert await found(other, TENANT == "acme") == [session.handle]
        with pytest.raises(SearchUnavailable, match="another declaration"):
            await spread.search.count()


async def test_a_master_without_an_index_is_named(spread: SessionStore, searching: Cluster) -> None:
    """No answer is short: until it has one again, each question says which master has none."""
    await spread.search.create_index()
    sessions = [await put(spread, tenant="acme") for _ in range(20)]
    name = (await index_names(spread))[0]
    owner = searching.owner(name)
    ask(owner, "FT.DROPINDEX", name)
    for question in (spread.search.count, spread.search.status):
        with pytest.raises(SearchUnavailable, match=rf"^127.0.0.1:{owner.port}: .*no index yet"):
            await question()
    await spread.search.create_index()
    assert await spread.search.count() == len(sessions)


async def test_a_master_that_dies(prefix: str) -> None:
    """It is named until its replica has taken over; then that has the same index. Never short."""
    with Cluster(3, 1, search=True) as cluster:
        async with SessionStore.from_url(
            cluster.url, prefix=prefix, index=INDEX, timeout=5
        ) as store:
            status = await store.search.create_index()
            expected = sorted([str((await put(store, tenant="acme")).handle) for _ in range(50)])
            name = status.name.split(", ")[0]
            master = cluster.owner(name)
            heir = cluster.replica_of(master)
            replicated(master)
            os.kill(master.pid, signal.SIGKILL)
            with pytest.raises(SessionUnavailable, match=f"127.0.0.1:{master.port}"):
                await store.search.count()
            ask(heir, "CLUSTER", "FAILOVER", "TAKEOVER")
            await asyncio.to_thread(cluster.await_healthy)
            with suppress(SessionUnavailable):  # it learns that from the first question
                await store.search.count()
            assert await found(store) == expected
            assert (await store.search.status()).name == status.name


async def test_a_master_that_hands_over(spread: SessionStore, searching: Cluster) -> None:
    """While a replica takes over, and right after that, each answer is whole, or an error."""
    await spread.search.create_index()
    handles = sorted([str((await put(spread, tenant="acme")).handle) for _ in range(50)])
    (name, *_) = await index_names(spread)
    master = searching.owner(name)
    heir = searching.replica_of(master)
    given, over = 0, asyncio.Event()

    async def question() -> None:
        nonlocal given
        while not over.is_set():
            with suppress(SearchUnavailable, SessionUnavailable):
                assert await found(spread) == handles
                given += 1

    asking = asyncio.create_task(question())
    ask(heir, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(wait_for, lambda: searching.owner(name) is heir)
    over.set()
    await asking
    assert given > 0
    assert await found(spread) == handles


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_backfill_reaches_all_masters(
    spread: SessionStore, searching: Cluster, interrupted: bool
) -> None:
    """Sessions from before the declaration are found, and a cursor says where to go on."""
    async with SessionStore.from_url(searching.url, prefix=spread.prefix) as before:
        expected = {(await put(before, tenant="acme", n=n)).handle for n in range(300)}
    cursors: list[int] = []

    def progress(step: Any) -> None:
        cursors.append(step.cursor)
        if interrupted and len(cursors) == 2:  # three masters take three steps or more
            raise InterruptedError

    if interrupted:
        with pytest.raises(InterruptedError):
            await spread.search.create_index(backfill=True, progress=progress)
        await spread.search.create_index(backfill=True, resume=cursors[-1])
    else:
        await spread.search.create_index(backfill=True, progress=progress)
        assert cursors[-1] == 0
    assert set(await found(spread, TENANT == "acme")) == expected


async def test_a_filter_may_be_long(spread: SessionStore) -> None:
    """Thousands of values, up to what a script can pass on; then it says so."""
    await spread.search.create_index()
    await put(spread, tenant="acme", skus=["SKU-1"])
    many = SKUS.in_([secrets.token_hex(4) for _ in range(999)])
    long = many | TENANT.in_(["acme", *[secrets.token_hex(4) for _ in range(999)]])
    assert await spread.search.count(long) == 1
    for _ in range(2):
        long |= SKUS.in_([secrets.token_hex(4) for _ in range(1000)])
    with pytest.raises(SearchUnavailable, match="some 3,500 values"):
        await spread.search.count(long)


# --- Slots that move ---


def planted(searching: Cluster, store: SessionStore, number: int) -> list[str]:
    sessions = some_sessions(store, number)
    seed(searching.url, store.prefix, sessions)
    return sorted(sessions)


async def test_a_slot_on_its_way(spread: SessionStore, searching: Cluster) -> None:
    """Before its keys have moved, when half have, and when all have: each answer is the same."""
    await spread.search.create_index()
    planted(searching, spread, 600)
    expected = await answers(spread)
    key = f"{spread.prefix}:{max(expected['find(None)'])}"
    source = searching.owner(key)
    target = searching.others(source)[0]
    migration = searching.migrate(key, target)
    assert await answers(spread) == expected
    assert migration.move_keys() >= 1
    assert await answers(spread) == expected
    migration.finish()
    assert await answers(spread) == expected


async def test_slots_move_while_questions_are_asked(
    spread: SessionStore, searching: Cluster
) -> None:
    """Twenty slots change their masters meanwhile: each answer is whole, or an error."""
    await spread.search.create_index()
    handles = planted(searching, spread, 300)
    given, over = 0, asyncio.Event()
    expected = await spread.search.count_by("skus")

    async def question() -> None:
        nonlocal given
        while not over.is_set():
            with suppress(SearchUnavailable):
                assert await found(spread) == handles
                assert await spread.search.count_by("skus") == expected
                given += 1

    def move() -> None:
        for handle in handles[:20]:
            key = f"{spread.prefix}:{handle}"
            searching.migrate(key, searching.others(searching.owner(key))[0]).finish()

    asking = [asyncio.create_task(question()) for _ in range(2)]
    await asyncio.to_thread(move)
    over.set()
    await asyncio.gather(*asking)
    assert given > 0
    assert await found(spread) == handles
    assert await spread.search.revoke(Num("@created") >= 0) == len(handles)


async def test_an_index_whose_slot_moves(spread: SessionStore, searching: Cluster) -> None:
    """It is named, a second one is made beside it, and the documented commands remove it."""
    status = await spread.search.create_index()
    handles = planted(searching, spread, 30)
    name = status.name.split(", ")[0]
    source = searching.owner(name)
    target = searching.others(source)[0]
    migration = searching.migrate(name, target)

    async def is_refused() -> None:
        for question in (spread.search.count, spread.search.status):
            with pytest.raises(
                SearchUnavailable, match=rf"^127.0.0.1:{source.port}: .*{re.escape(name)}"
            ):
                await question()

    await is_refused()
    migration.finish()
    await is_refused()
    assert (await spread.search.create_index()).stranded == (f"{name} at 127.0.0.1:{source.port}",)
    assert await found(spread) == handles
    (finding,) = [one for one in (await spread.check()).findings if one.name == "index"]
    assert finding.level == "problem"
    assert f"{name} at 127.0.0.1:{source.port}" in finding.message

    (text,) = blocks("docs/search.md", "text")
    _, *commands = text.replace("session:idx:{12}:b9cafbf9a13a:1", name).splitlines()
    names = {"6314": str(migration.slot), "<id of the node that serves it>": node_id(target)}
    with client_of(source) as client:
        # ASKING is about the next command on the same connection.
        connection = client.connection_pool.get_connection()
        for command in commands:
            words = re.sub("|".join(names), lambda found: names[found[0]], command).split()
            connection.send_command(*words[1:])
            assert connection.read_response() == b"OK"
        client.connection_pool.release(connection)
    status = await spread.search.status()
    assert status.stranded == ()
    assert status.documents == len(handles)
    assert await found(spread) == handles


async def test_a_new_master_has_no_index_yet(prefix: str) -> None:
    """Slots go to a master without any: questions name it, until it has one and an index."""
    with Cluster(3, 0, search=True) as cluster:
        async with SessionStore.from_url(
            cluster.url, prefix=prefix, index=INDEX, timeout=5
        ) as store:
            await store.search.create_index()
            handles = planted(cluster, store, 30)
            new = cluster.add_master()
            key = f"{prefix}:{handles[0]}"
            migration = cluster.migrate(key, new)
            with pytest.raises(SearchUnavailable, match=f"127.0.0.1:{new.port}, which serves none"):
                await store.search.count()
            migration.finish()
            with pytest.raises(SearchUnavailable, match=f"^127.0.0.1:{new.port}: .*no index yet"):
                await store.search.count()
            await store.search.create_index()
            assert await found(store) == handles


# --- Redis 8, six masters, least rights ---


async def test_nodes_that_answer_for_all(prefix: str) -> None:
    """
    Where an index that is made through one node is listed by the others, one is enough for all.

    That is how Redis 8 does it, with a Search that spans the Cluster. Here three nodes with one
    server behind them do the same.
    """
    with spanning() as nodes:
        async with SessionStore.from_url(nodes.url, prefix=prefix, index=INDEX, timeout=5) as store:
            sessions = some_sessions(store, 300)
            seed(nodes.server.url, prefix, sessions)
            status = await store.search.create_index(backfill=True)
            assert "{" not in status.name
            assert ask(nodes.server, "FT._LIST") == [status.name.encode()]
            async with SessionStore.from_url(
                nodes.server.url, prefix=prefix, index=INDEX
            ) as one_node:
                assert await answers(store) == await answers(one_node)
            assert sorted(map(bool, nodes.asked)) == [False, False, True]
            rebuilt = await store.search.create_index(rebuild=True)
            assert ask(nodes.server, "FT._LIST") == [rebuilt.name.encode()]
            assert await store.search.revoke(SKUS == "SKU-1") > 0
            assert await store.search.drop_index() is True
            with pytest.raises(SearchUnavailable, match="no index yet"):
                await store.search.status()


@pytest.mark.long
async def test_six_masters_with_100_000_sessions(prefix: str) -> None:
    """Each answer is that of one node; also while a slot is on its way."""
    with Cluster(6, search=True) as cluster, DevServer() as alone:
        stores = [
            SessionStore.from_url(url, prefix=prefix, index=INDEX, timeout=20)
            for url in (alone.url, cluster.url)
        ]
        async with stores[0] as one_node, stores[1] as spread:
            sessions = some_sessions(one_node, 100_000)
            for url, store in ((alone.url, one_node), (cluster.url, spread)):
                seed(url, prefix, sessions)
                assert (await store.search.create_index()).documents == 100_000
            expected = await answers(one_node)
            assert await answers(spread) == expected
            key = f"{prefix}:{next(iter(sessions))}"
            migration = cluster.migrate(key, cluster.others(cluster.owner(key))[0])
            assert migration.move_keys() > 0
            assert await answers(spread) == expected
            migration.finish()
            ended = [await store.search.revoke(TENANT == "shop-7") for store in stores]
            assert ended[0] == ended[1] > 0
            assert await spread.search.count() == await one_node.search.count()


async def test_the_documented_rights_are_enough(prefix: str) -> None:
    """Those of the ACL, of a Cluster and of search; without one of them, the command is named."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    (least,) = re.findall(r"ACL SETUSER sessions on .*", text)
    (line,) = [one for one in text.splitlines() if "[search](search.md)" in one]
    rights = [*re.findall(r"\+[a-z0-9|._]+", least + line), "+cluster|slots", "+asking"]
    with Cluster(3, search=True) as cluster:
        for node in cluster.nodes:
            ask(node, "ACL", "SETUSER", "app", "on", ">pw", f"~{prefix}:*", "-@all", *rights)
        url = cluster.url.replace("://", "://app:pw@")
        async with SessionStore.from_url(url, prefix=prefix, index=INDEX, timeout=5) as store:
            await store.search.create_index(backfill=True)
            session = await put(store, "ada", tenant="acme", skus=["a"])
            assert await found(store, TENANT == "acme") == [session.handle]
            assert await store.search.count_by("skus", exact=False) == {"a": 1}
            assert await store.search.revoke(TENANT == "acme") == 1
            await store.search.create_index(rebuild=True)
            ask(cluster.nodes[0], "ACL", "SETUSER", "app", "-cluster|nodes")
            with pytest.raises(SearchUnavailable, match=r"cluster\|nodes"):
                await store.search.count()
            ask(cluster.nodes[0], "ACL", "SETUSER", "app", "+cluster|nodes")
            await store.search.drop_index()
