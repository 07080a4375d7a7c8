"""Which node of a Cluster has a session, and what nodes have refused."""

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer

from .internals import key_of
from .servers import Cluster, ask
from .sessions import create, log_in


async def on(
    cluster: Cluster, store: SessionStore, node: DevServer, *, other: bool = False, user: str = ""
) -> str:
    """A session that this node serves, or any *other* one."""
    while True:
        session_id = await (log_in(store, user) if user else create(store, n=0))
        if (cluster.owner(key_of(store, session_id)) is node) is not other:
            return session_id


def errors_of(cluster: Cluster, name: str) -> int:
    """How often the nodes have answered with this error."""
    counts = [ask(node, "INFO", "errorstats").get(f"errorstat_{name}") for node in cluster.nodes]
    return sum(int(count["count"]) for count in counts if count)
