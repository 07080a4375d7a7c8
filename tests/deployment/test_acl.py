"""The rights of docs/deployment.md: enough, and each of them needed."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    SessionEvent,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
)
from asgi_redis_session.cli.watch import watched
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.doctor.facts import PROBES

from ..frameworks.test_push import are_heard, waiting
from ..support.deployment import ACL, DOCUMENT, documented, problems
from ..support.documents import ROOT
from ..support.internals import handle_of, open_session
from ..support.keyspace import session_keys
from ..support.servers import Cluster, ask, client_of
from ..support.sessions import create, log_in, works


@contextmanager
def acl_server(*rules: str, remove: str = "") -> Iterator[DevServer]:
    """A server with the documented user, plus these rules, minus one permission."""
    with DevServer() as server:
        documented = [rule for rule in ACL if rule != remove]
        ask(server, *documented, *rules)
        yield server


def acl_store(server: DevServer, **options: Any) -> SessionStore:
    return documented(2, {"localhost:6379": f"127.0.0.1:{server.port}"}, **options)


async def test_the_least_rights_are_enough() -> None:
    """Every verb works, and the doctor says what it could not see."""
    with acl_server() as server:
        async with acl_store(server, max_sessions_per_user=2) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
            assert problems(report) == []
            unseen = " ".join(finding.message for finding in report.of("unseen"))
            assert re.findall(r"\+([\w|.]+)", unseen) == ["info", "config|get", "ft._list", "scan"]
            assert "+ping" in next(found.message for found in report.of("advice"))
        with client_of(server) as client:
            assert session_keys(client) == []
        async with acl_store(server, prefix="other") as store:
            with pytest.raises(SessionUnavailable, match="refused the command"):
                await create(store, n=0)


#: What version 0.1 documented. It stays as it is: who has set it up must be able to upgrade.
RIGHTS_OF_0_1 = (
    "+evalsha +eval +time +exists +del +pttl +pexpireat +rename +hset +hget +hmget +hgetall +hdel "
    "+hlen +hexists +hkeys +hincrby +zadd +zrem +zcard +zrandmember +zscore +zrange +zrevrange "
    "+zrangebyscore +zrevrangebyscore"
)


async def test_the_rights_that_0_1_documented_are_enough() -> None:
    """Every verb works, nothing is refused on the side, and the doctor misses nothing."""
    user = "ACL SETUSER sessions on >a-long-password resetkeys ~session:* resetchannels -@all"
    events: list[SessionEvent] = []
    with DevServer() as server:
        ask(server, *user.split(), *RIGHTS_OF_0_1.split())
        async with acl_store(server, max_sessions_per_user=2, on_event=events.append) as store:
            await works(store, await create(store, n=0))
            session = await open_session(store, await create(store, n=0)).load()
            session.set_lifetime(idle=60)
            await session.save()
            assert await session.touch()
            await store.drain()  # what nobody waits for, too
            assert problems(await store.check()) == []
    assert [event.detail for event in events if "permission" in (event.detail or "")] == []


async def test_push_needs_rights() -> None:
    """With what the document names in addition, ends are pushed; with the least rights, not."""
    refused: list[SessionEvent] = []
    for rules in ([], rights("`push=True`")):
        with acl_server(*rules) as server:
            async with acl_store(server, push=True, on_event=refused.append) as store:
                session_id = await create(store, n=0)
                stream = waiting(store, session_id, every=0.02)
                await are_heard(store, 1 if rules else 0)
                assert await store.revoke(handle_of(store, session_id))
                assert (await stream).absence is not None
    assert [event for event in refused if event.name == "unavailable"] == []


async def test_expiry_needs_rights() -> None:
    """With what the document names in addition, it is reported."""
    seen: list[SessionEvent] = []
    with acl_server(*rights("`store.reporting_expired()`")) as server:
        ask(server, "CONFIG", "SET", "notify-keyspace-events", "Ex")
        async with acl_store(server, on_event=seen.append) as store, store.reporting_expired():
            while not [event for event in seen if event.name == "expired"]:
                handle = handle_of(store, await create(store, n=0))
                ask(server, "PEXPIRE", f"session:{handle}", 1)
                await asyncio.sleep(0.05)
    assert [event for event in seen if event.name == "unavailable"] == []


async def test_watch_needs_rights() -> None:
    """With what the document names in addition, logins and ends are known; else a sentence."""
    for rules in (["+info"], ["+info", "+config|get"], ["+info", *rights("its logins and ends")]):
        with acl_server(*rules) as server:
            ask(server, "CONFIG", "SET", "notify-keyspace-events", "Kz")
            async with acl_store(server) as store, watched(store) as (one,):
                assert one.hearing.is_on == (len(rules) > 2)
                await one.figures()
                await log_in(store, "ann")
                while one.hearing.is_on and not (await one.figures())["logins"]:
                    await asyncio.sleep(0.02)


async def test_a_pass_over_all_sessions_needs_scan() -> None:
    """The sentence names the right; with what the document names it works."""
    with acl_server() as server:
        async with acl_store(server) as store:
            await create(store, n=0)
            with pytest.raises(SessionUnavailable, match=r"\+scan"):
                await store.count()
            with pytest.raises(SessionUnavailable, match=r"\+scan"):
                await store.revoke_where(lambda _: True)
            ask(server, "ACL", "SETUSER", "sessions", *rights("`store.count`"))
            assert await store.count() == 1
            assert [info.fields async for info in store.scan()] == [{"n": 0}]
            assert await store.revoke_where(lambda _: True, reason="the end") == 1


async def test_with_ping_no_script_proves_a_read() -> None:
    """With what the document names in addition, nothing is refused, and the doctor is content."""
    with acl_server(*rights("reads that take")) as server, client_of(server) as admin:
        async with acl_store(server) as store:
            await works(store, await create(store, n=0))
            report = await store.check()
            assert [found.name for found in report.of("advice") if "PING" in found.message] == []
        assert [entry for entry in admin.acl_log() if entry["object"] == "ping"] == []


async def test_the_doctors_rights_show_all() -> None:
    """With what the document names in addition nothing stays unseen."""
    text = (ROOT / DOCUMENT).read_text()
    more = re.search(r"doctor see more: `([^`]+)`", text.replace("\n", " "))
    assert more
    with acl_server(*more[1].split()) as server:
        async with acl_store(server) as store:
            report = await store.check()
    assert report.of("unseen") == ()


PERMISSIONS = [rule for rule in ACL if rule.startswith("+")]


@pytest.mark.parametrize("rule", PERMISSIONS)
async def test_each_permission_is_needed_and_named(rule: str) -> None:
    """Without it the doctor names it, something fails with its name, and nothing is left behind."""
    name = rule[1:]
    with acl_server(remove=rule) as server:
        events: list[SessionEvent] = []
        async with acl_store(server, max_sessions_per_user=2, on_event=events.append) as store:
            (missing,) = [
                found.message
                for found in (await store.check()).of("problem")
                if found.name == "permissions"
            ]
            assert name.upper() in missing
            assert rule in missing
            with client_of(server) as client:
                assert session_keys(client) == [] or name == "del"

            async def everything() -> None:
                full = await create(store, n=0)
                with client_of(server) as client:
                    fields = {f"field {number}": 1 for number in range(300)}
                    client.hset(f"session:{handle_of(store, full)}", mapping=fields)
                await open_session(store, full).increment("n")
                with suppress(SessionValueError):
                    await open_session(store, full).increment("one too many")
                await store.revoke(handle_of(store, full))
                await works(store, await create(store, n=0))
                session_id = await create(store, old=1, n=0)
                session = await _session(store, session_id)
                del session["old"]
                await session.save()
                for _ in range(3):
                    session = await _session(store, await create(store, n=0))
                    await session.login("ann")
                    await session.save()
                await store.users.list("ann")
                await store.users.revoke_others(session)
                async with acl_store(server, on_event=events.append) as generous:
                    for _ in range(2):  # the second one looks after the place of the first
                        session = await _session(generous, await create(generous, n=0))
                        await session.login("bea")
                        await session.save()
                    await generous.drain()

            if name == "evalsha":  # the lane sends it first
                ask(server, "SCRIPT FLUSH")
            with suppress(SessionUnavailable):
                await everything()
                await store.drain()  # what nobody waits for is refused, too
            refusal = re.compile(rf"(?i)\b{name}\b|no permissions")
            assert any(refusal.search(event.detail or "") for event in events)
        with client_of(server) as client:
            assert [key for key in client.scan_iter() if client.ttl(key) < 0] == []


def rights(purpose: str) -> list[str]:
    """The rights that the document names in addition, for a purpose."""
    text = (ROOT / DOCUMENT).read_text().replace("\n", " ")
    found = re.search(rf"`([^`]+)` for {re.escape(purpose)}", text)
    assert found, purpose
    return found[1].split()


async def test_durability_has_rights_of_its_own() -> None:
    """With them writes wait; without, the doctor names them, and a write may be lost."""
    level = Durability(fsync=True, timeout=20)
    with acl_server() as server:
        ask(server, "CONFIG SET", "appendonly", "yes")
        async with acl_store(server, durability=level) as store:
            assert "WAITAOF" in problems(await store.check())[0]
            with pytest.raises(DurabilityNotReached, match="no permissions"):
                await create(store, n=0)
            ask(server, "ACL SETUSER", "sessions", *rights("[durability](#durability)"))
            await create(store, n=0)
            assert problems(await store.check()) == []


async def test_a_cluster_has_rights_of_its_own(prefix: str) -> None:
    """The slots and ASKING, and no RENAME; passwords are those of the URL."""
    with Cluster(2, options={"requirepass": "hunter2", "masterauth": "hunter2"}) as cluster:
        more = rights("a Cluster")
        for node in cluster.nodes:
            ask(node, *[rule for rule in ACL if rule != "+rename"], *more)
        url = cluster.url.replace("://", "://sessions:a-long-password@")
        async with SessionStore.from_url(url, timeout=20) as store:
            session_id = await create(store, n=0)
            key = f"session:{handle_of(store, session_id)}"
            migration = cluster.migrate(key, cluster.others(cluster.owner(key))[0])
            await works(store, await create(store, n=0))
            # A key that the source no longer has is asked for at the target.
            assert await open_session(store, session_id).fetch("n") == {"n": 0}
            await store.revoke(handle_of(store, session_id))
            assert await open_session(store, session_id).fetch("n") == {}
            migration.finish()
            assert problems(await store.check()) == []
        wrong = url.replace("a-long-password", "wrong")
        async with SessionStore.from_url(wrong, timeout=10) as store:
            with pytest.raises(SessionUnavailable, match="invalid username-password") as error:
                await create(store, n=0)
            assert "wrong" not in str(error.value)
            assert [finding.name for finding in (await store.check()).findings] == ["reach"]


def test_the_probes_are_what_scripts_call() -> None:
    """Every command in lua/ is probed and documented, and nothing else."""
    sources = "".join(
        path.read_text()
        for path in (ROOT / "asgi_redis_session/engine/lua").glob("*.lua")
        if path.name != "read_original.lua"  # a right of its own, see `rights`
    )
    assert rights("the drop-in's `import_from=Starsessions()`") == ["+get"]
    assert "+publish" in rights("`push=True`")
    called = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", sources)) | {"EVAL", "EVALSHA"}
    called -= {"PUBLISH", "SPUBLISH"}
    assert {probe[0] for probe in PROBES} == called
    assert {rule[1:].upper() for rule in PERMISSIONS} == called


async def _session(store: SessionStore, session_id: str) -> Any:
    return await open_session(store, session_id).load()
