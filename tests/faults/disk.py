"""
One server dies and comes back with what was on its disk, while browsers are at work.

`python -m tests.faults.disk` prints what was lost with each kind of persistence.
"""

import argparse
import asyncio
import logging
import random
import secrets
import time
from typing import Literal

from asgi_redis_session import SessionStore

from .journal import Journal, Tally
from .servers import Server

#: What stands in redis.conf.
KINDS: dict[str, dict[str, str | int]] = {
    "none": {"save": ""},
    "RDB": {"save": "1 1"},
    "AOF everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "AOF always": {"appendonly": "yes", "appendfsync": "always"},
}

Death = Literal["kill", "stop"]


async def die(server: Server, death: Death, work: float) -> Tally:
    """One round: browsers work, the server dies at a random moment, and is started again."""
    prefix = f"test-{secrets.token_hex(4)}"
    with server.admin as admin:
        async with SessionStore.from_url(server.url, prefix=prefix, timeout=2) as store:
            journal = Journal(store, admin)
            async with journal.at_work():
                await journal.acknowledges(100)
                await asyncio.sleep(random.uniform(work / 5, work))
                journal.strike()
                await asyncio.to_thread(server.kill if death == "kill" else server.stop)
                await asyncio.sleep(0.1)  # some find it dead
                await asyncio.to_thread(server.start)
                back_at = time.monotonic()
                await journal.acknowledges(100)
                await journal.is_calm(0.2)
            tally = journal.tally()
            tally.recoveries = [journal.since(back_at)]
            admin.flushall()
            return tally


async def deaths(kind: str, death: Death, rounds: int, *, work: float = 1.5) -> Tally:
    """So many rounds on one disk, each after up to *work* seconds of load."""
    with Server(**KINDS[kind]) as server:
        total = Tally()
        for _ in range(rounds):
            total += await die(server, death, work)
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: each")
    chosen = parser.parse_args()
    logging.disable()
    for kind in chosen.kind or KINDS:
        for death in ("kill", "stop"):
            print(f"{kind}, {death}: {asyncio.run(deaths(kind, death, chosen.rounds))}")


if __name__ == "__main__":
    main()
