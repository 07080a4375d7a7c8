"""Rows 35 and 36: rights and credentials that change while the store is connected."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore, SessionUnavailable

from ..support.internals import new_id, open_session
from ..support.keyspace import session_keys
from ..support.sessions import create
from .conftest import World

OLD = {b"n": b"1", b"twin": b"1", b"other": b"x"}
NEW = {b"n": b"2", b"twin": b"2"}

#: What the scripts use; each of them may be taken away.
SCRIPTS = ["evalsha", "time"]
HASHES = ["hmget", "exists", "hgetall", "hset", "hdel", "hlen", "hincrby", "hget"]
KEYS = ["pttl", "pexpireat", "del", "rename"]
INDEXES = [
    "zadd",
    "zscore",
    "zcard",
    "zrange",
    "zrangebyscore",
    "zrevrangebyscore",
    "zrem",
    "zrevrange",
]


def _write(session: Session) -> None:
    session.update(n=2, twin=2)
    session.pop("other", None)


def _renew(session: Session) -> None:
    session.renew()
    _write(session)


async def _login(session: Session) -> None:
    await session.login("ada")
    _write(session)


VERBS: dict[str, Callable[[Session], Any]] = {
    "write": _write,
    "renew": _renew,
    "login": _login,
    "increment": lambda session: session.increment("other number"),
    "logout": Session.logout,
}


class Limited:
    """A store whose user may lose rights, with a session for each verb, of a user who has one."""

    def __init__(self, world: World, store: SessionStore) -> None:
        self.world = world
        self.store = store
        self.ids: dict[str, str] = {}
        self.refused: list[str] = []

    def rights(self, *rules: str) -> None:
        """Change what the user may do, by ACL SETUSER."""
        self.world.admin.execute_command("ACL", "SETUSER", "app", *rules)

    async def prepare(self) -> None:
        """Sessions for all verbs, and scripts that Redis knows."""
        for name in VERBS:
            self.ids[name] = await self._user_session("bea" if name == "logout" else None)
        self.ids["list"] = await self._user_session("eve")

    async def _user_session(self, user: str | None) -> str:
        session = await open_session(self.store).load()
        if user is not None:
            await session.login(user)
        session.update(n=1, twin=1, other="x")
        await session.save()
        return new_id(session)

    async def use_everything(self) -> None:
        """Every verb once; note which of them are refused."""
        users = self.store.users
        await self._attempt("create", create(self.store, n=2, twin=2))
        for name, verb in VERBS.items():
            await self._attempt(name, self._act(self.ids[name], verb))
        await self._attempt("list", users.list("eve"))
        await self._attempt("count", users.count("eve"))
        await self._attempt("revoke_all", users.revoke_all("eve"))

    async def _act(self, session_id: str, verb: Callable[[Session], Any]) -> None:
        session = await open_session(self.store, session_id).load()
        assert len(session) == 3, "a refusal is no empty session"
        result = verb(session)
        if result is not None:
            await result
        await session.save()

    async def _attempt(self, name: str, verb: Awaitable[Any]) -> None:
        try:
            await verb
        except SessionUnavailable as refusal:
            self.refused.append(f"{name}: {refusal}")

    def assert_whole(self) -> None:
        """Each session is as it was or has all of its change, and every key has a TTL."""
        admin = self.world.admin
        for key in session_keys(admin, self.world.prefix):
            assert admin.pttl(key) > 0, key
            if b":user:" not in key:
                fields = {k: v for k, v in admin.hgetall(key).items() if not k.startswith(b"@")}
                fields.pop(b"other number", None)
                assert fields in (OLD, NEW)


@pytest.fixture
async def limited(world: World) -> AsyncIterator[Limited]:
    world.admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "+@all")
    url = world.server.url.replace("redis://", "redis://app:pw@")
    async with SessionStore.from_url(url, prefix=world.prefix, timeout=20) as store:
        yield Limited(world, store)
    world.admin.execute_command("ACL", "DELUSER", "app")


@pytest.mark.parametrize("command", [*SCRIPTS, *HASHES, *KEYS, *INDEXES])
async def test_a_right_is_taken_away(limited: Limited, command: str) -> None:
    """One command is forbidden: 503, no half commit, no key without TTL, nobody made anonymous."""
    await limited.prepare()
    limited.rights(f"-{command}")
    await limited.use_everything()
    assert limited.refused, "is this command still used?"
    assert all("refused the command" in refusal for refusal in limited.refused)
    limited.assert_whole()
    limited.rights("+@all")
    assert await create(limited.store, n=1)


async def test_keys_out_of_reach(limited: Limited) -> None:
    """A user that may not touch the prefix: 503 that says so, and nothing is written."""
    limited.rights("resetkeys", "~else:*")
    with pytest.raises(SessionUnavailable, match="refused the command"):
        await create(limited.store, n=1)
    assert session_keys(limited.world.admin) == []


async def test_credentials_are_changed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Another password: 503 after one try, and no word of it; with the right one it recovers."""
    admin = world.admin
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">hunter2", "~*", "+@all")
    url = world.gate.url.replace("redis://", "redis://app:hunter2@")
    async with SessionStore.from_url(url, prefix=world.prefix, timeout=20) as store:
        session_id = await create(store, n=1)
        admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">rotated")
        assert (await open_session(store, session_id).load())["n"] == 1  # still connected
        admin.client_kill_filter(_type="normal", skipme=True)
        await world.gate.is_idle()
        await asyncio.sleep(0.05)  # so that the store's loop has looked, too
        before = world.gate.accepted
        with pytest.raises(SessionUnavailable, match="credentials") as refusal:
            await create(store, n=1)
        assert world.gate.accepted - before == 1
        assert "hunter2" not in str(refusal.value) + caplog.text
        admin.execute_command("ACL", "SETUSER", "app", ">hunter2")
        assert (await open_session(store, session_id).load())["n"] == 1
        admin.execute_command("ACL", "DELUSER", "app")
        with pytest.raises(SessionUnavailable):
            await create(store, n=1)
