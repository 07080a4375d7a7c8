"""Hash tags: the part of a key in braces, which alone decides on the key's slot in a Cluster."""

from collections.abc import Container, Iterator
from itertools import count

from redis.crc import key_slot


def tags_in(slots: Container[int]) -> Iterator[bytes]:
    """Yield hash tags that belong to one of these slots. For a single one, each takes 10 ms."""
    return (tag for number in count() if key_slot(tag := b"%d" % number) in slots)
