"""Fixtures of this folder."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from .common import Make


@pytest.fixture
async def make(session_redis_url: str, prefix: str) -> AsyncIterator[Make]:
    """Make stores that share a prefix, as several processes of one app do."""
    async with AsyncExitStack() as stores:

        def make(**options: Any) -> SessionStore:
            store = SessionStore.from_url(
                session_redis_url, **{"prefix": prefix, "timeout": 20, **options}
            )
            stores.push_async_exit(store)
            return store

        yield make
