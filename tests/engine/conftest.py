"""A page that uses sessions, and sessions that nobody can read."""

from collections.abc import AsyncIterator, Callable

import pytest
import redis

from asgi_redis_session import SessionStore

from ..support.page import Page
from .evidence import EVERYTHING, Evidence


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page


@pytest.fixture
def plant(admin: redis.Redis, store: SessionStore) -> Callable[[str], Evidence]:
    def place(what: str) -> Evidence:
        evidence = Evidence(admin, store)
        EVERYTHING[what](evidence)
        evidence.seal()
        return evidence

    return place
