"""
A background job: how does it change the sessions of a user who is not there?

    python -m examples.recipes.background_job ada SPRING

It starts from the user, not from a session that was noted earlier: a login or a renewal gives a
session another handle. $REDIS_URL names your Redis, and the prefix is that of the app.
"""

import asyncio
import os
import sys

from asgi_redis_session import SessionGone, SessionStore

store = SessionStore.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    prefix=os.environ.get("SESSION_PREFIX", "session"),
)


async def give_voucher(user_id: str, code: str) -> int:
    """Give it to each device of the user; returns how many there are."""
    done: set[str] = set()
    while left := [
        each.handle for each in await store.users.list(user_id) if each.handle not in done
    ]:
        for handle in left:
            try:
                async with store.edit(handle) as session:  # leaves the TTL alone
                    session["voucher"] = code
            except SessionGone:  # it has ended, or has another handle: the next list shows it
                continue
            done.add(handle)
    return len(done)


async def main(user_id: str, code: str) -> None:
    async with store:
        print(f"{await give_voucher(user_id, code)} devices have the voucher {code}.")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
