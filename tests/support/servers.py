"""
Real deployments of several redis-servers: a Cluster, and a master that Sentinels watch.

Each server is a `DevServer`, so it ends with the test run. `Cluster.url` and `Sentinels.url` are
what `SessionStore.from_url` takes.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from asgi_redis_session.devserver import DevServer

SLOTS = 16_384
#: What a node says of the slots: the first and the last of each run, and the port of its master.
Runs = list[tuple[int, int, int]]
#: How soon Cluster nodes and Sentinels take a silent server for dead, in milliseconds: where a test
#: kills it, and where it is alive, but the machine may be busy.
SOON_MS, LATE_MS = 1000, 20_000
#: A replica is there at once; by default its master waits 5 s for more of them.
QUICK = {"repl-diskless-sync-delay": 0}


def client_of(server: DevServer) -> Any:
    """A plain client of one server; the caller closes it."""
    return redis.Redis.from_url(
        server.url, protocol=2, socket_timeout=10, retry=Retry(NoBackoff(), 0)
    )


@contextmanager
def plain_client(url: str) -> Iterator[Any]:
    """A synchronous client of what a store's URL leads to: one server, or a Cluster."""
    if "+cluster://" not in url:
        with redis.Redis.from_url(url) as client:
            yield client
        return
    parts = urlsplit(url.replace("+cluster://", "://"))
    one = parts._replace(netloc=parts.netloc.partition(",")[0]).geturl()
    with redis.RedisCluster.from_url(one) as cluster:
        try:
            yield cluster
        finally:
            # Where it was made from a URL, its `close` would leave that to the garbage collector.
            cluster.disconnect_connection_pools()


def ask(server: DevServer, *command: Any) -> Any:
    """One command to one server."""
    with client_of(server) as client:
        return client.execute_command(*command)


def node_id(node: DevServer) -> str:
    """The id by which the nodes of a Cluster know this one."""
    name: bytes = _raw(node, "CLUSTER MYID")
    return name.decode()


def ask_all(client: Any, *command: Any) -> None:
    """One command to the server of a plain client, or to every node of a Cluster."""
    nodes = {"target_nodes": "all"} if isinstance(client, redis.RedisCluster) else {}
    client.execute_command(*command, **nodes)


def wait_for(what: Callable[[], Any], seconds: float = 100) -> Any:
    """Ask until the answer is true; errors of servers that are away count as false."""
    deadline = time.monotonic() + seconds
    answer: Any = None
    while time.monotonic() < deadline:
        try:
            if answer := what():
                return answer
        except (redis.RedisError, OSError) as error:
            answer = error
        time.sleep(0.02)
    raise AssertionError(f"it did not come to that within {seconds} s (last: {answer!r})")


def replicated(master: DevServer, replicas: int = 1) -> None:
    """
    Return when so many replicas have what was written so far.

    WAIT would not tell: since Redis 7 it asks only for what its own connection has written.
    """
    written = ask(master, "INFO", "replication")["master_repl_offset"]

    def have_it() -> bool:
        known = ask(master, "INFO", "replication")
        offsets = [
            known[f"slave{number}"]["offset"]
            for number in range(known["connected_slaves"])
            if known[f"slave{number}"]["state"] == "online"
        ]
        return len([offset for offset in offsets if offset >= written]) >= replicas

    wait_for(have_it)


class Cluster:
    """
    A Redis Cluster: *masters*, each with *replicas* of its own. `nodes` lists the masters first.

    *options* are lines of redis.conf for every node; *dead_after_ms* is how long a node may be
    silent; *search*: each node loads Redis Search.
    """

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 0,
        *,
        options: Mapping[str, Any] | None = None,
        binary: str | None = None,
        dead_after_ms: int = LATE_MS,
        search: bool = False,
    ) -> None:
        self._masters = masters
        self._search = search
        self._binary = binary
        self._dead_after_ms = dead_after_ms
        self._stack = ExitStack()
        self._options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": SOON_MS,  # until all know each other, which it hastens
            # A node that was cut off for long may still be elected: tests have no time.
            "cluster-replica-validity-factor": 0,
            # By default, all nodes refuse everything while one slot is without a master.
            "cluster-require-full-coverage": "no",
            **QUICK,
            **(options or {}),
        }
        self.nodes = [self._node() for _ in range(masters * (1 + replicas))]
        #: They stay connected: where a key is, is asked hundreds of times.
        self._clients: dict[DevServer, Any] = {}

    def _node(self) -> DevServer:
        return DevServer(options=self._options, search=self._search, binary=self._binary)

    def _start(self, starting: ExitStack, node: DevServer) -> None:
        starting.enter_context(node)
        client = redis.Redis.from_url(
            node.url, protocol=2, socket_timeout=10, retry=Retry(NoBackoff(), retries=1)
        )
        client.response_callbacks.clear()
        self._clients[node] = starting.enter_context(client)

    def __enter__(self) -> Self:
        with self._stack as starting:
            for node in self.nodes:
                self._start(starting, node)
            self._join()
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """All nodes, as a store takes them."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def add_replica(self, master: DevServer) -> DevServer:
        """Start another node, and let it follow this master."""
        node = self._node()
        self._start(self._stack, node)
        ask(node, "CLUSTER MEET", "127.0.0.1", master.port)
        self._follow(node, master)
        self.nodes.append(node)
        return node

    def add_master(self) -> DevServer:
        """Start another node, which serves no slot yet."""
        node = self._node()
        self._start(self._stack, node)
        ask(node, "CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        self.nodes.append(node)
        for other in self.nodes:
            wait_for(partial(_knows, other, node_id(node).encode()))
        self.await_healthy()
        return node

    def node_at(self, port: int) -> DevServer:
        """The server that listens on this port."""
        return next(node for node in self.nodes if node.port == port)

    def owner(self, key: str) -> DevServer:
        """The master that serves this key, when all nodes agree."""
        slot = key_slot(key.encode())
        runs: Runs = wait_for(self._agreed)
        (port,) = [port for first, last, port in runs if first <= slot <= last]
        return self.node_at(port)

    def others(self, *nodes: DevServer) -> list[DevServer]:
        """The masters that are none of these."""
        ports = {port for *_, port in wait_for(self._agreed)} - {node.port for node in nodes}
        return [self.node_at(port) for port in sorted(ports)]

    def replica_of(self, master: DevServer) -> DevServer:
        """One of the replicas that follow this master."""
        name = _raw(master, "CLUSTER MYID")
        return next(
            node
            for node in self.nodes
            for line in _raw(node, "CLUSTER NODES").splitlines()
            if line.split()[2:4] == [b"myself,slave", name]
        )

    def migrate(self, key: str, target: DevServer) -> "Migration":
        """Begin to move the slot of *key* to *target*."""
        return Migration(self, key_slot(key.encode()), self.owner(key), target)

    def await_healthy(self) -> None:
        """Return when every running node says that all slots are served, by the same masters."""
        wait_for(self._agreed)

    def _agreed(self) -> Runs | None:
        views: list[Runs] = []
        for node in self.nodes:
            try:
                if (view := self._runs(node)) is None:
                    return None
                views.append(view)
            except (redis.ConnectionError, redis.TimeoutError):
                continue
        agreed = bool(views) and all(view == views[0] for view in views)
        served = sum(last - first + 1 for first, last, _ in views[0]) if agreed else 0
        return views[0] if served == SLOTS else None

    def _runs(self, node: DevServer) -> Runs | None:
        """By the word of this node, if it says that the Cluster is well."""
        client = self._clients[node]
        if b"cluster_state:ok" not in client.execute_command("CLUSTER INFO"):
            return None
        told = client.execute_command("CLUSTER SLOTS")
        return sorted((first, last, int(master[1])) for first, last, master, *_ in told)

    def _join(self) -> None:
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        share = -(-SLOTS // self._masters)
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            ask(node, "CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        for number, node in enumerate(masters):
            mine = range(number * share, min((number + 1) * share, SLOTS))
            ask(node, "CLUSTER ADDSLOTS", *mine)
        for number, node in enumerate(replicas):
            self._follow(node, masters[number % self._masters])
        self.await_healthy()
        for node in self.nodes:
            ask(node, "CONFIG SET", "cluster-node-timeout", self._dead_after_ms)

    def _follow(self, node: DevServer, master: DevServer) -> None:
        name = _raw(master, "CLUSTER MYID")
        wait_for(partial(_knows, node, name))
        ask(node, "CLUSTER REPLICATE", name)
        wait_for(partial(_follows, node))


class Migration:
    """A slot on its way from one master to another; while it is, moved keys answer ASK."""

    def __init__(self, cluster: Cluster, slot: int, source: DevServer, target: DevServer) -> None:
        self._cluster = cluster
        self.slot, self.source, self.target = slot, source, target
        self._ids = _raw(source, "CLUSTER MYID"), _raw(target, "CLUSTER MYID")
        ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", self._ids[0])
        ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", self._ids[1])

    def move_keys(self) -> int:
        """Move the keys that the source still has; how many there were."""
        moved = 0
        while keys := ask(self.source, "CLUSTER GETKEYSINSLOT", self.slot, 100):
            ask(
                self.source,
                *("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys),
            )
            moved += len(keys)
        return moved

    def finish(self) -> None:
        """Move what is left, and make the target the owner everywhere."""
        self.move_keys()
        masters = {self.target, self.source, *self._cluster.others(self.target, self.source)}
        for node in [self.target, *(masters - {self.target})]:
            ask(node, "CLUSTER SETSLOT", self.slot, "NODE", self._ids[1])
        self._cluster.await_healthy()


class Sentinels:
    """
    A master with *replicas*, watched by *sentinels*; `url` names the Sentinels.

    *options* are lines of redis.conf for the servers, *password* is the Sentinels' own;
    *dead_after_ms* is how long a server may be silent.
    """

    SERVICE = "main"

    def __init__(
        self,
        sentinels: int = 3,
        replicas: int = 2,
        *,
        options: Mapping[str, Any] | None = None,
        password: str | None = None,
        binary: str | None = None,
        dead_after_ms: int = LATE_MS,
    ) -> None:
        self._stack = ExitStack()
        self._dead_after_ms = dead_after_ms
        self._password = password
        self._count = sentinels
        self._options = {**QUICK, **(options or {})}
        self._binary = binary
        self._replicas = replicas
        self.servers: list[DevServer] = []
        self.sentinels: list[DevServer] = []

    def __enter__(self) -> Self:
        with self._stack as starting:
            master = self._start(starting, self._options)
            for _ in range(self._replicas):
                place = f"127.0.0.1 {master.port}"
                self._start(starting, {"replicaof": place, **self._options})
            self._watch(starting, master)
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The Sentinels and the name of what they watch, as a store takes them."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    @property
    def master(self) -> DevServer:
        """The server that most Sentinels call the master."""
        ports = self._named()
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def _named(self) -> list[int]:
        """The port of the master, by each Sentinel that answers."""
        ports = []
        for sentinel in self.sentinels:
            with suppress(redis.ConnectionError, redis.TimeoutError):
                answer = ask(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME", self.SERVICE)
                ports.append(int(answer[1]))
        return ports

    def await_master(self, *, not_at: DevServer | None = None) -> DevServer:
        """Return the server that all Sentinels call the master and that takes itself for one."""

        def found() -> DevServer | None:
            master = self.master
            if master is not_at or {*self._named()} != {master.port}:
                return None
            return master if ask(master, "ROLE")[0] == b"master" else None

        found_master: DevServer = wait_for(found)
        return found_master

    def appoint(self, master: DevServer) -> None:
        """Make this server the master by hand; nobody's connection is closed."""
        ask(master, "REPLICAOF", "NO", "ONE")
        for server in self.servers:
            if server is not master:
                ask(server, "REPLICAOF", "127.0.0.1", master.port)
        lines = self._lines(master)
        place = lines.pop("sentinel monitor").split()
        for sentinel in self.sentinels:
            ask(sentinel, "SENTINEL REMOVE", self.SERVICE)
            ask(sentinel, "SENTINEL MONITOR", *place)
            for name, value in lines.items():
                service, setting = value.split()
                ask(sentinel, "SENTINEL SET", service, name.removeprefix("sentinel "), setting)
        for sentinel in self.sentinels:
            wait_for(partial(self._knows_all, sentinel))

    def await_replicas(self, count: int | None = None) -> None:
        """Return when so many replicas follow the master."""
        wanted = self._replicas if count is None else count
        wait_for(lambda: len(ask(self.master, "ROLE")[2]) >= wanted)

    def _start(self, starting: ExitStack, options: Mapping[str, Any]) -> DevServer:
        server = DevServer(options=options, search=False, binary=self._binary)
        self.servers.append(starting.enter_context(server))
        return server

    def _watch(self, starting: ExitStack, master: DevServer) -> None:
        # The same program is a Sentinel if that is its name.
        folder = starting.enter_context(tempfile.TemporaryDirectory())
        program = Path(folder, "redis-sentinel")
        program.symlink_to(Path(f"/proc/{master.pid}/exe").resolve())
        lines = self._lines(master)
        if self._password is not None:
            lines["requirepass"] = self._password
        for _ in range(self._count):
            sentinel = DevServer(options=lines, search=False, binary=os.fspath(program))
            self.sentinels.append(starting.enter_context(sentinel))
        for sentinel in self.sentinels:
            wait_for(partial(self._knows_all, sentinel))

    def _lines(self, master: DevServer) -> dict[str, str]:
        lines = {
            "sentinel monitor": f"{self.SERVICE} 127.0.0.1 {master.port} {self._count // 2 + 1}",
            "sentinel down-after-milliseconds": f"{self.SERVICE} {self._dead_after_ms}",
            "sentinel failover-timeout": f"{self.SERVICE} 4000",
        }
        if password := self._options.get("requirepass"):
            lines["sentinel auth-pass"] = f"{self.SERVICE} {password}"
        return lines

    def _knows_all(self, sentinel: DevServer) -> bool:
        answer = ask(sentinel, "SENTINEL MASTER", self.SERVICE)
        return bool(
            int(answer["num-other-sentinels"]) == self._count - 1
            and int(answer["num-slaves"]) == self._replicas
        )


def _knows(node: DevServer, other: bytes) -> bool:
    return other in _raw(node, "CLUSTER NODES")


def _follows(node: DevServer) -> bool:
    return bool(ask(node, "INFO", "replication")["master_link_status"] == "up")


def _raw(server: DevServer, command: str) -> bytes:
    """The reply as the server sends it, which redis-py would parse."""
    with client_of(server) as client:
        client.response_callbacks.clear()
        reply: bytes = client.execute_command(command)
        return reply


@contextmanager
def frozen(server: DevServer) -> Iterator[None]:
    """Let a server hang (SIGSTOP) while the block runs."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)
