"""A browser that is logged in, and a Redis that is away."""

import pytest

from asgi_redis_session import SessionStore

from ..support.page import Page
from .acts import log_in_as_42


@pytest.fixture
async def login(page: Page) -> Page:
    """A browser that is logged in."""
    await page(log_in_as_42)
    return page


@pytest.fixture
def broken() -> SessionStore:
    """A store whose Redis is away."""
    return SessionStore.from_url("redis://127.0.0.1:1/0")
