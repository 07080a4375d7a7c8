"""
What questions across sessions cost, and what an index does:

    python -m benchmarks.search 10000 100000 1000000 --plot docs/search.png

For each number of sessions, on a private Redis with Redis Search: how long questions take beside
the same by SCAN, how much memory the index needs, what it adds to a commit, how soon a commit is
found, and how long a backfill takes and holds up others. Medians, all of one run.

    python -m benchmarks.search 10000 100000 --masters 3

The same questions to one node and to a Cluster of three masters, with the same sessions, and while
a slot of it is moving.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.asyncio import Redis

from asgi_redis_session import Num, SessionStore, Tag
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.engine.codec import encode
from tests.support.internals import open_session, with_shadows
from tests.support.servers import Cluster, plain_client

INDEX = [Tag("tenant"), Tag("skus"), Num("total")]
TENANTS, PRODUCTS = 50, 5000
SKU, TENANT = Tag("skus") == "SKU-13", Tag("tenant") == "shop-7"
SKU_ROUNDS, COMMITS = 15, 500

Results = dict[str, dict[str, float]]


def seed(url: str, store: SessionStore, number: int, *, shadows: bool) -> None:
    """Sessions as commits leave them, written faster than by commits."""
    with plain_client(url) as client:
        pipeline, now = client.pipeline(transaction=False), int(time.time() * 1000)
        for done in range(number):
            skus = [f"SKU-{sku}" for sku in random.sample(range(PRODUCTS), 3)]
            values = {"tenant": f"shop-{random.randrange(TENANTS)}", "skus": skus}
            fields = {n: encode(v) for n, v in {**values, "total": random.randrange(500)}.items()}
            written = with_shadows(store, fields) if shadows else fields
            created = now - number + done
            meta = {"@v": 1, "@created": created, "@seen": created, "@deadline": created + 10**9}
            key = f"{store.prefix}:{random.getrandbits(128):032x}"
            pipeline.hset(key, mapping={**meta, **written})
            pipeline.pexpire(key, 10**8)
            if done % 2000 == 1999:
                pipeline.execute()
        pipeline.execute()


async def scan(redis: Redis, prefix: str) -> int:
    """How many sessions hold the product, without an index."""
    cursor, found = None, 0
    while cursor != 0:
        cursor, keys = await redis.scan(cursor or 0, match=f"{prefix}:*", count=1000, _type="hash")
        async with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, "skus")
            found += sum("SKU-13" in json.loads(raw or "[]") for raw in await pipeline.execute())
    return found


async def milliseconds(ask: Callable[[], Awaitable[Any]], rounds: int = SKU_ROUNDS) -> float:
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        await ask()
        spent.append((time.perf_counter() - started) * 1000)
    return statistics.median(spent)


async def first_page(store: SessionStore) -> None:
    found = store.search.find(TENANT, fields=["total"])
    for _ in range(25):
        await anext(found, None)
    await found.aclose()


async def find_all(store: SessionStore) -> None:
    async for _ in store.search.find(SKU):
        pass


async def questions(store: SessionStore, redis: Redis) -> dict[str, float]:
    hits = await store.search.count(SKU)
    assert hits == await scan(redis, store.prefix)
    spent = {name: await milliseconds(ask) for name, ask in asked_of(store).items()}
    spent["SCAN for the sku"] = await milliseconds(partial(scan, redis, store.prefix), 3)
    spent["SCAN / count(sku)"] = spent["SCAN for the sku"] / spent["count(sku)"]
    spent["SCAN / find(sku), all"] = spent["SCAN for the sku"] / spent["find(sku), all"]
    return spent


def asked_of(store: SessionStore) -> dict[str, Callable[[], Awaitable[Any]]]:
    """The questions that are timed."""
    search = store.search
    return {
        "count(sku)": lambda: search.count(SKU),
        "count(tenant)": lambda: search.count(TENANT),
        "count(tenant, exact=False)": lambda: search.count(TENANT, exact=False),
        "find(tenant), first 25": lambda: first_page(store),
        "find(sku), all": lambda: find_all(store),
        'count_by("tenant")': lambda: search.count_by("tenant"),
        'count_by("tenant", exact=False)': lambda: search.count_by("tenant", exact=False),
    }


async def cluster_questions(number: int, masters: int) -> dict[str, dict[str, float]]:
    """Milliseconds per question: one node, a Cluster, the Cluster while a slot is moving."""
    spent: dict[str, dict[str, float]] = {}
    with DevServer() as alone, Cluster(masters, search=True) as cluster:
        for name, url in (("one node", alone.url), (f"{masters} masters", cluster.url)):
            async with SessionStore.from_url(url, prefix="session", index=INDEX) as store:
                random.seed(7)
                seed(url, store, number, shadows=True)
                await store.search.create_index()
                asked = asked_of(store)
                spent[name] = {what: await milliseconds(ask) for what, ask in asked.items()}
                if name != "one node":
                    key = await any_key(store)
                    migration = cluster.migrate(key, cluster.others(cluster.owner(key))[0])
                    moving = {what: await milliseconds(ask, 5) for what, ask in asked.items()}
                    spent["a slot moves"] = moving
                    migration.finish()
    return spent


async def any_key(store: SessionStore) -> str:
    """The key of one of the sessions."""
    found = store.search.find()
    session = await anext(found)
    await found.aclose()
    return f"{store.prefix}:{session.handle}"


async def commits(redis: Redis, store: SessionStore) -> dict[str, float]:
    """Microseconds of Redis' time for a commit of one field, by kind of field."""
    session = await open_session(store).load()
    session.update({"tenant": "x", "skus": ["y"], "total": 1, "theme": 0})
    await session.save()
    spent = {}
    for name in ("theme", "tenant"):
        await redis.config_resetstat()
        for number in range(COMMITS):
            session[name] = number
            await session.save()
        stats = await redis.info("commandstats")
        spent[name] = stats["cmdstat_evalsha"]["usec_per_call"]
    await session.logout()
    return spent


async def visible(store: SessionStore) -> dict[str, float]:
    """How many of a hundred commits the very next question finds, and when its answer is there."""
    session, found, spent = await open_session(store).load(), 0, []
    for number in range(100):
        session["tenant"] = f"new-{number}"
        started = time.perf_counter()
        await session.save()
        found += await store.search.count(Tag("tenant") == f"new-{number}")
        spent.append((time.perf_counter() - started) * 1000)
    await session.logout()
    return {"commits found by the next question, %": found, "ms": statistics.median(spent)}


async def memory(redis: Redis) -> int:
    await asyncio.sleep(0.2)
    used: int = (await redis.info("memory"))["used_memory"]
    return used


async def measure(number: int) -> Results:
    """Everything, for this many sessions."""
    results: Results = {}
    with DevServer() as server:
        redis = Redis.from_url(server.url)
        store = SessionStore.from_url(server.url, prefix="session", index=INDEX)
        bare = SessionStore.from_url(server.url, prefix="session")
        async with redis, store, bare:
            empty = await memory(redis)
            # A backfill of a million takes minutes, and each of its steps is the same.
            seed(server.url, store, number, shadows=number > 100_000)
            without_index = await commits(redis, bare)
            seeded = await memory(redis)
            size = {"sessions": (seeded - empty) / number}
            if number <= 100_000:
                started = time.perf_counter()
                await redis.config_resetstat()
                await store.search.create_index(backfill=True)
                results["backfill"] = {
                    "seconds": time.perf_counter() - started,
                    "longest turn of Redis, ms": await longest_turn(redis),
                }
                await store.search.drop_index()
                shaded = await memory(redis)
                size["shadows"] = (shaded - seeded) / number
                seeded = shaded
            started = time.perf_counter()
            await store.search.create_index()
            results["build"] = {"seconds": time.perf_counter() - started}
            size["index"] = (await memory(redis) - seeded) / number
            results["bytes per session"] = size
            results["questions, ms"] = await questions(store, redis)
            with_index = await commits(redis, store)
            results["commit of one field, µs in Redis"] = {
                "without index": without_index["theme"],
                "with index, field not declared": with_index["theme"],
                "with index, declared Tag": with_index["tenant"],
            }
            results["visibility"] = await visible(store)
    return results


async def longest_turn(redis: Redis) -> float:
    """The longest that Redis served nobody else, since its counters were reset (ms)."""
    return float((await redis.info("debug"))["eventloop_duration_max"]) / 1000


def table(measured: dict[int, Results]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| | {' | '.join(f'{number:,}' for number in measured)} |"]
    lines.append("| --- |" + " ---: |" * len(measured))
    first = max(measured.values(), key=len)
    for group, rows in first.items():
        for name in rows:
            cells = [results.get(group, {}).get(name) for results in measured.values()]
            shown = ["" if cell is None else _short(cell) for cell in cells]
            lines.append(f"| {group}: {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def cluster_table(spent: dict[str, dict[str, float]]) -> str:
    """Milliseconds per question as a Markdown table, with a column for each place."""
    lines = [f"| question, ms | {' | '.join(spent)} |", "| --- |" + " ---: |" * len(spent)]
    lines += [
        f"| {what} | {' | '.join(_short(one[what]) for one in spent.values())} |"
        for what in next(iter(spent.values()))
    ]
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(measured: dict[int, Results], path: str) -> None:
    """How long questions take, by the number of sessions."""
    import matplotlib as mpl  # noqa: PLC0415  (only this needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(8, 5))
    numbers = list(measured)
    for name in next(iter(measured.values()))["questions, ms"]:
        if not name.startswith("SCAN /"):
            spent = [results["questions, ms"][name] for results in measured.values()]
            style = "k--" if name.startswith("SCAN") else "-"
            axes.plot(numbers, spent, style, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="sessions", ylabel="milliseconds (median)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("sessions", type=int, nargs="+")
    parser.add_argument("--plot", help="where to draw the questions, as a PNG")
    parser.add_argument("--masters", type=int, help="compare a Cluster with one node")
    chosen = parser.parse_args()
    if chosen.masters:
        for number in chosen.sessions:
            spent = asyncio.run(cluster_questions(number, chosen.masters))
            print(f"\n{number:,} sessions\n\n{cluster_table(spent)}")
        return
    random.seed(7)
    measured = {number: asyncio.run(measure(number)) for number in chosen.sessions}
    print(table(measured))
    if chosen.plot:
        plot(measured, chosen.plot)


if __name__ == "__main__":
    main()
