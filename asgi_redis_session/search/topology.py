"""
What the masters of a Cluster say of their slots, read from their replies to CLUSTER NODES.

A node says which slots it serves itself, and which of these are on their way to or from another
node; CLUSTER SLOTS does not show the latter. No I/O.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS

#: Between a slot and the node that it moves to or comes from: `[726->-<id>]`, `[726-<-<id>]`.
_MARKS = ("->-", "-<-")


class View(NamedTuple):
    """
    A node as it sees itself.

    *runs*: the ranges of slots that it serves. *moving*: each slot that is on its way, and the id
    of the other node. *epoch* rises when it takes over slots.
    """

    node_id: str
    is_master: bool
    epoch: int
    runs: tuple[range, ...]
    moving: tuple[tuple[int, str], ...]

    @property
    def slots(self) -> Iterator[int]:
        """The slots that it serves."""
        return chain.from_iterable(self.runs)

    @property
    def first_slot(self) -> int:
        """The lowest slot that it serves."""
        return min(self.slots, default=REDIS_CLUSTER_HASH_SLOTS)

    def serves(self, slot: int) -> bool:
        """Whether it serves this slot, which stays where it is."""
        return any(slot in run for run in self.runs) and slot not in dict(self.moving)

    @property
    def middle(self) -> Sequence[int]:
        """The slots in the middle of its largest range: resharding takes those at an end first."""
        largest = max(self.runs, key=len, default=range(0))
        margin = len(largest) * 9 // 20
        return largest[margin : len(largest) - margin]


def view_of(reply: bytes) -> View:
    """Return what a node says of itself in a reply to CLUSTER NODES."""
    node_id, _, flags, _, _, _, epoch, _, *words = _line_of(reply, "myself")
    moving = [word[1:-1] for word in words if word[0] == "["]
    return View(
        node_id,
        "master" in flags.split(","),
        int(epoch),
        tuple(_run(word) for word in words if word[0] != "["),
        tuple(_moving(word) for word in moving),
    )


def address_in(reply: bytes, node_id: str) -> str:
    """Return the address of a node in a reply to CLUSTER NODES."""
    return _line_of(reply, node_id)[1].partition("@")[0]


def are_still(views: Iterable[View]) -> bool:
    """Return whether each slot is served by one of these nodes, and none is on its way."""
    nodes = list(views)
    if any(view.moving or not view.is_master for view in nodes):
        return False
    runs = sorted((run.start, run.stop) for view in nodes for run in view.runs)
    ends = [0, *[stop for _, stop in runs]]
    return [start for start, _ in runs] == ends[:-1] and ends[-1] == REDIS_CLUSTER_HASH_SLOTS


def are_all_served(views: Iterable[View]) -> bool:
    """Return whether each slot is served by at least one of these nodes, and all are masters."""
    nodes = list(views)
    served = {slot for view in nodes for slot in view.slots}
    return len(served) == REDIS_CLUSTER_HASH_SLOTS and all(view.is_master for view in nodes)


def _line_of(reply: bytes, word: str) -> list[str]:
    """Return the words of the line about one node: the one with this id, or "myself"."""
    for line in reply.decode().splitlines():
        words = line.split()
        if word in (words[0], *words[2].split(",")):
            return words
    return [word, "an unknown node", "", "", "", "", "0", ""]


def _run(word: str) -> range:
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


def _moving(word: str) -> tuple[int, str]:
    for mark in _MARKS:
        slot, found, other = word.partition(mark)
        if found:
            return int(slot), other
    raise ValueError(f"no slot on its way: {word}")
