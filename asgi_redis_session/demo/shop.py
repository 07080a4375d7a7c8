"""What all requests of the shop share."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request

from ..errors import SessionUnavailable
from ..store import SessionStore
from ..telemetry import watch
from ..transport.url import client_from_url
from .asked import Recorder
from .figures import INDEX, Operator
from .rates import Rates

__all__ = ["Place", "Shop", "ShopDep"]

#: How long the shop knows why a session has ended.
_REMEMBERED = timedelta(minutes=10)
#: What the pages ask in the background.
_QUIET = ("/live/", "/session/", "/static/")


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the shop's processes this is. *urls*: of all of them; none if it is alone."""

    number: int = 0
    urls: Sequence[str] = ()

    @property
    def others(self) -> Sequence[tuple[int, str]]:
        """The other processes: their numbers and URLs."""
        return [pair for pair in enumerate(self.urls, 1) if pair[0] != self.number]


class Shop:
    """The store, and what watches it."""

    def __init__(self, redis_url: str, prefix: str, place: Place) -> None:
        self.redis: Any = client_from_url(redis_url)
        self.store = SessionStore(
            self.redis, prefix=prefix, index=INDEX, remember_ended=_REMEMBERED, push=True
        )
        self.place = place
        self.asked = Recorder(_QUIET)
        self.rates = Rates(self.store)
        self.operator = Operator(self.store)
        watch("Shop", self.store, on_command=self.asked.note, on_event=self.rates.count)

    @asynccontextmanager
    async def open(self, _app: object) -> AsyncGenerator[None, None]:
        """Run as the lifespan of the app. A Redis that is away now may come back."""
        with suppress(SessionUnavailable):
            await self.operator.prepare()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.rates.sample)
            yield
            tasks.cancel_scope.cancel()
        await self.redis.aclose()


def _shop_of(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


ShopDep = Annotated[Shop, Depends(_shop_of)]
