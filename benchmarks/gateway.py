"""
How long a gateway takes: `ForwardAuth` in one uvicorn, 64 connections, each request another user.

    make .bench/ready
    python -m benchmarks.gateway

The figures are printed, and nothing is published.
"""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from asgi_redis_session import CookiePolicy, SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.gateway import ForwardAuth

from . import load
from .contenders import BY_NAME, FIELDS

COOKIE = CookiePolicy(name="session", secure=False)
SESSIONS, CONNECTIONS, SECONDS, ROUNDS = 10_000, 64, 5, 3

if url := os.environ.get("BENCH_REDIS_URL"):  # in the worker
    app = ForwardAuth(
        SessionStore.from_url(url), cookie=COOKIE, fields={"X-Session-Theme": "theme"}
    )


async def fill(url: str) -> list[str]:
    """Log so many users in; returns their cookies' values."""

    async def one(number: int) -> str:
        async with store.open(None, cookie=COOKIE) as opened:
            await opened.session.login(number)
            opened.session.update(FIELDS)
        return (opened.set_cookie or "").partition(";")[0].partition("=")[2]

    async with SessionStore.from_url(url, timeout=60) as store:
        return await asyncio.gather(*[one(number) for number in range(SESSIONS)])


def main() -> None:
    """Measure the bare app, an app that reads its session, and the gateway, in turns."""
    targets = {"no session": "starlette", "an app that reads": "ours", "the gateway": "gateway"}
    with DevServer(search=False) as server, TemporaryDirectory() as folder, ExitStack() as stack:
        load.pin(server.pid, load.OTHER_CPUS)
        cookies = Path(folder, "cookies")
        cookies.write_text("\n".join(asyncio.run(fill(server.url))) + "\n")
        workers = {}
        for title, name in targets.items():
            contender = BY_NAME["ours" if name == "gateway" else name]
            module = "benchmarks.gateway:app" if name == "gateway" else None
            workers[title] = stack.enter_context(load.worker(contender, server.url, app=module))
            workers[title].ready()
            load.warm_up(workers[title], cookies)
        print("| | requests/s | p50, ms | p99, ms | errors |")
        print("| --- | --- | --- | --- | --- |")
        for _ in range(ROUNDS):
            for title, worker in workers.items():
                load.settle({"Redis": server.pid, title: worker.pid})
                found = load.closed(
                    worker, "read", cookies, connections=CONNECTIONS, seconds=SECONDS
                )
                p50, p99 = (found["latency"][part] / 1000 for part in ("50", "99"))
                print(
                    f"| {title} | {found['rate']:.0f} | {p50:.1f} | {p99:.1f} | {found['errors']} |"
                )
        with Redis.from_url(server.url) as redis:
            print(f"\nRedis {redis.info('server')['redis_version']}, {SESSIONS} sessions.")


if __name__ == "__main__":
    main()
