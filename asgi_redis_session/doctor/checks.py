"""
The checks: each judges the facts about one server and names the cure.

To add one, write a function that yields concerns and messages, and add a row to `CHECKS`. What it
needs to know goes into `Facts`. No I/O.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from redis.asyncio.retry import Retry

from .facts import Facts, Sentinel, keys_in
from .report import Level

_OLDEST, _RECOMMENDED = (6, 2), (7, 2)
#: A hash with a longer value leaves Redis' compact encoding and takes about twice the memory.
_LISTPACK_VALUE = 512
#: The longest median of a round trip that is no reason for advice, in seconds.
_ROUND_TRIP = 0.005
#: What share of `maxmemory` may be in use, and from how many keys on their average size says much.
_FULL, _ENOUGH_KEYS = 0.8, 1000
_MB = 1024 * 1024
#: The largest difference of two clocks that is no reason for advice, in seconds.
_CLOCK = 1.0


class Verdict(NamedTuple):
    """What a check says about a server: a `Finding` without its name and its server."""

    level: Level
    message: str


def problem(message: str) -> Verdict:
    """Sessions fail or get lost."""
    return Verdict("problem", message)


def advice(message: str) -> Verdict:
    """It works, but could be better."""
    return Verdict("advice", message)


def ok(message: str) -> Verdict:
    """Nothing has to be done."""
    return Verdict("ok", message)


def _role(facts: Facts) -> Iterator[Verdict]:
    if facts.info.get("role") == "slave":
        yield problem(
            "It is a replica, so it refuses writes. Connect to the master, or use Sentinel."
        )
    if facts.number("cluster_enabled") and not facts.is_node:
        yield problem(
            "It is a node of a Cluster and has only some of the sessions: use redis+cluster://."
        )


def _version(facts: Facts) -> Iterator[Verdict]:
    reported = facts.info.get("redis_version")
    if reported is None:
        return
    if "valkey_version" in facts.info:  # it calls itself Redis 7.2, for old clients
        yield ok(f"Valkey {facts.info['valkey_version']}.")
        return
    version = tuple(int(part) for part in str(reported).split(".")[:2])
    if version < _OLDEST:
        yield problem(f"Redis {reported} is too old. Use 6.2 or newer.")
    elif version < _RECOMMENDED:
        yield advice(
            f"Redis {reported} works. Use 7.2 or newer if writes should wait for the disk."
        )
    else:
        yield ok(f"Redis {reported}.")


def _persistence(facts: Facts) -> Iterator[Verdict]:
    if "aof_enabled" not in facts.info:
        return
    for name, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "AOF")):
        if facts.info.get(name, "ok") != "ok":
            yield problem(
                f"The last {what} failed, so Redis may refuse writes. Look at its disk and log."
            )
    if facts.number("aof_enabled"):
        yield ok(f"AOF is on (appendfsync {facts.settings.get('appendfsync', 'unknown')}).")
        return
    if any(level.fsync for level in facts.concerns):
        yield problem("Durability(fsync=True) can't be reached: set `appendonly yes`.")
    snapshots = "are the only copy on disk" if facts.settings.get("save") else "may be off as well"
    yield advice(
        f"AOF is off and snapshots {snapshots}: a restart loses sessions and brings back sessions "
        "that had ended. Set `appendonly yes`."
    )


def _replicas(facts: Facts) -> Iterator[Verdict]:
    if "connected_slaves" not in facts.info:
        return
    wanted = max((level.replicas for level in facts.concerns), default=0)
    connected = facts.number("connected_slaves")
    if connected < wanted:
        yield problem(
            f"Durability(replicas={wanted}) can't be reached: {connected} are connected. Connect "
            "more replicas, or ask for fewer."
        )
    else:
        yield ok(f"Connected replicas: {connected}.")
    if connected and facts.settings.get("min-replicas-to-write") == "0":
        yield advice(
            "A master that is cut off still accepts writes, which a failover then loses. Set "
            "`min-replicas-to-write 1` and `min-replicas-max-lag 10`."
        )


def _eviction(facts: Facts) -> Iterator[Verdict]:
    policy = facts.info.get("maxmemory_policy")
    if policy is None:
        return
    if policy == "noeviction":
        yield ok("maxmemory-policy is noeviction.")
        return
    yield Verdict(
        "problem" if facts.number("maxmemory") else "advice",
        f"maxmemory-policy {policy} may evict any session and the list of a user's sessions. Set "
        "`maxmemory-policy noeviction`.",
    )


def _permissions(facts: Facts) -> Iterator[Verdict]:
    if facts.lacking:
        yield problem(
            f"It does not have {', '.join(facts.lacking)}, which the store needs: it can't hold "
            "sessions."
        )
    if facts.missing:
        allow = " ".join(f"+{name.lower()}" for name in facts.missing)
        yield problem(
            f"The store's user may not run {', '.join(facts.missing)} on the store's keys. Allow "
            f"it by `ACL SETUSER … {allow}`, and include the prefix in its key patterns."
        )
    elif not facts.lacking:
        yield ok("The store's user may run every command that the store needs.")
    if not facts.may_ping:
        yield advice(
            "It refuses PING, so a script shows for each batch of replies that none is missing, "
            "which takes Redis more time. If that is a permission, allow it by `ACL SETUSER … "
            "+ping`."
        )


def _search(facts: Facts) -> Iterator[Verdict]:
    if facts.search:
        yield ok("Redis Search is available.")
    elif facts.search is not None:
        yield ok("Redis Search is not available. Only SessionStore(index=...) needs it.")


def _clock(facts: Facts) -> Iterator[Verdict]:
    if facts.offset is None:
        return
    difference = f"Its clock differs by {abs(facts.offset):.1f} s from this machine's."
    if abs(facts.offset) <= _CLOCK:
        yield ok(difference)
    else:
        yield advice(
            f"{difference} Use NTP: sessions depend on the clock of their server alone, so a "
            "server that takes over must have the same time."
        )


def _latency(facts: Facts) -> Iterator[Verdict]:
    times = facts.round_trips
    if not times:
        return
    middle, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    measured = f"{len(times)} round trips: {middle * 1000:.2f} ms (p50), {p99 * 1000:.2f} ms (p99)"
    if middle <= _ROUND_TRIP:
        yield ok(f"{measured}.")
    else:
        yield advice(
            f"{measured}. A request that changes its session waits for two of them: let the app "
            "and Redis run in the same place."
        )


def _memory(facts: Facts) -> Iterator[Verdict]:
    settings = facts.settings
    limits = [
        settings.get(f"hash-max-listpack-{kind}") or settings.get(f"hash-max-ziplist-{kind}")
        for kind in ("entries", "value")
    ]
    if (longest := limits[1]) is not None and int(longest) < _LISTPACK_VALUE:
        yield advice(
            f"A session with a value of more than {longest} bytes, such as a user agent, takes "
            f"twice the memory. Set `hash-max-listpack-value {_LISTPACK_VALUE}` or more."
        )
    if facts.sample is not None and facts.sample.shapes and None not in limits:
        most, longest_part = (int(limit or 0) for limit in limits)
        shapes = facts.sample.shapes
        large = sum(fields > most or length > longest_part for fields, length in shapes)
        yield ok(f"{large} of a sample of {len(shapes)} sessions are too large to be compact.")
    yield from _headroom(facts)


def _headroom(facts: Facts) -> Iterator[Verdict]:
    limit, used = facts.number("maxmemory"), facts.number("used_memory")
    keys = keys_in(facts.info)
    if not limit or not used:
        return
    each = (facts.number("used_memory_dataset") or used) / max(keys, 1)
    room = f"{used / _MB:.0f} of {limit / _MB:.0f} MB are used"
    if keys >= _ENOUGH_KEYS:
        more = max(0, int((limit - used) / each))
        room += f", {each:.0f} bytes for each of {keys:,} keys: there is room for {more:,} more"
    if used <= _FULL * limit:
        yield ok(f"{room}.")
    else:
        yield advice(
            f"{room}. When it is full, no session can be written. Raise `maxmemory`, or let "
            "sessions end sooner by Lifetime(idle=...)."
        )


def _expiry(facts: Facts) -> Iterator[Verdict]:
    sample = facts.sample
    if sample is not None and sample.immortal:
        yield problem(
            f"{len(sample.immortal)} keys of a sample have no TTL, such as {sample.immortal[0]}, "
            "so they stay forever. This library writes none: find out which other program does, "
            "and delete them."
        )


def _places(facts: Facts) -> Iterator[Verdict]:
    sample = facts.sample
    if sample is not None and sample.dead:
        yield ok(
            f"{sample.dead} of a sample of {sample.places} places in users' lists have no session. "
            "They are forgotten when the list is next read."
        )


def _cluster(facts: Facts) -> Iterator[Verdict]:
    state = facts.info.get("cluster_state")
    if state is None:
        return
    if state != "ok":
        yield problem(
            f"cluster_state is {state}: {facts.info.get('cluster_slots_ok')} of 16384 slots are "
            "served. Look for the failed masters in CLUSTER NODES."
        )
    else:
        yield ok("All slots are served.")
    if not facts.number("connected_slaves"):
        yield advice(
            "It has no replica, so its sessions are unavailable while it is down. Add a replica."
        )
    if facts.settings.get("cluster-require-full-coverage") == "yes":
        yield advice(
            "While a master is down, all refuse commands. Set `cluster-require-full-coverage no`."
        )


def _contents(facts: Facts) -> Iterator[Verdict]:
    sample = facts.sample
    if sample is None:
        return
    looked_at = f"{sample.sessions} sessions and {sample.lists} users' lists"
    if not sample.bad_sessions and not sample.bad_lists:
        yield ok(f"All of a sample of {looked_at} can be read.")
        return
    bad = [f"{sample.bad_lists} lists"] if sample.bad_lists else []
    if sample.bad_sessions:
        bad.append(f"{len(sample.bad_sessions)} sessions, such as {sample.bad_sessions[0]},")
    yield problem(
        f"In a sample of {looked_at}, {' and '.join(bad)} hold what this version does not write. "
        "Find out which other program, or which later version, writes to the keys of the prefix.",
    )


def _encryption(facts: Facts) -> Iterator[Verdict]:
    sample, sealing = facts.sample, facts.sealing
    if sample is None or (sealing is None and not sample.sealed):
        return
    plain = f"{sample.unsealed} of a sample of {sample.sessions} sessions hold plain values"
    if sealing is None:
        yield advice(
            f"{sample.sealed} of a sample of {sample.sessions} sessions hold encrypted values, "
            "which no process without SessionStore(encryption=...) can read."
        )
    elif sealing.refuses_plain and sample.unsealed:
        yield problem(
            f"{plain}, so they are treated as absent. Go back to encryption='migrate' until none "
            "is left, or find out which other program writes them."
        )
    elif sealing.writes and sample.unsealed:
        yield advice(
            f"{plain}. Each is encrypted when it is used next; encryption=True would drop it."
        )
    elif sealing.writes:
        yield ok(f"All values in a sample of {sample.sessions} sessions are encrypted.")
    else:
        yield ok(f"{plain}. When all processes run with encryption='read', 'migrate' may follow.")


def _unseen(facts: Facts) -> Iterator[Verdict]:
    rules = {"CONFIG GET": "config|get", "CLUSTER INFO": "cluster|info"}
    for command in dict.fromkeys(facts.unseen):
        rule = rules.get(command, command.lower())
        yield Verdict(
            "unseen", f"The store's user may not run {command}. Allow +{rule} to see more."
        )
    for command in dict.fromkeys(facts.absent):
        yield Verdict("unseen", f"It does not have {command}, so what that shows is not known.")


class Check(NamedTuple):
    """A row of the table: the name of its findings, and the function that makes them."""

    name: str
    judge: Callable[[Facts], Iterator[Verdict]]


#: All checks of a server, in the order of the report.
CHECKS = (
    Check("role", _role),
    Check("version", _version),
    Check("persistence", _persistence),
    Check("replicas", _replicas),
    Check("eviction", _eviction),
    Check("permissions", _permissions),
    Check("search", _search),
    Check("clock", _clock),
    Check("latency", _latency),
    Check("memory", _memory),
    Check("expiry", _expiry),
    Check("places", _places),
    Check("cluster", _cluster),
    Check("contents", _contents),
    Check("encryption", _encryption),
    Check("unseen", _unseen),
)


def judge_client(options: Mapping[str, Any]) -> Verdict:
    """Judge the options of a client that was passed in. The store makes connections of its own."""
    retry = options.get("retry")
    unsafe = []
    if options.get("decode_responses"):
        unsafe.append("decode_responses=True")
    if isinstance(retry, Retry) and retry.get_retries() > 0:
        unsafe.append(f"{retry.get_retries()} retries, also of writes")
    if getattr(options.get("maint_notifications_config"), "enabled", False):
        unsafe.append("maintenance notifications, which may let a reply reach the wrong caller")
    if not unsafe:
        return ok("The client that was passed in is safe.")
    return advice(
        f"The client that was passed in has {'; '.join(unsafe)}. The store's own connections "
        "don't, but don't use that client for sessions yourself."
    )


def judge_counted(times: int) -> Verdict | None:
    """Judge how often this process could not read what Redis holds; None if it always could."""
    if not times:
        return None
    return advice(
        f"This process has passed over what it could not read, {times} times since the store was "
        "made. The log and the event `corrupt` say what it was: find out which other program, or "
        "which later version, writes to the keys of the prefix.",
    )


def judge_tls(what: str | None, *, is_known: bool) -> Verdict | None:
    """Judge what TLS does not check; None if it checks all, or is not used."""
    if what is None:
        return None
    if is_known:
        return ok(f"By TLS, {what}, as SessionStore(insecure_tls=True) says.")
    return problem(
        f"By TLS, {what}, so somebody else may pretend to be Redis. Give ssl_ca_certs=..., or say "
        "SessionStore(insecure_tls=True)."
    )


def judge_sentinel(sentinel: Sentinel) -> Verdict:
    """Judge whether the Sentinels could agree on a failover."""
    answer = sentinel.answer.rstrip(".")
    if sentinel.is_error:
        return problem(
            f"A failover may not happen ({answer}). Start enough Sentinels to reach the quorum."
        )
    return ok(f"{answer}.")
