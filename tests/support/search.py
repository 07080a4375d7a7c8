"""Sessions that can be searched for, and the handles that a search finds."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_redis_session import Num, Session, SessionStore, Tag, Text
from asgi_redis_session.search.filters import Filter

from .internals import open_session

TENANT, SKUS, TOTAL, NOTE = Tag("tenant"), Tag("skus"), Num("total"), Text("note")


INDEX = (TENANT, SKUS, TOTAL, NOTE)


#: What an attacker would send as a value, to be found by more than its owner.
HOSTILE = [
    *("*", "a*", "%", "%%a%%", "$p0", "$v", "@user:{x}", "} | @tenant:{*", "a|b", "{a}", "a}"),
    *("[0 9]", "@tenant", "tenant", "+inf"),
    *("-", "-a", "~a", '"', '"a"', "\\", "a\\", "\\*", "=>[KNN 2 @v $b]", "(a)", "a) | (b", "w'*'"),
    *("' | *", "a,b", " a", "a ", "  ", "\t", "\n", "a\nb", "\x1f", "a\x1fb", "\x00", "a\x00", ""),
    *("é", "e\u0301", "日本", "😀", "A", "a", "null", "true", "1", "1.0", "-0", "%20", "'", "''"),
    *("x" * 4095, "x" * 4096, "x" * 4097, "y" * 10_240, "😀" * 2_560),
]  # fmt: skip


@asynccontextmanager
async def indexed(url: str, prefix: str, **options: Any) -> AsyncIterator[SessionStore]:
    """A store whose index exists, and is gone afterwards."""
    async with SessionStore.from_url(url, prefix=prefix, **{"index": INDEX, **options}) as store:
        await store.search.create_index()
        try:
            yield store
        finally:
            await store.search.drop_index()


async def put(store: SessionStore, user: str | int | None = None, **fields: Any) -> Session:
    """A stored session with these fields."""
    session = await open_session(store).load()
    if user is not None:
        await session.login(user)
    session.update(fields)
    session.setdefault("stored", True)
    await session.save()
    return session


async def found(store: SessionStore, where: Filter | None = None) -> list[str]:
    """The handles that a filter finds; each once, and as many as are counted."""
    handles = [info.handle async for info in store.search.find(where)]
    assert len(set(handles)) == len(handles) == await store.search.count(where)
    return sorted(handles)


def handles(*sessions: Session) -> list[str]:
    return sorted(session.handle or "" for session in sessions)


def plant(admin: Any, prefix: str, count: int, **fields: Any) -> list[str]:
    """Sessions as a commit would leave them, faster."""
    pipeline, planted = admin.pipeline(transaction=False), []
    for number in range(count):
        handle = secrets.token_hex(16)
        pipeline.hset(
            f"{prefix}:{handle}",
            mapping={"@v": 1, "@created": 1_795_000_000_000 + number // 3, **fields},
        )
        pipeline.pexpire(f"{prefix}:{handle}", 600_000)
        planted.append(handle)
    pipeline.execute()
    return planted
