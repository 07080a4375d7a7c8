"""The command `asgi-redis-session`."""

import subprocess
import sys

import pytest

from asgi_redis_session.devserver import DevServer

from ..support.internals import handle_of
from ..support.sessions import log_in, opened

pytestmark = pytest.mark.anywhere


@pytest.mark.parametrize(
    "arguments",
    [
        ["redis://localhost", "--replicas", "-1"],
        ["unix:///run/[/b]/[red]?bogus=1"],
        ["nonsense[/]"],
    ],
    ids=["replicas", "brackets", "nonsense"],
)
def test_wrong_arguments_are_a_sentence(arguments: list[str]) -> None:
    """Exit status 2 and what is wrong, without a traceback."""
    code = "import sys; from asgi_redis_session.cli import app; sys.argv[0] = 'doctor'; app()"
    run = subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "replicas" in run.stderr or "Redis URL" in run.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command prints."""
    code = "import sys; from asgi_redis_session.cli import app; sys.argv[0] = 'command'; app()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_sessions_are_counted_listed_and_ended() -> None:
    """By user, by idle time; `--dry-run` only counts."""
    with DevServer(search=False) as server:
        url = server.url
        async with opened(url, "shop") as store:
            ann = await log_in(store, "ann")
            for user in ("bob", "\x1b[31mred"):
                await log_in(store, user)
            assert run("count", url, "--prefix", "shop").stdout == "3\n"
            shown = run("list", url, "--prefix", "shop").stdout.splitlines()
            assert len(shown) == 3
            assert "\x1b" not in "".join(shown)
            (line,) = run("list", url, "--prefix", "shop", "--user", "ann").stdout.splitlines()
            assert line.split("\t")[:2] == [handle_of(store, ann), "ann"]
            assert run("list", url, "--prefix", "shop", "--idle-for", "600").stdout == ""
            asked = run("revoke", url, "--prefix", "shop", "--idle-for", "600")
            assert asked.stdout == "0 sessions have ended.\n"
            of_bob = ("revoke", url, "--prefix", "shop", "--user", "bob")
            assert run(*of_bob, "--dry-run").stdout == "1 sessions would end.\n"
            assert run(*of_bob, "--reason", "moved out").stdout == "1 sessions have ended.\n"
            assert await store.users.count("bob") == 0


def test_revoke_needs_to_know_which() -> None:
    """Without --user and --idle-for it would end all of them."""
    asked = run("revoke", "redis://localhost")
    assert asked.returncode == 2
    assert "--user" in asked.stderr


@pytest.mark.parametrize("command", ["count", "list"])
def test_a_server_that_is_away_is_a_sentence(command: str) -> None:
    """Exit status 1, without a traceback."""
    asked = run(command, "redis://127.0.0.1:1")
    assert asked.returncode == 1
    assert "not completed" in asked.stderr
    assert "Traceback" not in asked.stderr
