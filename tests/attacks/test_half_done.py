"""Permissions that are missing: each verb does all of what it should, or nothing."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import redis

from asgi_redis_session import Lifetime, Session, SessionStore, SessionUnavailable, Tag
from asgi_redis_session.devserver import DevServer

from ..support.internals import discard, open_session
from ..support.keyspace import forget
from ..support.servers import Cluster, client_of, plain_client
from ..support.sessions import create, log_in
from .conftest import Cases

#: What the scripts use on keys; each of them is taken away in turn.
COMMANDS = (
    *("hmget", "exists", "hget", "hgetall", "hset", "hdel", "hlen", "hkeys", "hexists", "hincrby"),
    *("pttl", "pexpireat", "del", "rename"),
    *(
        "zadd",
        "zscore",
        "zcard",
        "zrange",
        "zrevrange",
        "zrangebyscore",
        "zrevrangebyscore",
        "zrem",
    ),
)


async def _write(session: Session) -> None:
    session["cart"] = ["tea"]
    await session.save()


async def _write_and_remove(session: Session) -> None:
    session["cart"] = ["tea"]
    del session["other"]
    await session.save()


async def _shorten(session: Session) -> None:
    session.set_lifetime(idle=60, absolute=120)
    session["cart"] = ["tea"]
    await session.save()


async def _renew(session: Session) -> None:
    session.renew()
    session["cart"] = ["tea"]
    await session.save()


async def _log_in(session: Session) -> None:
    await session.login("ann")
    session["cart"] = ["tea"]
    del session["other"]
    await session.save()


async def _log_in_for_ever(session: Session) -> None:
    await session.login("ann", absolute=None)
    await session.save()


async def _increment(session: Session) -> None:
    await session.increment("n")


VERBS: list[Callable[[Session], Awaitable[None]]] = [
    *(_write, _write_and_remove, _shorten, _renew, _log_in, _log_in_for_ever, _increment),
    Session.logout,
]


def _hashes(admin: Any, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    """All sessions; when one was last written does not count."""
    found = {}
    for key in admin.scan_iter(f"{prefix}:*", count=1000):
        if admin.type(key) == b"hash":
            assert admin.pttl(key) > 0
            found[key] = {n: v for n, v in admin.hgetall(key).items() if n != b"@seen"}
    return found


def _is_done(after: dict[bytes, Any], before: dict[bytes, Any]) -> bool:
    """Whether the one session has ended, or lives on as a whole under another key."""
    return not after or (len(after) == 1 and not after.keys() & before.keys())


async def _take_away_each(
    store: SessionStore, admin: Any, acl: Callable[[str], None], prefix: str, cases: Cases
) -> None:
    for command in COMMANDS:
        for verb in VERBS:
            for make in (create, lambda store, **fields: log_in(store, "ann", **fields)):
                forget(admin, prefix)
                session_id = await make(store, cart=["coffee"], other=1, n=1)
                session = await open_session(store, session_id).load()
                before = _hashes(admin, prefix)
                acl(f"-{command}")
                try:
                    await verb(session)
                except SessionUnavailable:
                    discard(session)
                    await store.drain()
                    after = _hashes(admin, prefix)
                    # The index is another key: its last step may be refused by itself.
                    is_done = command.startswith("z") and _is_done(after, before)
                    assert after == before or is_done, (command, verb)
                else:
                    await store.drain()
                    assert _hashes(admin, prefix) != before, (command, verb)
                finally:
                    acl("+@all")
                cases()


async def test_each_permission_in_turn(prefix: str, cases: Cases) -> None:
    """A verb that is refused has changed nothing; one that is not has changed everything."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")

        def acl(rule: str) -> None:
            admin.execute_command("ACL", "SETUSER", "app", rule)

        url = server.url.replace("redis://", "redis://app:pw@")
        async with SessionStore.from_url(
            url, prefix=prefix, index=[Tag("n")], lifetime=Lifetime()
        ) as store:
            await _take_away_each(store, admin, acl, prefix, cases)


async def test_each_permission_in_turn_on_a_cluster(prefix: str, cases: Cases) -> None:
    """The same, where a session moves to another node in two steps."""
    with Cluster(2) as cluster, ExitStack() as stack:
        admins = [stack.enter_context(client_of(node)) for node in cluster.nodes]
        admin = stack.enter_context(plain_client(cluster.url))

        def acl(*rules: str) -> None:
            for one in admins:
                one.execute_command("ACL", "SETUSER", "app", *rules)

        acl("on", ">pw", "~*", "+@all")
        url = cluster.url.replace("redis+cluster://", "redis+cluster://app:pw@")
        async with SessionStore.from_url(url, prefix=prefix, timeout=20) as store:
            await _take_away_each(store, admin, acl, prefix, cases)
