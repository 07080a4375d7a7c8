"""A store whose sessions can be searched for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.search import indexed


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def shop(session_redis_url: str, prefix: str, request: Any) -> AsyncIterator[SessionStore]:
    """A store with an index of everything that these tests ask for."""
    url = session_redis_url.partition("?")[0]
    async with indexed(f"{url}?protocol={request.param}", prefix) as store:
        yield store
