"""The script that asks one master of a Cluster, and its reply as a named result."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from ..transport.scripts import Script


class Asked(NamedTuple):
    """
    ask.lua: the replies to CLUSTER NODES and FT.INFO, all of one moment, and the answer.

    *matched*: how many sessions match, up to one more than was asked for. *answer*: a number;
    groups, each a tag and a number; sessions, each a key and what was read; a reply to
    FT.AGGREGATE; or an error.
    """

    name: bytes
    nodes: bytes
    info: Sequence[Any]
    matched: int = 0
    answer: Any = 0


ASK: Script[Asked] = Script("ask", (files(__package__) / "lua" / "ask.lua").read_text(), Asked)
