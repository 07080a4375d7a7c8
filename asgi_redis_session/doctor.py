"""
What a deployment is like: `await store.check()` asks, and answers as data.

It looks at each server that holds sessions, with whatever rights the store's user has, and says
what it could not see. It writes one key of its own, under the store's prefix, and deletes it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from .options import Durability
from .transport.client import Client as Wire
from .transport.lane import LaneBroken
from .transport.pool import private_pool
from .transport.route import Server

__all__ = ["CheckReport", "Finding", "examine"]

Level = Literal["ok", "advice", "problem", "unseen"]

_OLDEST, _RECOMMENDED = (6, 2), (7, 2)
#: Larger ones move a session out of the compact encoding, which takes about twice the memory.
_LISTPACK_VALUE = 512
#: Seconds that two clocks may differ.
_CLOCK = 1.0

#: Every command that the store sends or its scripts call on a key, in an order that leaves nothing
#: behind.
PROBES: tuple[tuple[str, ...], ...] = (
    ("EVAL", "return 1", "1", "{key}"),
    ("EVALSHA", "0" * 40, "1", "{key}"),
    ("TIME",),
    ("DEL", "{key}"),
    ("PEXPIREAT", "{key}", "{soon}"),
    ("HSET", "{key}", "n", "1"),
    ("PEXPIREAT", "{key}", "{soon}"),
    ("PTTL", "{key}"),
    ("EXISTS", "{key}"),
    ("HMGET", "{key}", "n"),
    ("HGET", "{key}", "n"),
    ("HGETALL", "{key}"),
    ("HLEN", "{key}"),
    ("HKEYS", "{key}"),
    ("HEXISTS", "{key}", "n"),
    ("HINCRBY", "{key}", "n", "1"),
    ("HDEL", "{key}", "other"),
    ("RENAME", "{key}", "{key}"),
    ("DEL", "{key}"),
    ("ZADD", "{key}", "1", "n"),
    ("PEXPIREAT", "{key}", "{soon}"),
    ("ZCARD", "{key}"),
    ("ZRANDMEMBER", "{key}", "1"),
    ("ZSCORE", "{key}", "n"),
    ("ZRANGE", "{key}", "0", "-1"),
    ("ZREVRANGE", "{key}", "0", "-1"),
    ("ZRANGEBYSCORE", "{key}", "0", "1"),
    ("ZREVRANGEBYSCORE", "{key}", "1", "0"),
    ("ZREM", "{key}", "n"),
    ("DEL", "{key}"),
)
#: What leaves a key behind if it can be neither deleted nor given a TTL.
_MAKERS = ("HSET", "HINCRBY", "ZADD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    *level*: `ok`; `advice`, it works but could be better; `problem`, sessions fail or get lost;
    `unseen`, the store's user may not look. *server*: whose it is; None for the client's settings.
    """

    name: str
    level: Level
    message: str
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `store.check()` has found, in the order in which it looked."""

    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem."""
        return not self.of("problem")

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level == level)


@dataclass(slots=True)
class _Facts:
    """What one server has said."""

    server: str
    #: Whether the store takes it for a node of a Cluster.
    is_node: bool
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Why something could not be seen.
    unseen: list[str] = field(default_factory=list)
    #: The server's clock minus ours, in seconds.
    offset: float | None = None
    missing: Sequence[str] = ()
    search: bool | None = None

    def number(self, name: str) -> int:
        return int(self.info.get(name) or 0)


class _Note(NamedTuple):
    name: str
    level: Level
    message: str

    def about(self, server: str | None) -> Finding:
        return Finding(name=self.name, level=self.level, message=self.message, server=server)


_Notes = Iterator[_Note]


async def examine(wire: Wire, levels: Iterable[Durability | None], *, is_own: bool) -> CheckReport:
    """
    Look at everything that *wire* leads to. *levels*: what writes and ends are to wait for;
    *is_own*: whether the store has made its client itself. Never raises for what it finds.
    """
    asked = [level for level in levels if level is not None]
    findings = [] if is_own else [note.about(None) for note in _client(wire)]
    try:
        servers = await wire.servers()
    except LaneBroken as error:
        return CheckReport(findings=(*findings, _unreached("the Redis Cluster", str(error))))
    # A server that hangs delays the report, but hides nothing of the others.
    for found in await asyncio.gather(*[_examine(wire, server, asked) for server in servers]):
        findings += found
    if isinstance(wire.redis, Redis):
        findings += [finding async for finding in _sentinels(wire.redis)]
    return CheckReport(findings=tuple(findings))


async def _examine(wire: Wire, server: Server, levels: Sequence[Durability]) -> list[Finding]:
    client = Redis.from_pool(server.pool)
    try:
        async with asyncio.timeout(wire.timeout):
            facts = await _facts(client, server, wire, levels)
    except (RedisError, OSError, TimeoutError) as error:
        reason = str(error) or f"no answer within {wire.timeout:g} s"
        return [_unreached(server.name, reason)]
    finally:
        with suppress(RedisError, OSError):
            await server.pool.aclose()  # the client's aclose would forget its Sentinels
    notes = [
        *_role(facts),
        *_version(facts),
        *_persistence(facts, levels),
        *_replicas(facts, levels),
        *_eviction(facts),
        *_permissions(facts),
        *_search(facts),
        *_clock(facts),
        *_memory(facts),
        *_cluster(facts),
        *_unseen(facts),
    ]
    return [note.about(server.name) for note in notes]


def _unreached(server: str, reason: str) -> Finding:
    message = (
        f"It can't be reached: {reason}. Look at the address, the credentials and the network."
    )
    return Finding(name="reach", level="problem", message=message, server=server)


# --- Asking ---


async def _facts(client: Redis, server: Server, wire: Wire, levels: Sequence[Durability]) -> _Facts:
    facts = _Facts(server.name, wire.is_cluster)
    facts.info = await _try(facts, client, "INFO") or {}
    if wire.is_cluster:
        state = await _try(facts, client, "CLUSTER INFO")
        facts.info = {**facts.info, **(state or {})}
    facts.settings = await _settings(facts, client)
    before = time.time()
    if (answer := await _try(facts, client, "TIME")) is not None:
        seconds, micros = answer
        facts.offset = seconds + micros / 1e6 - (before + time.time()) / 2
    try:
        await client.execute_command("FT._LIST")  # type: ignore[no-untyped-call]
        facts.search = True
    except NoPermissionError:
        facts.unseen.append("FT._LIST")
    except ResponseError:
        facts.search = False
    facts.missing = await _missing(client, server, wire, levels)
    return facts


async def _try(facts: _Facts, client: Redis, *command: str) -> Any:
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    except ResponseError:
        facts.unseen.append(" ".join(command))
        return None


async def _settings(facts: _Facts, client: Redis) -> dict[str, str]:
    """Those settings that INFO does not tell."""
    settings: dict[str, str] = {}
    for pattern in (
        *("save", "appendfsync", "min-replicas-to-write"),
        *("hash-max-listpack-value", "hash-max-ziplist-value", "cluster-require-full-coverage"),
    ):
        try:
            found = await client.config_get(pattern)
        except ResponseError:
            facts.unseen.append("CONFIG GET")
            return {}
        settings |= {_text(name): _text(value) for name, value in found.items()}
    return settings


async def _missing(
    client: Redis, server: Server, wire: Wire, levels: Sequence[Durability]
) -> list[str]:
    """The commands that the store's user may not run."""
    while not server.serves(key := wire.key(f"check-{secrets.token_hex(8)}")):
        pass
    soon = str(int((time.time() + 60) * 1000))
    probes = [*PROBES, *[("WAITAOF", "0", "0", "1") for level in levels if level.fsync]]
    probes += [("WAIT", "0", "1") for level in levels if not level.fsync]
    if wire.is_cluster:  # there a session moves by two scripts
        probes = [probe for probe in probes if probe[0] != "RENAME"] + [("ASKING",)]
    missing: list[str] = []
    for name, *rest in probes:
        if name in _MAKERS and {"DEL", "PEXPIREAT"} <= set(missing):
            continue
        arguments = [part.replace("{key}", key.decode()).replace("{soon}", soon) for part in rest]
        try:
            await client.execute_command(name, *arguments)  # type: ignore[no-untyped-call]
        except NoPermissionError:
            missing.append(name)
        except ResponseError:
            continue  # refused for another reason: NOSCRIPT, out of memory, no such key
    return list(dict.fromkeys(missing))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- Judging ---


def _role(facts: _Facts) -> _Notes:
    if facts.info.get("role") == "slave":
        yield _Note(
            "role",
            "problem",
            "It is a replica: nothing can be written. Connect to the master, or by Sentinel.",
        )
    if facts.number("cluster_enabled") and not facts.is_node:
        yield _Note(
            "role",
            "problem",
            "It is a node of a Cluster, and has some of the sessions only: use redis+cluster://.",
        )


def _version(facts: _Facts) -> _Notes:
    said = facts.info.get("redis_version")
    if said is None:
        return
    version = tuple(int(part) for part in str(said).split(".")[:2])
    if version < _OLDEST:
        yield _Note("version", "problem", f"Redis {said} is too old: the store needs 6.2 or newer.")
    elif version < _RECOMMENDED:
        yield _Note(
            "version", "advice", f"Redis {said} works; 7.2 or newer can wait for the disk, too."
        )
    else:
        yield _Note("version", "ok", f"Redis {said}.")


def _persistence(facts: _Facts, levels: Sequence[Durability]) -> _Notes:
    if "aof_enabled" not in facts.info:
        return
    for name, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "AOF")):
        if facts.info.get(name, "ok") != "ok":
            yield _Note(
                "persistence",
                "problem",
                f"The last {what} failed, so Redis may refuse writes: look at its disk and log.",
            )
    if facts.number("aof_enabled"):
        fsync = facts.settings.get("appendfsync", "unknown")
        yield _Note("persistence", "ok", f"AOF is on (appendfsync {fsync}).")
        return
    if any(level.fsync for level in levels):
        yield _Note(
            "persistence", "problem", "Durability(fsync=True) can't be kept: set `appendonly yes`."
        )
    snapshots = "are the only copy on disk" if facts.settings.get("save") else "may be off as well"
    yield _Note(
        "persistence",
        "advice",
        f"AOF is off and snapshots {snapshots}: a restart loses sessions, and brings back ones "
        "that had ended. Set `appendonly yes`.",
    )


def _replicas(facts: _Facts, levels: Sequence[Durability]) -> _Notes:
    wanted = max((level.replicas for level in levels), default=0)
    if "connected_slaves" not in facts.info:
        return
    connected = facts.number("connected_slaves")
    if connected < wanted:
        yield _Note(
            "replicas",
            "problem",
            f"Durability(replicas={wanted}) can't be kept: {connected} are connected.",
        )
    else:
        yield _Note("replicas", "ok", f"{connected} replicas are connected.")
    if connected and facts.settings.get("min-replicas-to-write") == "0":
        yield _Note(
            "replicas",
            "advice",
            "A master that is cut off goes on taking writes that a failover drops: set "
            "`min-replicas-to-write 1` and `min-replicas-max-lag 10`.",
        )


def _eviction(facts: _Facts) -> _Notes:
    policy = facts.info.get("maxmemory_policy")
    if policy is None:
        return
    if policy == "noeviction":
        yield _Note("eviction", "ok", "maxmemory-policy is noeviction.")
        return
    level: Level = "problem" if facts.number("maxmemory") else "advice"
    yield _Note(
        "eviction",
        level,
        f"maxmemory-policy {policy} may evict any session, and the list of a user's sessions: "
        "set `maxmemory-policy noeviction`.",
    )


def _permissions(facts: _Facts) -> _Notes:
    if facts.missing:
        allow = " ".join(f"+{name.lower()}" for name in facts.missing)
        yield _Note(
            "permissions",
            "problem",
            f"The store's user may not run {', '.join(facts.missing)} on the store's keys: "
            f"ACL SETUSER … {allow}, and its prefix among the key patterns.",
        )
    else:
        yield _Note("permissions", "ok", "The store's user may run every command that it needs.")


def _search(facts: _Facts) -> _Notes:
    if facts.search is not None:
        there = "is there" if facts.search else "is not there; only `index=` needs it"
        yield _Note("search", "ok", f"Redis Search {there}.")


def _clock(facts: _Facts) -> _Notes:
    if facts.offset is None:
        return
    level: Level = "ok" if abs(facts.offset) <= _CLOCK else "advice"
    cure = "" if level == "ok" else (
        ": sessions go by its clock alone, but one that takes over must not differ. Use NTP"
    )  # fmt: skip
    yield _Note("clock", level, f"Its clock differs by {abs(facts.offset):.1f} s{cure}.")


def _memory(facts: _Facts) -> _Notes:
    settings = facts.settings
    most = settings.get("hash-max-listpack-value") or settings.get("hash-max-ziplist-value")
    if most is not None and int(most) < _LISTPACK_VALUE:
        yield _Note(
            "memory",
            "advice",
            f"A session with a value of more than {most} bytes, such as a user agent, takes "
            f"twice the memory: set `hash-max-listpack-value {_LISTPACK_VALUE}` or more.",
        )


def _cluster(facts: _Facts) -> _Notes:
    state = facts.info.get("cluster_state")
    if state is None:
        return
    if state != "ok":
        yield _Note(
            "cluster",
            "problem",
            f"cluster_state is {state}: {facts.info.get('cluster_slots_ok')} of 16384 slots "
            "are served. Look at CLUSTER NODES.",
        )
    else:
        yield _Note("cluster", "ok", "All slots are served.")
    if not facts.number("connected_slaves"):
        yield _Note("cluster", "advice", "It has no replica: its sessions are away while it is.")
    if facts.settings.get("cluster-require-full-coverage") == "yes":
        yield _Note(
            "cluster",
            "advice",
            "While one master is away, all refuse: set `cluster-require-full-coverage no`.",
        )


def _unseen(facts: _Facts) -> _Notes:
    for what in dict.fromkeys(facts.unseen):
        allow = {"CONFIG GET": "config|get", "CLUSTER INFO": "cluster|info"}.get(what, what.lower())
        yield _Note("unseen", "unseen", f"{what} is not allowed (+{allow} would show more).")


def _client(wire: Wire) -> _Notes:
    """What a client that was handed in would do; the store has connections of its own."""
    if isinstance(wire.redis, RedisCluster):
        options = {"retry": wire.redis.retry, **wire.redis.connection_kwargs}
    else:
        options = wire.redis.connection_pool.connection_kwargs
    retry = options.get("retry")
    unsafe = []
    if options.get("decode_responses"):
        unsafe.append("decode_responses=True")
    if isinstance(retry, Retry) and retry.get_retries() > 0:
        unsafe.append(f"{retry.get_retries()} retries, of writes too")
    if getattr(options.get("maint_notifications_config"), "enabled", False):
        unsafe.append("maintenance notifications, which let stray replies pass")
    if unsafe:
        yield _Note(
            "client",
            "advice",
            f"The client that was handed in has {'; '.join(unsafe)}. The store does without, "
            "but don't use that client for sessions yourself.",
        )
    else:
        yield _Note("client", "ok", "The client that was handed in is safe.")


async def _sentinels(redis: Redis) -> AsyncIterator[Finding]:
    """Whether each Sentinel answers, and whether they could agree on a failover."""
    pool = redis.connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        return
    ours: Any = private_pool(redis)
    for sentinel in ours.sentinel_manager.sentinels:
        options = sentinel.connection_pool.connection_kwargs
        place = f"Sentinel {options.get('host')}:{options.get('port')}"
        try:
            answer = await sentinel.execute_command("SENTINEL CKQUORUM", pool.service_name)
        except (RedisError, OSError, TimeoutError) as error:
            message = f"No failover could be counted on: {error}."
            yield Finding(name="sentinel", level="problem", message=message, server=place)
        else:
            yield Finding(name="sentinel", level="ok", message=f"{_text(answer)}.", server=place)
        finally:
            await sentinel.aclose()
