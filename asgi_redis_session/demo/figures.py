"""What the operator sees: all sessions counted, by Redis Search or by reading them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

from ..errors import SearchUnavailable
from ..info import SessionInfo
from ..search.fields import Field, Num, Tag
from ..store import SessionStore
from .goods import PRODUCTS, cart_of, field_of

__all__ = ["INDEX", "Figures", "Operator"]

#: What the store has to be made with.
INDEX: tuple[Field, ...] = (Tag("branch"), *(Num(field_of(sku)) for sku in PRODUCTS))
_LISTED = 8

_Counts = tuple[int, Mapping[str, int], Mapping[str, int], tuple[SessionInfo, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """*by_search*: how they were counted. *ms*: how long that took."""

    total: int
    branches: Mapping[str, int]
    carts: Mapping[str, int]
    some: tuple[SessionInfo, ...]
    by_search: bool
    ms: float


class Operator:
    """All sessions of the shop: counted, found, ended."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._searches = False

    async def prepare(self) -> None:
        """Make the index, if this server has Search."""
        try:
            await self._store.search.create_index()
        except SearchUnavailable:
            self._searches = False
        else:
            self._searches = True

    async def figures(self) -> Figures:
        """Count all sessions. Raises `SessionUnavailable`."""
        began = perf_counter()
        counted = await (self._counted() if self._searches else self._read())
        return Figures(*counted, self._searches, (perf_counter() - began) * 1000)

    async def holding(self, sku: str) -> int:
        """Count the carts that hold a product."""
        if self._searches:
            return await self._store.search.count(Num(field_of(sku)) >= 1)
        return await self._store.revoke_where(_holds(sku), dry_run=True, keys_per_second=None)

    async def recall(self, sku: str, reason: str) -> int:
        """End the sessions whose carts hold a product; returns how many."""
        if self._searches:
            return await self._store.search.revoke(Num(field_of(sku)) >= 1, reason=reason)
        return await self._store.revoke_where(_holds(sku), reason=reason, keys_per_second=None)

    async def _counted(self) -> _Counts:
        search = self._store.search
        total, branches, *carts = await asyncio.gather(
            search.count(),
            search.count_by("branch"),
            *[search.count(Num(field_of(sku)) >= 1) for sku in PRODUCTS],
        )
        some: list[SessionInfo] = []
        async with aclosing(search.find()) as found:
            async for info in found:
                some.append(info)
                if len(some) == _LISTED:
                    break
        return total, branches, dict(zip(PRODUCTS, carts, strict=True)), tuple(some)

    async def _read(self) -> _Counts:
        total = 0
        branches, carts = Counter[str](), Counter[str]()
        latest: list[SessionInfo] = []
        async for info in self._store.scan(keys_per_second=None):
            total += 1
            branches.update({str(info.fields["branch"])} if "branch" in info.fields else ())
            carts.update(cart_of(info.fields).keys())
            latest = sorted([*latest, info], key=_last_seen, reverse=True)[:_LISTED]
        return total, branches, carts, tuple(latest)


def _holds(sku: str) -> Callable[[SessionInfo], bool]:
    return lambda info: sku in cart_of(info.fields)


def _last_seen(info: SessionInfo) -> datetime:
    return info.last_seen
