"""Where the private server may put its files."""

import tempfile
from pathlib import Path

import pytest

from asgi_redis_session import SessionStore
from asgi_redis_session.devserver import DevServer


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "a b",
        'a"b',
        "a'b",
        "ü",
        "a\\b",
        "a#b",
        "a?b",
        "a\nb",
        "%41",
        "$HOME",
        "/".join(["x" * 60] * 3),
    ],
)
async def test_it_starts_in_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, unix: bool
) -> None:
    """Whatever the name of TMPDIR is, the server starts there, and its URL leads to it."""
    directory = tmp_path / name
    directory.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    with DevServer(search=False, unix=unix) as server:
        async with SessionStore.from_url(server.url) as store:
            await store.users.count("ann")
