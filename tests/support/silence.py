"""A Redis that is not there, and what is logged of it."""

import logging

import pytest

from asgi_redis_session import SessionStore, SessionUnavailable

from .internals import open_session


async def load_from_nowhere(prefix: str, port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Load a session from a port at which nothing listens; *caplog* has what is logged of it."""
    async with SessionStore.from_url(
        f"redis://127.0.0.1:{port}", prefix=prefix, timeout=0.2
    ) as store:
        with caplog.at_level(logging.WARNING), pytest.raises(SessionUnavailable):
            await open_session(store, "A" * 43).load()
