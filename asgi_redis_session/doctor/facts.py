"""
The facts about a deployment: everything that the doctor asks servers, Sentinels and the client.

A command that the store's user may not run is noted in `Facts.unseen`, and one that the server does
not have in `Facts.absent`; nothing else depends on it.
"""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ..engine.engine import Engine
from ..engine.sealing import Sealing
from ..options import Durability
from ..transport.client import Client
from ..transport.pool import address_in, private_pool
from ..transport.reasons import reason_of
from ..transport.route import Server
from .contents import Sample, take_sample

#: Settings that INFO does not contain.
_SETTINGS = (
    "save",
    "appendfsync",
    "min-replicas-to-write",
    "hash-max-listpack-value",
    "hash-max-ziplist-value",
    "hash-max-listpack-entries",
    "hash-max-ziplist-entries",
    "cluster-require-full-coverage",
)
#: How many round trips are measured, and in what share of the timeout at most.
_ROUND_TRIPS, _SHARE = 200, 0.2
#: How long the key of the probes may live, should it not be deleted, in seconds.
_PROBE_SECONDS = 60

#: One row for each command that the store sends, or that its scripts call on a key. The order
#: matters: no row leaves a key without a TTL behind.
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
_WAITAOF_PROBE = ("WAITAOF", "0", "0", "1")
_WAIT_PROBE = ("WAIT", "0", "1")
_ASKING_PROBE = ("ASKING",)
#: These create the key. They are skipped if it could be neither deleted nor given a TTL.
_CREATORS = ("HSET", "HINCRBY", "ZADD")


@dataclass(slots=True)
class Facts:
    """What one server has answered, and what is expected of it."""

    server: str
    #: Whether the store treats it as a node of a Cluster.
    is_node: bool
    #: The write concerns that the store asks for.
    concerns: Sequence[Durability]
    #: The fields of INFO and, in a Cluster, of CLUSTER INFO.
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    #: The server's clock minus this machine's, in seconds; None if TIME is not allowed.
    offset: float | None = None
    #: Whether it has Redis Search; None if that is not known.
    search: bool | None = None
    #: Commands that the store needs and its user may not run.
    missing: Sequence[str] = ()
    #: Commands that the store needs and the server does not have.
    lacking: Sequence[str] = ()
    #: Whether PING is allowed, which the store can do without.
    may_ping: bool = True
    #: What it holds, as far as a sample shows; None if that may not be looked at.
    sample: Sample | None = None
    #: How long round trips took, in seconds, the shortest first; empty if TIME is not allowed.
    round_trips: Sequence[float] = ()
    #: How the store encrypts values; None if it doesn't.
    sealing: Sealing | None = None
    #: Commands that only the doctor needs and the store's user may not run.
    unseen: list[str] = field(default_factory=list)
    #: Commands that only the doctor needs and the server does not have.
    absent: list[str] = field(default_factory=list)

    def number(self, name: str) -> int:
        """A field of INFO as a number; 0 if it is missing."""
        return int(self.info.get(name) or 0)


async def ask_server(redis: Redis, server: Server, engine: Engine) -> Facts:
    """Ask one server. *redis*: a client of it. Raises what the client raises."""
    client, levels = engine.client, (engine.durability, engine.end_durability)
    concerns = [level for level in levels if level is not None]
    facts = Facts(server.name, client.is_cluster, concerns, sealing=engine.sealing)
    # A database that does not exist, or a wrong password, is an error here.
    await server.pool.release(await server.pool.get_connection())  # type: ignore[no-untyped-call]
    facts.info = await _try(facts, redis, "INFO") or {}
    if client.is_cluster:
        state = await _try(facts, redis, "CLUSTER INFO")
        facts.info = {**facts.info, **(state or {})}
    facts.settings = await _settings(facts, redis)
    before = time.time()
    if (answer := await _try(facts, redis, "TIME")) is not None:
        seconds, micros = answer
        facts.offset = seconds + micros / 1e6 - (before + time.time()) / 2
        facts.round_trips = await _round_trips(redis, client.timeout * _SHARE)
    facts.search = await _has_search(facts, redis)
    facts.missing, facts.lacking = await _missing(redis, server, client, concerns)
    facts.may_ping = await _may_ping(redis)
    facts.sample = await take_sample(
        redis, client.key(""), engine.sealing, is_node=client.is_sharded
    )
    if facts.sample is None:
        facts.unseen.append("SCAN")
    return facts


async def _round_trips(redis: Redis, seconds: float) -> list[float]:
    """Measure round trips, one after the other, for so long at most."""
    found: list[float] = []
    until = time.monotonic() + seconds
    while len(found) < _ROUND_TRIPS and time.monotonic() < until:
        began = time.perf_counter()
        await redis.time()
        found.append(time.perf_counter() - began)
    return sorted(found)


async def _try(facts: Facts, redis: Redis, *command: str) -> Any:
    try:
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        _note(facts, " ".join(command), error)
        return None


def _note(facts: Facts, command: str, error: ResponseError) -> None:
    """Note that a command can't be used here. Raises *error* if it says something else."""
    if isinstance(error, NoPermissionError):
        facts.unseen.append(command)
    elif _is_absent(error):
        facts.absent.append(command)
    else:
        raise error


def _is_absent(error: ResponseError) -> bool:
    """Whether the server has no such command: hosting services take some away."""
    return str(error).lower().startswith("unknown ")


async def _may_ping(redis: Redis) -> bool:
    try:
        await redis.execute_command("PING", "check")  # type: ignore[no-untyped-call]
    except ResponseError:
        return False
    return True


async def _settings(facts: Facts, redis: Redis) -> dict[str, str]:
    settings: dict[str, str] = {}
    for name in _SETTINGS:
        try:
            found = await redis.config_get(name)
        except ResponseError as error:
            _note(facts, "CONFIG GET", error)
            return {}
        settings |= {_text(name): _text(value) for name, value in found.items()}
    return settings


async def _has_search(facts: Facts, redis: Redis) -> bool | None:
    try:
        await redis.execute_command("FT._LIST")  # type: ignore[no-untyped-call]
    except NoPermissionError:
        facts.unseen.append("FT._LIST")
        return None
    except ResponseError:
        return False
    return True


async def _missing(
    redis: Redis, server: Server, client: Client, concerns: Sequence[Durability]
) -> tuple[list[str], list[str]]:
    """Run the probes on a key of their own; return what is not allowed, and what is not there."""
    while not server.serves(key := client.key(f"check-{secrets.token_hex(8)}")):
        pass
    places = {"{key}": key.decode(), "{soon}": str(int((time.time() + _PROBE_SECONDS) * 1000))}
    missing: list[str] = []
    lacking: list[str] = []
    for name, *arguments in _probes(concerns, is_cluster=client.is_cluster):
        if name in _CREATORS and {"DEL", "PEXPIREAT"} <= {*missing, *lacking}:
            continue
        try:
            await redis.execute_command(  # type: ignore[no-untyped-call]
                name, *[places.get(argument, argument) for argument in arguments]
            )
        except NoPermissionError:
            missing.append(name)
        except ResponseError as error:
            # Otherwise it is refused for another reason: NOSCRIPT, OOM, no such key.
            if _is_absent(error):
                lacking.append(name)
    return list(dict.fromkeys(missing)), list(dict.fromkeys(lacking))


def _probes(concerns: Sequence[Durability], *, is_cluster: bool) -> list[tuple[str, ...]]:
    probes = [*PROBES]
    probes += [_WAITAOF_PROBE if level.fsync else _WAIT_PROBE for level in concerns]
    if is_cluster:
        # There a session moves to another key by two scripts, without RENAME.
        probes = [probe for probe in probes if probe[0] != "RENAME"]
        probes.append(_ASKING_PROBE)
    return probes


def client_options(redis: Redis | RedisCluster) -> Mapping[str, Any]:
    """The options of a client that was passed to the store."""
    if isinstance(redis, RedisCluster):
        return {"retry": redis.retry, **redis.connection_kwargs}
    options: Mapping[str, Any] = redis.connection_pool.connection_kwargs
    return options


class Sentinel(NamedTuple):
    """The answer of one Sentinel to CKQUORUM."""

    server: str
    answer: str
    is_error: bool


async def ask_sentinels(redis: Redis | RedisCluster) -> list[Sentinel]:
    """Ask each Sentinel whether a failover has a quorum. Empty if the store uses no Sentinels."""
    if not isinstance(redis, Redis):
        return []
    pool = redis.connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        return []
    own_pool: Any = private_pool(redis)
    answers = []
    for sentinel in own_pool.sentinel_manager.sentinels:
        options = sentinel.connection_pool.connection_kwargs
        server = f"Sentinel {address_in(options)}"
        try:
            answer = await sentinel.execute_command("SENTINEL CKQUORUM", pool.service_name)
        except (RedisError, OSError, TimeoutError) as error:
            answers.append(Sentinel(server, reason_of(error), is_error=True))
        else:
            answers.append(Sentinel(server, _text(answer), is_error=False))
        finally:
            await sentinel.aclose()
    return answers


def keys_in(info: Mapping[str, Any]) -> int:
    """
    Count the keys of all databases, as INFO has them.

    Redis 8 has lines like `db0_distrib_strings_sizes` there, too.
    """
    return sum(found["keys"] for name, found in info.items() if re.fullmatch(r"db\d+", name))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
