"""The command counts what is left, and the extra is asked for only where it is needed."""

import asyncio
import subprocess
import sys

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import open_session
from ..support.sessions import create, log_in
from .conftest import Make, count_plain


@pytest.mark.on_cluster
async def test_the_command_counts_what_is_left(
    store: SessionStore, store_with: Make, session_redis_url: str, prefix: str
) -> None:
    """All of them, not a sample; the exit status is 0 when none is left."""
    migrating = store_with("migrate", plain=["visits"])
    plain = [await create(store, card="visa", visits=1) for _ in range(120)]
    await log_in(migrating, "ann", card="visa", visits=1)
    await create(store, visits=1)

    async def count(*options: str) -> tuple[int, str]:
        return await asyncio.to_thread(count_plain, session_redis_url, prefix, *options)

    keep = ("--keep", "visits")
    assert await count(*keep) == (1, "120 sessions hold values that are not encrypted.")
    assert await count() == (1, "122 sessions hold values that are not encrypted.")
    for session_id in plain:
        await open_session(migrating, session_id).load()
    await migrating.drain()
    assert await count(*keep) == (0, "0 sessions hold values that are not encrypted.")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.anywhere
def test_the_package_is_asked_for_only_where_it_is_needed() -> None:
    """Without encryption nothing of it is imported here; with it, one sentence names the cure."""
    make = "SessionStore.from_url('redis://localhost:1'"
    code = f"import sys; from asgi_redis_session import SessionStore; {make}); "
    done = _python(f"{code} assert 'cryptography.hazmat.primitives.kdf.hkdf' not in sys.modules")
    assert done.returncode == 0, done.stderr
    done = _python(f"{code} sys.modules['cryptography'] = None; {make}, encryption=True)")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: SessionStore(encryption=...) needs the package cryptography. "
        "Install it: pip install 'asgi-redis-session[encryption]'."
    )


@pytest.mark.anywhere
@pytest.mark.parametrize("encryption", ["on", "", "True", 1, 0, None, b"read", ["read"]])
def test_another_step_is_refused(encryption: object) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"use True, 'read', 'migrate' or False"):
        SessionStore.from_url("redis://localhost:1", encryption=encryption)  # type: ignore[arg-type]


@pytest.mark.anywhere
def test_plain_needs_encryption() -> None:
    """Else everything is plain, and somebody may believe that it is not."""
    with pytest.raises(ValueError, match="it needs encryption=True, 'read' or 'migrate'"):
        SessionStore.from_url("redis://localhost:1", plain=["visits"])
