"""The pytest fixtures."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from ..devserver import DevServer
from .kit import SessionKit

__all__ = ["session_options", "session_redis_url", "sessions"]


@pytest.fixture(scope="session")
def session_redis_url() -> Iterator[str]:
    """
    The URL of a real Redis for the tests: `$SESSION_REDIS_URL` if it is set, else a private server
    that lives as long as the test run.
    """
    if url := os.environ.get("SESSION_REDIS_URL"):
        yield url
    else:
        with DevServer() as server:
            yield server.url


@pytest.fixture
def session_options() -> dict[str, Any]:
    """Arguments for the test's `SessionStore`: override it to test with yours."""
    return {}


@pytest.fixture
def sessions(session_redis_url: str, session_options: dict[str, Any]) -> Iterator[SessionKit]:
    """Sessions for one test, under a prefix of its own; its keys are deleted afterwards."""
    with start_blocking_portal() as portal:
        kit = SessionKit(session_redis_url, portal, **session_options)
        try:
            yield kit
        finally:
            kit.close()
