"""Fixtures that import the kit: pytest must load its plugin first, and conftest.py is too early."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.testing import SessionKit

from .internals import load_scripts
from .page import Page


@pytest.fixture
def kit(sessions: SessionKit, admin: Any) -> SessionKit:
    """The server knows every script, so that a first EVAL does not count."""
    load_scripts(admin)
    return sessions


@pytest.fixture(scope="module")
def alone() -> Iterator[DevServer]:
    """A server for one module of tests, without the keys of others."""
    with DevServer(search=False) as server:
        yield server


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page
