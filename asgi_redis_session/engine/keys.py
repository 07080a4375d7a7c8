"""Names of the keys that belong to a session beside its hash."""

from ..transport.client import Client


def tombstone(client: Client, handle: str) -> bytes:
    """Return the key that says for a while why a session is gone."""
    return beside(client, "ended", handle)


def channel(client: Client, handle: str) -> bytes:
    """Return the channel on which the end of a session is published."""
    return beside(client, "push", handle)


def beside(client: Client, what: str, handle: str) -> bytes:
    """
    Return a key in the slot of the session, which the braces see to (Redis Cluster: hash tags).

    No list or scan of sessions takes it for one: it has no handle after the prefix.
    """
    return client.key(f"{what}:{{{client.key(handle).decode()}}}")
