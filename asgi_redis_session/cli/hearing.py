"""Logins and ends, as a server reports them while somebody watches: keyspace notifications."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis as Client
from redis.exceptions import ResponseError

from ..transport.reasons import reason_of

__all__ = ["Hearing"]

_SETTING = "notify-keyspace-events"
#: What must be in it: events under the names of keys, and those of sorted sets; each with the
#: letters that stand for it.
_WANTED = {"K": "K", "z": "zA"}
#: Each login enters a place in the user's list when it begins, and again when it is complete.
_ENTRIES = 2
#: What a tombstone says of a session that did not end: it has a new id, or has expired.
_NO_ENDS = (b"replaced", b"expired")
#: So many tombstones are read at each look. Of more, as many are taken for ends as among these.
_MOST = 1000


class Hearing:
    """
    What one server reports of the sessions of a prefix.

    A login is a change of a user's list, which a renewal of a user's session is, too. An end is a
    tombstone that says so: it is read once.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        #: Whether anything is heard.
        self.is_on = False
        #: How many logins and ends there were, since it began.
        self.logins, self.ends = 0.0, 0.0
        self._graves: list[bytes] = []
        database = client.connection_pool.connection_kwargs.get("db") or 0
        self._keys = f"__keyspace@{database}__:".encode()
        self._users, self._ended = (f"{prefix}:{what}:".encode() for what in ("user", "ended"))
        self._pubsub: Any = client.pubsub()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> str | None:
        """Listen from now on. Returns None, or why that is not possible. May raise as redis-py."""
        try:
            flags = str((await self._client.config_get(_SETTING)).get(_SETTING) or "")
        except ResponseError as error:
            return f"Redis does not say whether it reports them ({reason_of(error)})"
        if missing := [flag for flag, any_of in _WANTED.items() if not set(any_of) & set(flags)]:
            command = f"redis-cli CONFIG SET {_SETTING} {flags}{''.join(missing)}"
            return f"Redis reports none. `{command}` lets each server do so"
        try:
            for key in (self._users, self._ended):
                await self._pubsub.psubscribe(self._keys + key + b"*")
                await self._pubsub.get_message(timeout=None)  # that it was accepted
        except ResponseError as error:
            return f"Redis refuses to report them ({reason_of(error)})"
        self.is_on = True
        self._task = asyncio.get_running_loop().create_task(self._listen())
        return None

    async def aclose(self) -> None:
        """Do not listen any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._pubsub.aclose()

    async def look(self) -> None:
        """Bring the counters up to date. May raise as redis-py does."""
        if self._task is not None and self._task.done():
            self._task.result()
        graves, self._graves = self._graves, []
        if graves:
            kinds = await self._read(graves[:_MOST])
            self.ends += len(graves) * sum(kind not in _NO_ENDS for kind in kinds) / len(kinds)

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            if message["data"] == b"zadd":
                key = message["channel"].removeprefix(self._keys)
                if key.startswith(self._users):
                    self.logins += 1 / _ENTRIES
                else:
                    self._graves.append(key)

    async def _read(self, graves: Sequence[bytes]) -> list[bytes | None]:
        """Return what each of the tombstones says; None if it is not there any more."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in graves:
                pipeline.zrange(key, 0, 0)
            replies = await pipeline.execute(raise_on_error=False)
        return [_kind_in(reply) for reply in replies]


def _kind_in(reply: Any) -> bytes | None:
    match reply:
        case [bytes(kind)]:
            return kind
    return None  # no tombstone, or an error
