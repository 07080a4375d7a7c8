"""
The acknowledgement journal: what browsers were told, against what Redis holds afterwards.

Many browsers use the shop at once. Each write sets two fields that no other write ever touches, so
a lost write can't hide behind a later one, and half a write shows. What was answered with 200 is
acknowledged; what was answered otherwise has an unknown outcome, and may be there whole or not.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from asgi_redis_session import SessionStore

from ..support.internals import handle_of, index_key_of
from ..support.keyspace import session_keys
from .shop import GONE, OK, Browser, app_of

#: So many writes, then another session begins: half of the browsers keep the old, half end it.
_KEPT, _ENDED = 100, 10
#: What a browser waits (seconds) before it asks again after a 503.
_PATIENCE = 0.02


@dataclass(slots=True)
class Told:
    """One session as its browser knows it: when writes were acknowledged, whether it ended."""

    handle: str
    user: str
    writes: dict[int, float] = field(default_factory=dict)
    end: Literal["no", "asked", "acknowledged"] = "no"


@dataclass
class Tally:
    """What became of what was acknowledged."""

    writes: int = 0
    lost_writes: int = 0
    #: How long before the fault (seconds) the oldest lost write was acknowledged.
    lost_seconds: float = 0.0
    ends: int = 0
    #: Sessions whose end was acknowledged, and that exist.
    back: int = 0
    #: Sessions that hold half of a write.
    partial: int = 0
    #: Keys without a TTL.
    immortal: int = 0
    #: Live sessions that their user's list does not show.
    unlisted: int = 0
    refused: int = 0
    rounds: int = 0
    #: In each round: how long after the fault, or after Redis was back, a request still failed (s).
    recoveries: list[float] = field(default_factory=list)

    def __add__(self, other: Self) -> Self:
        sums: dict[str, Any] = {
            counter.name: getattr(self, counter.name) + getattr(other, counter.name)
            for counter in fields(self)
        }
        sums["lost_seconds"] = max(self.lost_seconds, other.lost_seconds)
        return type(self)(**sums)

    def __str__(self) -> str:
        slowest = max(self.recoveries, default=0.0)
        middle = sorted(self.recoveries)[len(self.recoveries) // 2] if self.recoveries else 0.0
        return (
            f"{self.rounds} rounds: {self.lost_writes} of {self.writes} acknowledged writes lost"
            f"{f' (up to {self.lost_seconds:.2f} s old)' if self.lost_writes else ''}, "
            f"{self.back} of {self.ends} ended sessions back, {self.partial} half, "
            f"{self.immortal} without TTL, {self.unlisted} unlisted; "
            f"{self.refused} requests refused, "
            f"recovered within {slowest:.2f} s (median {middle:.2f} s)"
        )


class Journal:
    """
    Browsers at work, and what they were told.

    *redis*: a plain client, of a server or a Cluster, that looks at the outcome.
    """

    def __init__(self, store: SessionStore, redis: Any, *, browsers: int = 50) -> None:
        self.redis = redis
        self._store = store
        self._app = app_of(store)
        self._browsers = browsers
        self._told: list[Told] = []
        self._over = asyncio.Event()
        self._last_refusal = 0.0
        self._acknowledged = 0
        self.refused = 0
        self.fault_at = 0.0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        """Let the browsers work while the block runs."""
        work = [asyncio.create_task(self._work(number)) for number in range(self._browsers)]
        try:
            yield self
        finally:
            self._over.set()
            await asyncio.gather(*work)

    def strike(self) -> None:
        """The fault happens now."""
        self.fault_at = time.monotonic()

    async def acknowledges(self, count: int = 100, patience: float = 100.0) -> None:
        """Wait until so many more writes have been acknowledged."""
        goal, deadline = self._acknowledged + count, time.monotonic() + patience
        while self._acknowledged < goal:
            assert time.monotonic() < deadline, "the app did not recover"
            await asyncio.sleep(0.01)

    async def refuses(self, count: int = 1, patience: float = 100.0) -> None:
        """Wait until so many more requests have been refused."""
        goal, deadline = self.refused + count, time.monotonic() + patience
        while self.refused < goal:
            assert time.monotonic() < deadline, "nothing is refused"
            await asyncio.sleep(0.01)

    async def is_calm(self, seconds: float, patience: float = 100.0) -> None:
        """Wait until no request has been refused for so long."""
        deadline = time.monotonic() + patience
        while time.monotonic() - max(self._last_refusal, self.fault_at) < seconds:
            assert time.monotonic() < deadline, "the app did not recover"
            await asyncio.sleep(0.01)

    def since(self, instant: float) -> float:
        """How long after this instant (monotonic) the last request was refused."""
        return max(0.0, self._last_refusal - instant)

    def kept(self) -> list[Told]:
        """Sessions whose browsers have not asked for their end."""
        return [told for told in self._told if told.end == "no"]

    # --- The browsers ---

    async def _work(self, number: int) -> None:
        while not self._over.is_set():
            # A user of its own for each session: logging out everywhere ends this one only.
            browser, user = Browser(self._app), f"user {number}.{len(self._told)}"
            status = await self._get(browser, f"/login/{user}")
            if status == OK and browser.session_id is not None:
                told = Told(handle_of(self._store, browser.session_id), user)
                told.writes[0] = time.monotonic()
                self._told.append(told)
                await self._write(browser, told, _KEPT if number % 2 else _ENDED)
                if not number % 2:
                    # Some end at once, others when a snapshot may have seen them.
                    await self._pause(random.choice([0, 0, 0.5, 1.5]))
                    await self._end(browser, told, "/logout" if number % 4 else "/everywhere")

    async def _write(self, browser: Browser, told: Told, count: int) -> None:
        for write in range(1, count):
            if self._over.is_set():
                return
            status = await self._get(browser, f"/add/{write}")
            if status == OK:
                told.writes[write] = time.monotonic()
            elif status == GONE:
                return

    async def _end(self, browser: Browser, told: Told, path: str) -> None:
        # What was written before the fault stays to be looked at.
        while not self._over.is_set() and not told.writes[0] < self.fault_at:
            status = await self._get(browser, path)
            if status == OK:
                told.end = "acknowledged"
            if status in (OK, GONE):  # gone: by an earlier try, if there was one
                return
            told.end = "asked"

    async def _get(self, browser: Browser, path: str) -> int:
        status = await browser.get(path)
        if status in (OK, GONE):
            self._acknowledged += status == OK
        else:
            self.refused += 1
            self._last_refusal = time.monotonic()
            await asyncio.sleep(_PATIENCE)
        return status

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than the browsers work."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    # --- What became of it ---

    def tally(self) -> Tally:
        """Compare what was told with what Redis holds now."""
        tally = Tally(rounds=1, refused=self.refused)
        for told in self._told:
            key = f"{self._store.prefix}:{told.handle}"
            found = self.redis.hgetall(key)
            if told.end == "acknowledged":
                tally.ends += 1
                tally.back += bool(found)
            elif told.end == "no":
                self._compare(told, found, tally)
            tally.partial += _is_half(found)
        keys = session_keys(self.redis, self._store.prefix)
        tally.immortal = sum(self.redis.pttl(key) == -1 for key in keys)
        return tally

    def _compare(self, told: Told, found: dict[bytes, bytes], tally: Tally) -> None:
        tally.writes += len(told.writes)
        for write, instant in told.writes.items():
            if found.get(b"a%d" % write) != b"%d" % write:
                tally.lost_writes += 1
                tally.lost_seconds = max(tally.lost_seconds, self.fault_at - instant)
        if found:
            index = index_key_of(self._store, told.user)
            tally.unlisted += self.redis.zscore(index, told.handle) is None


def _is_half(found: dict[bytes, bytes]) -> bool:
    """Whether one of the two fields of a write is there without the other."""
    ours = [name for name in found if not name.startswith(b"@")]
    return {name[1:] for name in ours if name[:1] == b"a"} != {
        name[1:] for name in ours if name[:1] == b"b"
    }
