"""What `watch` hears of logins and ends."""

import asyncio

from asgi_redis_session.cli.watch import watched

from ..support.internals import open_session
from ..support.sessions import log_in, opened


async def hears_logins_and_ends(url: str, prefix: str) -> None:
    """A login, renewal, logout or revocation counts once, and none of another prefix."""
    async with opened(url, prefix, timeout=20) as store, watched(store) as servers:
        ids = [await log_in(store, "ann") for _ in range(3)]
        await (await open_session(store, ids[0]).load()).logout()
        renewed = await open_session(store, ids[1]).load()
        renewed.renew()
        await renewed.save()
        async with opened(url, f"{prefix}2", timeout=20) as other:
            await log_in(other, "ann")
            await other.users.revoke_all("ann")
        assert await store.users.revoke_all("ann") == 2
        async with asyncio.timeout(100):
            while True:
                figures = [await server.figures() for server in servers]
                heard = [sum(one[name] or 0 for one in figures) for name in ("logins", "ends")]
                if heard == [3 + 1, 1 + 2]:
                    break
                await asyncio.sleep(0.05)
