"""
The index of the sessions on the server: how it is made, filled, looked at and asked.

Rules kept here:
- its name is that of the declaration it was made for, and an alias leads to it only when it is
  complete: a new one takes the place of an old one in one step;
- it is looked at in the same breath as it is asked. If it is missing, being built, or made for
  another declaration, that is said, and there is no answer;
- keys of an app whose prefix begins with ours are left out of it;
- none of this travels with the requests.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from redis.exceptions import ResponseError

from ..engine.record import is_handle
from ..errors import SearchUnavailable
from ..transport.client import Client as Wire
from .fields import Index

__all__ = ["Backfill", "IndexStatus", "Indexing"]

logger = logging.getLogger("asgi_redis_session")

#: How long Redis may work on one question (ms): it does nothing else meanwhile.
_TIMEOUT_MS = 10_000
_POLL = 0.02
#: Keys looked at by one SCAN, and sessions rewritten in one batch: each less than a millisecond.
_SCAN_COUNT, _SHADE_BATCH = 50, 10
_MOST_PASSES = 5

_NOTHING = (
    "SessionStore(index=()) declares nothing to search by. Declare the fields that you ask for, as "
    'in SessionStore(..., index=[Tag("tenant"), Num("total")]).'
)
_NO_SEARCH = (
    "This Redis has no Search. Use Redis 8 or Redis Stack, or load the module redisearch; all "
    "else in this library works without it."
)
_CLUSTER = (
    "In a Redis Cluster there is no search across sessions: before Redis 8, a node searches only "
    "what it holds itself. Use one server, with replicas and Sentinel; all else in this library "
    "works in a Cluster."
)
_MISSING = (
    "These sessions have no index yet. Call `await store.search.create_index()` once, when you "
    "deploy; with backfill=True it reaches the sessions that exist already."
)
_OTHER = (
    "The index was made for another declaration than that of this SessionStore. Call `await "
    "store.search.create_index(rebuild=True, backfill=True)`, or give this process the declaration "
    "that the index has."
)
_SLOW = (
    "Redis Search has stopped the query after {seconds:g} s, and a part of an answer is none. Ask "
    "for less at a time, or count with exact=False."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """
    How an index is doing.

    *documents*: sessions in it, also ones that have just expired. *failures*: hashes that could not
    be indexed since it was made; 0 unless somebody else writes into our keys. *progress*: how much
    of it is built, from 0 to 1. *memory*: bytes, as far as Redis Search counts them.
    """

    name: str
    documents: int
    failures: int
    progress: float
    memory: int

    @property
    def trouble(self) -> str | None:
        """What is wrong with it, and where to look; None if nothing is."""
        if not self.failures:
            return None
        return (
            f"{self.failures} hashes could not be indexed: something else writes to our keys. See "
            f"'Index Errors' of `redis-cli FT.INFO {self.name}`."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """
    How far a backfill has got: keys *scanned*, sessions *written*, and the *cursor* to go on from,
    with `create_index(backfill=True, resume=cursor)`, if it is interrupted now.
    """

    scanned: int
    written: int
    cursor: int


class Shades(Protocol):
    """What a backfill asks of the store of sessions."""

    async def shade(self, handle: str) -> bool:
        """Write the shadows that a session lacks; whether it lacked any."""
        ...


class Indexing:
    """The half of `store.search` that keeps the index; see `Search` for the one that asks it."""

    def __init__(self, wire: Wire, shades: Shades, index: Index) -> None:
        self._wire = wire
        self._shades = shades
        self._index = index
        self._alias = f"{wire.prefix}:idx"
        self._timeout_ms = _TIMEOUT_MS

    async def create_index(
        self,
        *,
        rebuild: bool = False,
        backfill: bool = False,
        resume: int = 0,
        progress: Callable[[Backfill], None] | None = None,
    ) -> IndexStatus:
        """
        Make the index, and return when it is complete; if there is one already, only look at it.

        Call it when you deploy. Raises `SearchUnavailable` if the index was made for another
        declaration, unless *rebuild*: then a new one is built beside it and takes its place when it
        is complete. Sessions are not touched.

        *backfill*: also write what is indexed of the sessions that were written before the field
        was declared, or by processes that do not declare it. Redis is never held up for longer
        than some milliseconds, and sessions neither live longer for it nor come back. *progress*
        is called after each step; *resume* goes on from its `cursor`.
        """
        current = await self._current()
        if current is not None and not self._is_ours(current.name) and not rebuild:
            raise SearchUnavailable(_OTHER)
        if backfill:
            await self._backfill(resume, progress or _ignore)
        if current is None or rebuild:
            await self._build(current)
        status = await self._built(self._alias)
        if status.trouble is not None:
            logger.warning("%s", status.trouble)
        return status

    async def drop_index(self) -> bool:
        """Remove the index, and leave all sessions alone; whether there was one."""
        self._refuse_unusable()
        names = await self._names()
        for name in names:
            await self._command("FT.DROPINDEX", name)
        return bool(names)

    async def status(self) -> IndexStatus:
        """How the index is doing: to be watched, and to be asked before you ask it."""
        current = await self._current()
        if current is None:
            await self._say_missing()
        if not self._is_ours(current.name):
            raise SearchUnavailable(_OTHER)
        return current

    # --- Inside ---

    async def _ask(self, command: Sequence[str]) -> Any:
        """Ask the index, and in the same breath how it is."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        seconds = self._timeout_ms / 1000
        info, answer = await self._wire.commands(("FT.INFO", self._alias), command)
        if isinstance(info, ResponseError):
            await self._explain(info)
        status = _status(info)
        if not self._is_ours(status.name):
            raise SearchUnavailable(_OTHER)
        _refuse_unbuilt(status)
        if isinstance(answer, ResponseError):
            await self._explain(answer)
        if isinstance(answer, dict):
            is_cut = bool(answer.get(b"warning"))
        else:  # RESP2 has no place for a warning: whoever took that long was stopped
            is_cut = loop.time() - started >= seconds
        if is_cut:
            raise SearchUnavailable(_SLOW.format(seconds=seconds))
        return answer

    def _refuse_unusable(self) -> None:
        if not self._index:
            raise SearchUnavailable(_NOTHING)
        if self._wire.is_cluster:
            raise SearchUnavailable(_CLUSTER)

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self._alias}:{self._index.fingerprint}:")

    async def _current(self) -> IndexStatus | None:
        """The index that the alias leads to; None if there is none."""
        self._refuse_unusable()
        return await self._look(self._alias)

    async def _look(self, name: str) -> IndexStatus | None:
        (info,) = await self._wire.commands(("FT.INFO", name))
        if not isinstance(info, ResponseError):
            return _status(info)
        if not _is_missing(info):
            await self._explain(info)
        return None

    async def _names(self) -> list[str]:
        """All indexes of ours, under whatever declaration, complete or not."""
        ours = re.compile(re.escape(self._alias) + r":[0-9a-f]{12}:\d+")
        listed = await self._command("FT._LIST")
        return [name for raw in listed if ours.fullmatch(name := raw.decode())]

    async def _build(self, replaced: IndexStatus | None) -> None:
        """Make an index beside the one that there is, then let it take over."""
        number = 1
        if replaced is not None and self._is_ours(replaced.name):
            number += int(replaced.name.rpartition(":")[2])
        name = f"{self._alias}:{self._index.fingerprint}:{number}"
        prefix = f"{self._wire.prefix}:"
        # Longer keys are those of an app whose prefix begins with ours.
        only_ours = f"strlen(@__key) == {len(prefix) + 32} && exists(@_created)"
        command = ["FT.CREATE", name, "ON", "HASH", "PREFIX", "1", prefix, "FILTER", only_ours]
        command += ["NOOFFSETS", "NOFREQS", "NOFIELDS", "NOHL", "STOPWORDS", "0"]
        # If there is one of this name, somebody else is building it, or has not finished.
        await self._command(*command, "SCHEMA", *self._index.schema, allow="already exists")
        await self._built(name)
        await self._command("FT.ALIASUPDATE", self._alias, name)
        for other in await self._names():
            if other != name:
                await self._command("FT.DROPINDEX", other, allow="nknown index")

    async def _built(self, name: str) -> IndexStatus:
        while True:
            status = await self._look(name)
            if status is None:
                raise SearchUnavailable(_MISSING)
            if status.progress >= 1:
                return status
            await asyncio.sleep(_POLL)

    async def _backfill(self, cursor: int, progress: Callable[[Backfill], None]) -> None:
        """
        Pass over all keys until nothing is left to write: a session that gets a new id meanwhile
        may move to where the scan has been.
        """
        scanned = written = 0
        for _ in range(_MOST_PASSES):
            before = written
            while True:
                cursor, handles = await self._scan(cursor)
                for start in range(0, len(handles), _SHADE_BATCH):
                    batch = handles[start : start + _SHADE_BATCH]
                    written += sum(await asyncio.gather(*map(self._shades.shade, batch)))
                scanned += len(handles)
                progress(Backfill(scanned=scanned, written=written, cursor=cursor))
                if cursor == 0:
                    break
            if written == before:
                break

    async def _scan(self, cursor: int) -> tuple[int, list[str]]:
        pattern = f"{self._wire.prefix}:*"  # no prefix has a character that means something here
        reply = await self._command("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
        handles = [key.decode(errors="replace")[len(pattern) - 1 :] for key in reply[1]]
        return int(reply[0]), [handle for handle in handles if is_handle(handle)]

    async def _command(self, *command: Any, allow: str | None = None) -> Any:
        """One command of those that keep the index; *allow* names an error that is none."""
        (answer,) = await self._wire.commands(command)
        if isinstance(answer, ResponseError):
            if allow is not None and allow in str(answer):
                return None
            await self._explain(answer)
        return answer

    async def _explain(self, error: ResponseError) -> NoReturn:
        """Say what it is that Redis would not do."""
        said = str(error).partition("\n")[0]
        if "unknown command" in said.lower():
            raise SearchUnavailable(_NO_SEARCH)
        if "timeout" in said.lower():
            raise SearchUnavailable(_SLOW.format(seconds=self._timeout_ms / 1000))
        if not _is_missing(error):
            raise SearchUnavailable(f"Redis Search has refused the question ({said[:200]}).")
        await self._say_missing()

    async def _say_missing(self) -> NoReturn:
        """Nothing answers to the alias: there is no index, or it is not complete."""
        for name in await self._names():
            if self._is_ours(name) and (status := await self._look(name)):
                _refuse_unbuilt(status)
        raise SearchUnavailable(_MISSING)


def mapping(reply: Any) -> Mapping[str, Any]:
    """A map, as RESP3 has it, or as the list of names and values that stands for it in RESP2."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}


def _status(info: Any) -> IndexStatus:
    said = mapping(info)
    is_built = not int(said["indexing"])
    return IndexStatus(
        name=said["index_name"].decode(),
        documents=int(said["num_docs"]),
        failures=int(said["hash_indexing_failures"]),
        progress=1.0 if is_built else min(float(said["percent_indexed"]), 0.999),
        memory=round(float(said.get("total_index_memory_sz_mb", 0)) * 2**20),
    )


def _refuse_unbuilt(status: IndexStatus) -> None:
    if status.progress < 1:
        raise SearchUnavailable(
            f"The index is being built, {status.progress:.0%} of it is done. Ask again when it is "
            "complete; `store.search.status()` tells."
        )


def _is_missing(error: ResponseError) -> bool:
    said = str(error).lower()
    return any(words in said for words in ("unknown index", "no such index", "index not found"))


def _ignore(_: Backfill) -> None:
    return None
