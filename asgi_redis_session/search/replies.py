"""
The replies of FT commands as named results, whether Redis speaks RESP2 or RESP3.

RESP3 replies are maps; RESP2 has lists of names and values instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from redis.exceptions import ResponseError


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """
    The state of an index on the server.

    *documents*: the number of sessions in it, including ones that have just expired. *failures*:
    hashes that could not be indexed since the index was made; 0 unless another program writes to
    the store's keys. *progress*: how much of the index is built, from 0 to 1. *memory*: its size in
    bytes, as Redis Search estimates it.

    In a Cluster, each master has an index of its own: *name* has all of their names, and the
    numbers are those of all. *stranded*: former indexes, each with the address of its master, that
    can't be used or removed because the slot in their name has moved to another master.
    """

    name: str
    documents: int
    failures: int
    progress: float
    memory: int
    stranded: tuple[str, ...] = ()

    @property
    def trouble(self) -> str | None:
        """What is wrong with the index and where to look; None if nothing is."""
        troubles = []
        if self.failures:
            troubles.append(
                f"{self.failures} hashes could not be indexed: another program writes to the "
                f"store's keys. See 'Index Errors' of `redis-cli FT.INFO {self.name}`."
            )
        if self.stranded:
            troubles.append(
                f"An index is of no use and costs memory: {', '.join(self.stranded)}. The slot in "
                "its name has moved to another master. docs/search.md says how to remove it."
            )
        return " ".join(troubles) or None


class Rows(NamedTuple):
    """The reply of FT.AGGREGATE. A row is empty if its hash has expired."""

    rows: list[dict[str, bytes]]
    #: Whether Redis Search stopped the query at its TIMEOUT; None if the reply can't say (RESP2).
    is_cut: bool | None


def rows_of(reply: Any) -> Rows:
    """The rows of an FT.AGGREGATE reply, without properties that a row lacks."""
    if isinstance(reply, dict):
        rows = [row and row[b"extra_attributes"] for row in reply[b"results"]]
        is_cut: bool | None = bool(reply.get(b"warning"))
    else:
        rows, is_cut = reply[1:], None
    mappings = [_mapping(row or {}) for row in rows]
    present = [{key: raw for key, raw in row.items() if raw is not None} for row in mappings]
    return Rows(present, is_cut)


def status_of(reply: Any) -> IndexStatus:
    """The state of an index, from an FT.INFO reply."""
    info = _mapping(reply)
    is_built = not int(info["indexing"])
    return IndexStatus(
        name=info["index_name"].decode(),
        documents=int(info["num_docs"]),
        failures=int(info["hash_indexing_failures"]),
        # While Redis is indexing, the index is incomplete, even if percent_indexed is 1 already.
        progress=1.0 if is_built else min(float(info["percent_indexed"]), 0.999),
        memory=round(float(info.get("total_index_memory_sz_mb", 0)) * 2**20),
    )


def merged(parts: Sequence[IndexStatus]) -> IndexStatus:
    """The state of an index that has these parts."""
    return IndexStatus(
        name=", ".join(part.name for part in parts),
        documents=sum(part.documents for part in parts),
        failures=sum(part.failures for part in parts),
        progress=min(part.progress for part in parts),
        memory=sum(part.memory for part in parts),
        stranded=tuple(chain.from_iterable(part.stranded for part in parts)),
    )


def prefixes_of(reply: Any) -> list[bytes]:
    """The beginnings of the keys that an index takes, from an FT.INFO reply."""
    return [*_mapping(_mapping(reply)["index_definition"])["prefixes"]]


def is_missing(error: ResponseError) -> bool:
    """Whether the error says that there is no such index. The wording depends on the version."""
    text = str(error).lower()
    return any(words in text for words in ("unknown index", "no such index", "index not found"))


def _mapping(reply: Any) -> Mapping[str, Any]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}
