"""
The index on the server: making it, filling it, looking at it and asking it.

Rules kept here:
- The name of an index contains the fingerprint of the declaration that it was made for. An alias
  leads to it only when it is complete, so a new index replaces an old one in one step.
- The state of the index is read in the same batch as each question. If the index is missing, being
  built, or made for another declaration, the question raises an error that says so.
- Keys of an app whose prefix begins with the store's prefix are not indexed.
- All commands travel on a connection of their own, apart from those of requests.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from redis.exceptions import ResponseError

from ..engine.engine import Engine
from ..engine.ids import is_handle
from ..errors import SearchUnavailable
from ..records import about
from ..transport.reasons import reason_of
from .filters import Filter
from .index import Index
from .replies import IndexStatus, is_missing, prefixes_of, rows_of, status_of

logger = logging.getLogger("asgi_redis_session")

#: How long Redis may work on one question, in ms. It does nothing else in that time.
_TIMEOUT_MS = 10_000
_POLL_SECONDS = 0.02
#: Keys looked at by one SCAN, and sessions rewritten in one batch. Each takes Redis less than a
#: millisecond.
_SCAN_COUNT, _WRITE_BATCH = 50, 10
_MOST_PASSES = 5

_NOTHING_DECLARED = (
    "SessionStore(index=()) declares nothing to search by. Declare the fields that you ask for, as "
    'in SessionStore(..., index=[Tag("tenant"), Num("total")]).'
)
_NO_SEARCH = (
    "This server has no Redis Search; Valkey never has. Use Redis 8 or Redis Stack, or load the "
    "module redisearch; the rest of this library works without it."
)
_CLUSTER = (
    "Search across sessions does not work in a Redis Cluster: before Redis 8, a node searches only "
    "its own keys. Use one server, with replicas and Sentinel; the rest of this library works in a "
    "Cluster."
)
_MISSING = (
    "These sessions have no index yet. Call `await store.search.create_index()` once per "
    "deployment; backfill=True includes the sessions that exist already."
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """
    The progress of a backfill.

    *scanned*: keys looked at. *written*: sessions whose shadows were written. *cursor*: where to
    continue after an interruption, with `create_index(backfill=True, resume=cursor)`.
    """

    scanned: int
    written: int
    cursor: int


class IndexAdmin:
    """One store's index on the server. Every method raises `SearchUnavailable`."""

    def __init__(self, engine: Engine, index: Index) -> None:
        self._client = engine.client
        self._write_shadows = engine.outside.write_shadows
        self._index = index
        self._alias = f"{engine.client.prefix}:idx"
        self._key_prefix = f"{engine.client.prefix}:"
        self._ours = re.compile(re.escape(self._alias) + r":[0-9a-f]{12}:\d+")
        self.timeout_ms = _TIMEOUT_MS

    async def ask(self, where: Filter | None, *steps: str) -> list[dict[str, bytes]]:
        """
        Run FT.AGGREGATE with these steps on the sessions that match, and return its rows.

        FT.INFO goes in the same batch, so the answer is complete or an error.
        """
        self._refuse_unusable()
        text, params = self._index.query(where)
        fixed = ("TIMEOUT", str(self.timeout_ms), "DIALECT", "2")
        question = ("FT.AGGREGATE", self._alias, text, *params, *fixed, *steps)
        loop = asyncio.get_running_loop()
        started = loop.time()
        info, answer = await self._send(("FT.INFO", self._alias), question)
        seconds = self.timeout_ms / 1000
        took_too_long = loop.time() - started >= seconds
        if isinstance(info, ResponseError):
            await self._raise_refusal(info)
        status = status_of(info)
        if not self._is_for_declaration(status.name):
            raise SearchUnavailable(_OTHER_DECLARATION)
        _refuse_unbuilt(status)
        if isinstance(answer, ResponseError):
            await self._raise_refusal(answer)
        rows, is_cut = rows_of(answer)
        # RESP2 replies carry no warning. A query that took as long as its TIMEOUT was stopped.
        if took_too_long if is_cut is None else is_cut:
            raise SearchUnavailable(_TOO_SLOW.format(seconds=seconds))
        return rows

    async def status(self) -> IndexStatus:
        """The state of the index."""
        current = await self._current()
        if current is None:
            await self._raise_missing()
        if not self._is_for_declaration(current.name):
            raise SearchUnavailable(_OTHER_DECLARATION)
        return current

    async def create(
        self,
        *,
        rebuild: bool,
        backfill: bool,
        resume: int,
        progress: Callable[[Backfill], None] | None,
    ) -> IndexStatus:
        """Make the index and wait until it is complete (see `Search.create_index`)."""
        current = await self._current()
        if current is not None and not self._is_for_declaration(current.name) and not rebuild:
            raise SearchUnavailable(_OTHER_DECLARATION)
        if backfill:
            await self._backfill(resume, progress or _ignore)
        if current is None or rebuild:
            await self._build(current)
        status = await self._wait_until_built(self._alias)
        if status.trouble is not None:
            logger.warning(
                "%s",
                status.trouble,
                extra=about("search_index_incomplete", reason=status.trouble),
            )
        return status

    async def drop(self) -> bool:
        """Remove all indexes of the store. Returns whether there was one."""
        self._refuse_unusable()
        names = await self.names()
        for name in names:
            await self._command("FT.DROPINDEX", name)
        return bool(names)

    async def names(self) -> list[str]:
        """All indexes of the store, for any declaration, complete or not."""
        listed = await self._command("FT._LIST")
        return [name for raw in listed if self._ours.fullmatch(name := raw.decode())]

    def handle_of(self, key: bytes) -> str | None:
        """The handle in a session's key; None if it is not a session's key."""
        name = key.decode(errors="replace")[len(self._key_prefix) :]
        return name if is_handle(name) else None

    # --- Building ---

    async def _build(self, replaced: IndexStatus | None) -> None:
        """Make an index beside the existing one, then move the alias to it."""
        number = 1
        if replaced is not None and self._is_for_declaration(replaced.name):
            number += int(replaced.name.rpartition(":")[2])
        name = f"{self._alias}:{self._index.fingerprint}:{number}"
        # Longer keys belong to an app whose prefix begins with this store's prefix.
        is_session = f"strlen(@__key) == {len(self._key_prefix) + 32} && exists(@_created)"
        command = ["FT.CREATE", name, "ON", "HASH", "PREFIX", "1", self._key_prefix]
        command += ["FILTER", is_session]
        command += ["NOOFFSETS", "NOFREQS", "NOFIELDS", "NOHL", "STOPWORDS", "0"]
        # If an index of this name exists, another process is building it, or did not finish.
        await self._command(*command, "SCHEMA", *self._index.schema, allow="already exists")
        await self._wait_until_built(name)
        await self._command("FT.ALIASUPDATE", self._alias, name)
        for other in await self.names():
            if other != name:
                # Another process may drop it at the same time: "Unknown index name".
                await self._command("FT.DROPINDEX", other, allow="nknown index")

    async def _wait_until_built(self, name: str) -> IndexStatus:
        while True:
            status = await self._look_up(name)
            if status is None:
                raise SearchUnavailable(_MISSING)
            if status.progress >= 1:
                return status
            await asyncio.sleep(_POLL_SECONDS)

    async def _backfill(self, cursor: int, progress: Callable[[Backfill], None]) -> None:
        """
        Pass over all keys until a pass finds nothing to write. One pass is not enough: a session
        that gets a new id meanwhile may move to where the scan has already been.
        """
        scanned = written = 0
        for _ in range(_MOST_PASSES):
            before = written
            while True:
                cursor, handles = await self._scan(cursor)
                for start in range(0, len(handles), _WRITE_BATCH):
                    batch = handles[start : start + _WRITE_BATCH]
                    written += sum(await asyncio.gather(*map(self._write_shadows, batch)))
                scanned += len(handles)
                progress(Backfill(scanned=scanned, written=written, cursor=cursor))
                if cursor == 0:
                    break
            if written == before:
                break

    async def _scan(self, cursor: int) -> tuple[int, list[str]]:
        # A prefix has no characters with a meaning in patterns.
        pattern = f"{self._key_prefix}*"
        following, keys = await self._command(
            "SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT
        )
        handles = [handle for key in keys if (handle := self.handle_of(key)) is not None]
        return int(following), handles

    # --- State ---

    def _refuse_unusable(self) -> None:
        if not self._index:
            raise SearchUnavailable(_NOTHING_DECLARED)
        if self._client.is_cluster:
            raise SearchUnavailable(_CLUSTER)

    def _is_for_declaration(self, name: str) -> bool:
        return name.startswith(f"{self._alias}:{self._index.fingerprint}:")

    async def _current(self) -> IndexStatus | None:
        """The index that the alias leads to; None if there is none."""
        self._refuse_unusable()
        return await self._look_up(self._alias)

    async def _look_up(self, name: str) -> IndexStatus | None:
        (info,) = await self._send(("FT.INFO", name))
        if not isinstance(info, ResponseError):
            status = status_of(info)
            is_ours = self._ours.fullmatch(status.name) and prefixes_of(info) == [
                self._key_prefix.encode()
            ]
            if not is_ours:
                raise SearchUnavailable(_FOREIGN.format(name=name, index=status.name))
            return status
        if not is_missing(info):
            await self._raise_refusal(info)
        return None

    # --- Sending ---

    async def _send(self, *commands: Sequence[Any]) -> list[Any]:
        return await self._client.commands(*commands)

    async def _command(self, *command: Any, allow: str | None = None) -> Any:
        """Send one command. *allow*: text of an error that is ignored; the result is None then."""
        (answer,) = await self._send(command)
        if isinstance(answer, ResponseError):
            if allow is not None and allow in str(answer):
                return None
            await self._raise_refusal(answer)
        return answer

    async def _raise_refusal(self, error: ResponseError) -> NoReturn:
        """Raise `SearchUnavailable` with the reason for an error reply."""
        reason = reason_of(error)
        if "unknown command" in reason.lower():
            raise SearchUnavailable(_NO_SEARCH)
        if "timeout" in reason.lower():
            raise SearchUnavailable(_TOO_SLOW.format(seconds=self.timeout_ms / 1000))
        if not is_missing(error):
            raise SearchUnavailable(f"Redis Search has refused the question ({reason}).")
        await self._raise_missing()

    async def _raise_missing(self) -> NoReturn:
        """Raise the reason why the alias leads nowhere: no index, or one that is being built."""
        for name in await self.names():
            if self._is_for_declaration(name) and (status := await self._look_up(name)):
                _refuse_unbuilt(status)
        raise SearchUnavailable(_MISSING)


def _refuse_unbuilt(status: IndexStatus) -> None:
    if status.progress < 1:
        raise SearchUnavailable(
            f"The index is being built, {status.progress:.0%} of it is done. Ask again when it is "
            "complete; `store.search.status()` returns the progress."
        )


def _ignore(_: Backfill) -> None:
    return None
