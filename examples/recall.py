"""
A product is recalled: which carts hold it, in which shops, and how are these sessions ended?

    python -m examples.recall 100000

Fills that many carts on a private Redis (or on the one at $REDIS_URL), finds the recalled product
with Redis Search and with SCAN, and ends the sessions that hold it.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable
from contextlib import ExitStack

from redis.asyncio import Redis

from asgi_redis_session import SearchUnavailable, SessionStore, Tag
from asgi_redis_session.devserver import DevServer

PREFIX, RECALLED, AT_ONCE = "recall", "SKU-13", 500


async def fill_a_cart(store: SessionStore) -> None:
    async with store.open(None) as opened:
        opened.session["tenant"] = f"shop-{random.randrange(50)}"
        opened.session["skus"] = [f"SKU-{number}" for number in random.sample(range(5000), 3)]


async def seed(store: SessionStore, carts: int) -> None:
    for done in range(0, carts, AT_ONCE):
        more = min(AT_ONCE, carts - done)
        await asyncio.gather(*[fill_a_cart(store) for _ in range(more)])
        bar = "█" * round(40 * (done + more) / carts)
        print(f"\r{bar:░<40} {done + more:,} carts", end="", flush=True)
    print()


async def scan(redis: Redis) -> int:
    """The same count without an index: read every key."""
    cursor, found = None, 0
    while cursor != 0:
        cursor, keys = await redis.scan(cursor or 0, match=f"{PREFIX}:*", count=1000)
        async with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, "skus")
            found += sum(RECALLED in json.loads(raw or "[]") for raw in await pipeline.execute())
    return found


async def timed(what: str, answer: Awaitable[int]) -> None:
    started = time.perf_counter()
    print(f"{what:<32}{await answer:>8}{(time.perf_counter() - started) * 1000:>12.2f} ms")


async def main(url: str, carts: int) -> None:
    store = SessionStore.from_url(url, prefix=PREFIX, index=[Tag("tenant"), Tag("skus")])
    async with store, Redis.from_url(url) as redis:
        await store.search.create_index()
        await seed(store, carts)
        holds_it = Tag("skus") == RECALLED
        await timed(f"carts with {RECALLED}, by Search", store.search.count(holds_it))
        await timed(f"carts with {RECALLED}, by SCAN", scan(redis))
        print("by tenant:", await store.search.count_by("tenant", holds_it))
        await timed("sessions ended", store.search.revoke(holds_it))
        await timed(f"carts with {RECALLED}, now", store.search.count(holds_it))


if __name__ == "__main__":
    with ExitStack() as stack:
        url = os.environ.get("REDIS_URL") or stack.enter_context(DevServer()).url
        try:
            asyncio.run(main(url, int(sys.argv[1]) if sys.argv[1:] else 100_000))
        except SearchUnavailable as error:
            sys.exit(str(error))
