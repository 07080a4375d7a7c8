"""
One server's index: making it, looking at it and asking it.

On one server that is all of the index; in a Cluster each master has a part.

Rules kept here:
- The name of an index contains the fingerprint of the declaration that it was made for. An alias
  leads to it only when it is complete, so a new index replaces an old one in one step.
- The state of the index is read in the same batch as each question. If the index is missing, being
  built, or made for another declaration, the question raises an error that says so.
- Keys of an app whose prefix begins with the store's prefix are not indexed.
"""

import asyncio
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from redis.exceptions import AskError, ClusterDownError, ResponseError, TryAgainError

from ..errors import SearchUnavailable
from ..transport.client import Client
from ..transport.reasons import reason_of
from ..transport.route import Master
from .index import Index
from .replies import IndexStatus, is_missing, prefixes_of, rows_of, status_of
from .shapes import Row, Shape

_POLL_SECONDS = 0.02
#: A node says that it does not serve a slot: to a command, and to a script that sends one.
_UNSETTLED = (AskError, ClusterDownError, TryAgainError)
_FOREIGN_SLOT = re.compile("non local key|not served|cluster is down")

_NO_SEARCH = (
    "This server has no Redis Search; Valkey never has. Use Redis 8 or Redis Stack, or load the "
    "module redisearch; the rest of this library works without it."
)
_MISSING = (
    "These sessions have no index yet. Call `await store.search.create_index()` once per "
    "deployment; backfill=True includes the sessions that exist already."
)
_STRANDED = (
    "Its index {names} can't be used, because the slot that it is named for is moving or has moved "
    "to another master. Call `await store.search.create_index()`, which makes another one."
)
_OTHER_DECLARATION = (
    "The index was made for another declaration than that of this SessionStore. Call `await "
    "store.search.create_index(rebuild=True, backfill=True)`, or give this process the declaration "
    "of the index."
)
_FOREIGN = (
    "{name} leads to the index {index}, which another program has made. Give the store another "
    "prefix, or remove what has this name: FT.ALIASDEL for an alias, FT.DROPINDEX for an index."
)
_TOO_SLOW = (
    "Redis Search has stopped the query after {seconds:g} s, so its answer is incomplete. Ask for "
    "less at a time, or count with exact=False."
)


class IndexMissing(SearchUnavailable):
    """There is no index, or none that can be used."""


class Unsettled(SearchUnavailable):
    """The masters of a Cluster are changing, so there is no complete answer at the moment."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The slots of the Cluster are changing their masters ({reason}). Ask again shortly."
        )


class Question(NamedTuple):
    """A question. *timeout_ms*: how long Redis may work on it."""

    text: str
    params: Sequence[str]
    timeout_ms: int
    shape: Shape

    @property
    def arguments(self) -> Sequence[str]:
        """What follows the name of the index, up to the steps."""
        fixed = ("TIMEOUT", str(self.timeout_ms), "DIALECT", "2")
        return (self.text, *self.params, *fixed)


class Answer(NamedTuple):
    """*is_cut*: whether there are more rows than the shape wants."""

    rows: list[Row]
    is_cut: bool


class Part:
    """
    The index of one server. Every method that sends raises `SearchUnavailable`.

    *master*: the one of a Cluster; None: there is only one server.
    """

    def __init__(self, client: Client, index: Index, master: Master | None = None) -> None:
        self.master = master
        #: Its address; None if there is only one server.
        self.at = None if master is None else master.name
        #: Names of indexes on this server whose slots it does not serve any more.
        self.stranded: Sequence[str] = ()
        prefix = client.prefix
        self._client = client
        self._index = index
        self._key_prefix = f"{prefix}:"
        #: The name that leads to the index.
        self.alias = f"{prefix}:idx"
        self._ours = names_of_indexes(prefix)

    def named_for(self, tag: str, stranded: Sequence[str]) -> "Part":
        """
        Return the part of a master whose index has this hash tag in its name.

        Without the tag of a slot that it serves, a master answers no command on an index.
        """
        part = copy(self)
        part.stranded = stranded
        part.alias = f"{self.alias}:{{{tag}}}"
        if self.master is not None:
            # Replies are proven on a key in a slot that does not move.
            part.master = self.master._replace(keys=[part.alias.encode()])
        return part

    # --- Questions ---

    async def ask(self, question: Question) -> Answer:
        """
        Ask the index.

        FT.INFO goes in the same batch, so the answer is complete or an error.
        """
        asked = ("FT.AGGREGATE", self.alias, *question.arguments, *question.shape.steps)
        loop = asyncio.get_running_loop()
        started = loop.time()
        info, reply = await self.send(("FT.INFO", self.alias), asked)
        is_late = loop.time() - started >= question.timeout_ms / 1000
        await self.refuse_unusable(info)
        return await self.answer_in(question, reply, is_late=is_late)

    async def refuse_unusable(self, info: Any) -> None:
        """Raise `SearchUnavailable` if this reply to FT.INFO is not about a complete index."""
        await self.refuse_errors([info])
        status = status_of(info)
        self.refuse_other(status)
        self._refuse_unbuilt(status)

    async def answer_in(self, question: Question, reply: Any, *, is_late: bool) -> Answer:
        """Return the answer in a reply to FT.AGGREGATE."""
        await self.refuse_errors([reply], question)
        rows, is_stopped = rows_of(reply)
        # RESP2 replies carry no warning. A query that took as long as its TIMEOUT was stopped.
        if is_late if is_stopped is None else is_stopped:
            self.refuse_late(question)
        return Answer(rows, len(rows) > question.shape.most)

    def refuse_late(self, question: Question) -> NoReturn:
        """Raise `SearchUnavailable`, because Redis Search has stopped the query."""
        raise self._unavailable(_TOO_SLOW.format(seconds=question.timeout_ms / 1000))

    async def status(self) -> IndexStatus:
        """The state of the index."""
        current = await self.current()
        if current is None:
            await self._raise_missing()
        self.refuse_other(current)
        return current

    # --- Making and removing it ---

    async def build(self, replaced: IndexStatus | None) -> str:
        """Make an index beside the existing one; return its name when it is complete."""
        number = 1
        if replaced is not None and self.is_for_declaration(replaced):
            number += int(replaced.name.rpartition(":")[2])
        name = f"{self.alias}:{self._index.fingerprint}:{number}"
        # Longer keys belong to an app whose prefix begins with this store's prefix.
        is_session = f"strlen(@__key) == {len(self._key_prefix) + 32} && exists(@_created)"
        command = ["FT.CREATE", name, "ON", "HASH", "PREFIX", "1", self._key_prefix]
        command += ["FILTER", is_session]
        command += ["NOOFFSETS", "NOFREQS", "NOFIELDS", "NOHL", "STOPWORDS", "0"]
        # If an index of this name exists, another process is building it, or did not finish.
        await self.command(*command, "SCHEMA", *self._index.schema, allow="already exists")
        await self.wait_until_built(name)
        return name

    async def publish(self, name: str) -> None:
        """Move the alias to an index, and remove the others of this server."""
        await self.command("FT.ALIASUPDATE", self.alias, name)
        await self.drop(keep=name)

    async def drop(self, keep: str | None = None) -> list[str]:
        """Remove the indexes that can be removed, except for *keep*; return the names of all."""
        names = await self.names()
        for name in names:
            if name not in (keep, *self.stranded):
                # Another process may drop it at the same time: "Unknown index name".
                await self.command("FT.DROPINDEX", name, allow="nknown index")
        return names

    async def names(self) -> list[str]:
        """All indexes of the store on this server, for any declaration, complete or not."""
        return self.ours(await self.command("FT._LIST"))

    def ours(self, listed: Sequence[bytes]) -> list[str]:
        """Of a reply to FT._LIST, the names of this store's indexes."""
        return [name for raw in listed if self._ours.fullmatch(name := raw.decode())]

    async def wait_until_built(self, name: str | None = None) -> IndexStatus:
        """Wait until an index is complete, by default the one that the alias leads to."""
        while True:
            status = await self._look_up(name or self.alias)
            if status is None:
                raise self._missing(_MISSING)
            if status.progress >= 1:
                return status
            await asyncio.sleep(_POLL_SECONDS)

    # --- State ---

    async def current(self) -> IndexStatus | None:
        """The index that the alias leads to; None if there is none."""
        return await self._look_up(self.alias)

    def is_for_declaration(self, status: IndexStatus) -> bool:
        """Whether the index was made for the declaration of this store."""
        return self._is_named_for_declaration(status.name)

    def refuse_other(self, status: IndexStatus) -> None:
        """Raise `SearchUnavailable` if the index was made for another declaration."""
        if not self.is_for_declaration(status):
            raise self._unavailable(_OTHER_DECLARATION)

    def _is_named_for_declaration(self, name: str) -> bool:
        return name.startswith(f"{self.alias}:{self._index.fingerprint}:")

    async def _look_up(self, name: str) -> IndexStatus | None:
        (info,) = await self.send(("FT.INFO", name))
        if not isinstance(info, ResponseError):
            status = status_of(info)
            is_ours = self._ours.fullmatch(status.name) and prefixes_of(info) == [
                self._key_prefix.encode()
            ]
            if not is_ours:
                raise self._unavailable(_FOREIGN.format(name=name, index=status.name))
            return replace(status, stranded=tuple(f"{one} at {self.at}" for one in self.stranded))
        if not is_missing(info):
            await self._raise_refusal(info, None)
        return None

    # --- Sending ---

    async def send(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands one right behind the other; return the replies, errors among them."""
        return await self._client.queries.send(*commands, at=self.master)

    async def command(self, *command: Any, allow: str | None = None) -> Any:
        """Send one command. *allow*: text of an error that is ignored; the result is None then."""
        (answer,) = await self.send(command)
        if isinstance(answer, ResponseError):
            if allow is not None and allow in str(answer):
                return None
            await self._raise_refusal(answer, None)
        return answer

    # --- Errors ---

    async def refuse_errors(self, replies: Sequence[Any], question: Question | None = None) -> None:
        """Raise `SearchUnavailable` with the reason if one of these replies is an error."""
        for reply in replies:
            if isinstance(reply, ResponseError):
                await self._raise_refusal(reply, question)

    async def _raise_refusal(self, error: ResponseError, question: Question | None) -> NoReturn:
        reason = reason_of(error)
        if self.at and (isinstance(error, _UNSETTLED) or _FOREIGN_SLOT.search(reason)):
            raise Unsettled(f"{self.at}: {reason}")
        if "unknown command" in reason.lower():
            raise self._unavailable(_NO_SEARCH)
        if question is not None and "timeout" in reason.lower():
            self.refuse_late(question)
        if not is_missing(error):
            raise self._unavailable(f"Redis Search has refused the question ({reason}).")
        await self._raise_missing()

    async def _raise_missing(self) -> NoReturn:
        """Raise the reason why the alias leads nowhere: no index, or one that is being built."""
        for name in await self.names():
            if self._is_named_for_declaration(name) and (status := await self._look_up(name)):
                self._refuse_unbuilt(status)
        if self.stranded:
            raise self._missing(_STRANDED.format(names=", ".join(self.stranded)))
        raise self._missing(_MISSING)

    def _refuse_unbuilt(self, status: IndexStatus) -> None:
        if status.progress < 1:
            raise self._unavailable(
                f"The index is being built, {status.progress:.0%} of it is done. Ask again when it "
                "is complete; `store.search.status()` returns the progress."
            )

    def _unavailable(self, message: str) -> SearchUnavailable:
        return SearchUnavailable(self._named(message))

    def _missing(self, message: str) -> SearchUnavailable:
        return IndexMissing(self._named(message))

    def _named(self, message: str) -> str:
        return message if self.at is None else f"{self.at}: {message}"


def names_of_indexes(prefix: str) -> re.Pattern[str]:
    """The names of a store's indexes: in a Cluster, each has a hash tag (`tag`)."""
    return re.compile(re.escape(f"{prefix}:idx") + r"(?::\{(?P<tag>\d+)\})?:[0-9a-f]{12}:\d+")
