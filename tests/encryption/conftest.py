"""Stores that encrypt, in each of their steps, and what Redis holds of a session."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from typer.testing import CliRunner

from asgi_redis_session import SessionEvent, SessionStore
from asgi_redis_session.cli.commands import commands

from ..support.internals import is_cluster, key_of

#: Never valid UTF-8: the first byte of an encrypted value.
MARK = b"\xfe"

Make = Callable[..., SessionStore]
Held = Callable[[str], dict[str, bytes]]


@pytest.fixture
async def store_with(
    session_redis_url: str, prefix: str, events: list[SessionEvent]
) -> AsyncIterator[Make]:
    """Makes another store of the same sessions, as another process has it."""
    async with AsyncExitStack() as stack:

        def make(encryption: Any = True, **options: Any) -> SessionStore:
            options = {"prefix": prefix, "timeout": 20, "on_event": events.append, **options}
            store = SessionStore.from_url(session_redis_url, encryption=encryption, **options)
            stack.push_async_callback(store.aclose)
            return store

        yield make


@pytest.fixture
def sealed(store_with: Make) -> SessionStore:
    """A store that encrypts everything but one counter."""
    return store_with(plain=["visits"])


@pytest.fixture
def held(sealed: SessionStore, admin: Any) -> Held:
    """The app's fields of a session, as Redis holds them."""

    def look(session_id: str) -> dict[str, bytes]:
        raws = admin.hgetall(key_of(sealed, session_id))
        return {name.decode(): raw for name, raw in raws.items() if not name.startswith(b"@")}

    return look


def unreadable(store: SessionStore) -> str:
    """What `absence` says of a session that can't be read; in a Cluster it does not look."""
    return "unknown" if is_cluster(store) else "unreadable"


def is_sealed(raw: bytes) -> bool:
    return raw.startswith(MARK)


def count_plain(url: str, prefix: str, *options: str) -> tuple[int, str]:
    """What the command says: its exit status and its output. Not in the thread of an event loop."""
    result = CliRunner().invoke(commands, ["plain", "--redis", url, "--prefix", prefix, *options])
    return result.exit_code, result.output.strip()
