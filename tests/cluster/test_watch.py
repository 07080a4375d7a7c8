"""The command `watch` on a Cluster."""

from ..cli.heard import hears_logins_and_ends
from ..support.servers import Cluster, ask


async def test_each_master_reports_its_logins_and_ends(healthy: Cluster, prefix: str) -> None:
    """An id that a login has replaced is no end there, either."""
    for node in healthy.nodes:
        ask(node, "CONFIG", "SET", "notify-keyspace-events", "Kz")
    await hears_logins_and_ends(healthy.url, prefix)
    for node in healthy.nodes:
        ask(node, "CONFIG", "SET", "notify-keyspace-events", "")
