"""
Search in a Redis Cluster: which masters there are, where their indexes are, asking all, merging.

Before Redis 8, a node indexes and searches only its own keys. So each master has an index of its
own, and a question goes to all of them, side by side. A command on an index is served only by the
node that serves the slot of the index's name. So the name has a hash tag, of a slot that the master
serves.

Rules kept here:
- All slots must be served by the masters that were asked, each by one, and none be on its way. A
  master says so in the same step as its answer. Then the answers add up.
- Otherwise a session that moves may have been seen twice, or not at all. Then all masters are asked
  twice for what they know of each session, and each session counts once.
- A master that does not answer, or has no index, is an error that names it.

From Redis 8 on, each node may answer for the whole Cluster. Then there is one index, whose name has
no tag, and one node is asked.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from redis.crc import key_slot
from redis.exceptions import ResponseError

from ..errors import SearchUnavailable, SessionUnavailable
from ..transport.client import Client
from ..transport.route import Master
from ..transport.slots import tags_in
from .asking import ASK, Asked
from .index import Index
from .part import Answer, IndexMissing, Part, Question, Unsettled, names_of_indexes
from .replies import rows_of
from .shapes import MOST_ROWS, Row, Shape, rows_of_sessions, summed
from .topology import View, address_in, are_all_served, are_still, view_of

T = TypeVar("T")

#: Lua can't pass on more arguments than about 8,000.
_MOST_ARGUMENTS = 7_000

_TOO_MANY = (
    f"{{address}}: more than {MOST_ROWS:,} sessions match, and each would be looked at. Ask for "
    "less at a time, or count with exact=False."
)
_TOO_LONG = (
    f"In a Cluster, a filter may have some {_MOST_ARGUMENTS // 2:,} values. Ask several times."
)
_MOVES_ELSEWHERE = (
    "A slot is moving to or from {address}, which serves none yet, so it can't have an index. "
    "Call `await store.search.create_index()` when it serves one."
)


class Known(NamedTuple):
    """
    What is known of the Cluster.

    *parts*: where to ask; only one if *is_whole*, which answers for all masters. *masters*: each of
    them, in the order of their slots, with what it says of itself.
    """

    parts: Sequence[Part]
    masters: Sequence[tuple[Part, View]]
    is_whole: bool

    @property
    def first_slots(self) -> Sequence[int]:
        """The first slot of each master, which names it in the cursor of a backfill."""
        return [view.first_slot for _, view in self.masters]

    def is_still_so(self, later: "Known") -> bool:
        """Whether no slot has moved until then."""
        before, after = ([view for _, view in known.masters] for known in (self, later))
        return before == after and are_still(before)


class Spread:
    """
    The indexes of all masters of a Cluster.

    *whole*: the index of a node that answers for all of them. Every method raises
    `SearchUnavailable`, and `SessionUnavailable` if a master does not answer.
    """

    def __init__(self, client: Client, index: Index, whole: Part) -> None:
        self._client = client
        self._index = index
        self._whole = whole
        self._names = names_of_indexes(client.prefix)
        self._known: Known | None = None

    # --- Questions ---

    async def ask(self, question: Question) -> Answer:
        """Ask all masters."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._client.timeout
        known = remembered = self._known
        while True:
            try:
                known = known or await self._survey_once()
                return await self._ask(known, question)
            except Unsettled:
                if loop.time() >= until:
                    raise
            except IndexMissing:
                # If this was remembered, there may be another one by now.
                if known is not remembered:
                    raise
            except SessionUnavailable:
                self._known = None  # the next question may find another master in its place
                raise
            known = None

    async def _ask(self, known: Known, question: Question) -> Answer:
        if known.is_whole:
            return await known.parts[0].ask(question)
        shape = question.shape
        wanted = shape.kind if shape.is_exact else "aggregate"
        said = await self._round(known, question, wanted)
        if are_still(one.view for one in said):
            return merged(shape, said)
        # A session that moves is seen by one of two rounds, wherever it is when its old and its new
        # master are asked in the first one. The second begins when the first has ended.
        rounds = [await self._round(known, question, "sessions") for _ in range(2)]
        _refuse_gaps(*rounds)
        return merged_by_session(shape, list(chain.from_iterable(rounds)))

    async def _round(self, known: Known, question: Question, wanted: str) -> "list[Said]":
        if len(question.params) > _MOST_ARGUMENTS:
            raise SearchUnavailable(_TOO_LONG)
        return await side_by_side(self._ask_one(part, question, wanted) for part in known.parts)

    async def _ask_one(self, part: Part, question: Question, wanted: str) -> "Said":
        shape = question.shape
        most = shape.most if shape.kind == "sessions" else MOST_ROWS
        head = [part.alias, wanted, str(most), str(len(shape.read)), *shape.read]
        steps = shape.steps if wanted == "aggregate" else ()
        arguments = [*head, *question.arguments, *steps]
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            asked = await self._client.queries.run(ASK, arguments, at=part.master)
        except ResponseError as error:
            await part.refuse_errors([error])
            raise
        is_late = loop.time() - started >= question.timeout_ms / 1000
        await part.refuse_unusable(asked.info)
        await part.refuse_errors([asked.answer], question)
        if is_late:
            part.refuse_late(question)
        return Said(part, view_of(asked.nodes), asked)

    # --- Who is there ---

    async def survey(self, *, to_build: bool = False) -> Known:
        """
        Look which masters there are and which indexes they have.

        *to_build*: an index is about to be made, so find out whether one is enough for all masters.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._client.timeout
        while True:
            try:
                return await self._survey_once(to_build=to_build)
            except Unsettled:
                if loop.time() >= until:
                    raise

    async def _survey_once(self, *, to_build: bool = False) -> Known:
        masters = await self._client.queries.masters()
        looks = await side_by_side(self._look(master) for master in masters)
        looks.sort(key=lambda look: look.view.first_slot)
        whole = is_whole(look.names for look in looks)
        if to_build and not whole:
            whole = await self._is_shared(looks)
        parts = [self._part(look) for look in looks]
        known = Known(
            [self._whole] if whole else parts,
            [(part, look.view) for part, look in zip(parts, looks, strict=True)],
            is_whole=whole,
        )
        self._known = known
        return known

    async def _look(self, master: Master) -> "_Look":
        server = Part(self._client, self._index, master)
        nodes, listed = replies = await server.send(("CLUSTER", "NODES"), ("FT._LIST",))
        await server.refuse_errors(replies)
        view = view_of(nodes)
        if not any(view.serves(slot) for slot in view.slots):
            raise Unsettled(f"{master.name} serves no slot that stays there")
        return _Look(server, view, server.ours(listed))

    def _part(self, look: "_Look") -> Part:
        """The part of a master: the index that it has, or the place of the one that it lacks."""
        usable = [name for name in look.names if look.serves(name) and self._tag_of(name)]
        # There are several only after a slot has come back. That of this declaration is asked.
        usable.sort(key=lambda name: (self._index.fingerprint not in name, name))
        tag = (self._tag_of(usable[0]) if usable else None) or look.place_for_index()
        stranded = sorted(name for name in look.names if not look.serves(name))
        return look.server.named_for(tag, stranded)

    def _tag_of(self, name: str) -> str | None:
        """The hash tag in the name of an index; None if it was not made for a single master."""
        found = self._names.fullmatch(name)
        return found["tag"] if found else None

    async def _is_shared(self, looks: Sequence["_Look"]) -> bool:
        """Whether an index that is made through one master is listed by the others."""
        one, *others = looks
        if not others:
            return False
        tag = one.place_for_index()
        name = f"{self._client.prefix}:idx:{{{tag}}}:probe:{secrets.token_hex(4)}"
        # It takes no session, because no key begins with its name.
        index = ("ON", "HASH", "PREFIX", "1", name, "SCHEMA", "none", "TAG")
        await one.server.command("FT.CREATE", name, *index)
        try:
            listed = await side_by_side(other.server.command("FT._LIST") for other in others)
            return is_listed_by_all(name, listed)
        finally:
            await one.server.command("FT.DROPINDEX", name, allow="nknown index")


class _Look(NamedTuple):
    """What a master says of itself, and the indexes of the store that it lists."""

    server: Part
    view: View
    names: Sequence[str]

    def serves(self, name: str) -> bool:
        """Whether the master serves the slot of this index, which stays where it is."""
        return self.view.serves(key_slot(name.encode()))

    def place_for_index(self) -> str:
        """A hash tag for an index of this master."""
        view = self.view
        places = [slot for slot in view.middle if view.serves(slot)]
        return next(tags_in(places or [slot for slot in view.slots if view.serves(slot)])).decode()


class Said(NamedTuple):
    """The answer of a master, and its own view of its slots at that moment."""

    part: Part
    view: View
    asked: Asked


# --- Merging ---


async def side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of it at the same time; return the results, or raise the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def is_whole(names_of_masters: Iterable[Sequence[str]]) -> bool:
    """Whether all masters list the same index, whose name has no hash tag."""
    common = set.intersection(*map(set, names_of_masters))
    return any("{" not in name for name in common)


def is_listed_by_all(name: str, lists: Iterable[Sequence[bytes]]) -> bool:
    """Whether all of these replies to FT._LIST contain the name."""
    return all(name.encode() in listed for listed in lists)


def merged(shape: Shape, said: Sequence[Said]) -> Answer:
    """Put together what masters have answered that have no session in common."""
    rows = [row for one in said for row in _rows(shape, one)]
    if shape.kind == "groups":
        rows = summed((row["_w"], float(row["_n"])) for row in rows)
    return _whole(shape, rows, said)


def merged_by_session(shape: Shape, said: Sequence[Said]) -> Answer:
    """Put together what is known of single sessions. Of each, what was answered last counts."""
    read = {key: values for one in said for key, *values in one.asked.answer}
    return _whole(shape, rows_of_sessions(shape.kind, read), said)


def _rows(shape: Shape, one: Said) -> list[Row]:
    answer = one.asked.answer
    if not shape.is_exact:
        return rows_of(answer).rows
    if shape.kind == "count":
        return [{"_n": b"%d" % answer}]
    if shape.kind == "groups":
        return [{"_w": tag, "_n": number} for tag, number in answer]
    return rows_of_sessions(shape.kind, {key: values for key, *values in answer})


def _whole(shape: Shape, rows: list[Row], said: Sequence[Said]) -> Answer:
    """Return the rows, and whether more of them match. Only pages of sessions may be cut."""
    if shape.kind == "sessions":
        return Answer(rows, any(one.asked.matched > shape.most for one in said))
    for one in said:
        if one.asked.matched > MOST_ROWS:
            raise SearchUnavailable(_TOO_MANY.format(address=one.part.at))
    return Answer(rows, len(rows) > shape.most)


def _refuse_gaps(first: Sequence[Said], second: Sequence[Said]) -> None:
    """Raise `SearchUnavailable` if a session may have been on a master that was not asked."""
    for said in (first, second):
        if not are_all_served(one.view for one in said):
            raise Unsettled("a slot has no master")
    ids = {one.view.node_id for one in first}
    for one in (*first, *second):
        for _, other in one.view.moving:
            if other not in ids:
                address = address_in(one.asked.nodes, other)
                raise SearchUnavailable(_MOVES_ELSEWHERE.format(address=address))
