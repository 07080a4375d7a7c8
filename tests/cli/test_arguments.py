"""Wrong arguments, and servers that are away: a sentence each, and an exit status."""

import re

import pytest
import typer

from asgi_redis_session.cli.commands import commands
from asgi_redis_session.pages import DOCUMENTATION, page, see

from ..support.documents import ROOT
from .common import run, run_apart

pytestmark = pytest.mark.anywhere


#: What speaks to an app, or is a server itself, and so has another address or prints nothing.
OTHERS = {"bench": {"--json"}, "gateway": {"--redis", "--prefix"}, "demo": {"--redis"}}


def test_all_commands_take_the_same_options() -> None:
    """Which Redis, which prefix, and output for other programs."""
    found = typer.main.get_group(commands).commands
    assert found.keys() >= {
        "doctor", "list", "show", "revoke", "count", "watch", "seed", "bench", "plain", "gateway"
    }  # fmt: skip
    for name, command in found.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert options >= OTHERS.get(name, {"--redis", "--prefix", "--json"}), name


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["doctor", "--redis", "redis://localhost", "--replicas", "-1"], "replicas"),
        (["doctor", "--redis", "unix:///run/[/b]/[red]?bogus=1"], "Redis URL"),
        (["doctor", "--redis", "nonsense[/]"], "Redis URL"),
        (["count", "--redis", "redis://localhost", "--prefix", "a b"], "prefix"),
        (["list", "--redis", "redis://localhost", "--where", "tenant"], "tenant=acme"),
        (["revoke", "--redis", "redis://localhost"], "--user"),
        (["revoke", "4f3c", "--redis", "redis://localhost", "--user", "ann"], "not both"),
        (["seed", "0", "--redis", "redis://localhost"], "number"),
        (["watch", "--redis", "redis://localhost", "--every", "0"], "--every"),
        (["bench", "nonsense"], "no URL of an app"),
        (["bench", "http://localhost:1", "--header", "Cookie"], "a name and a value"),
        (["count"], "--redis"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:1]),
)
def test_wrong_arguments_are_a_sentence(arguments: list[str], says: str) -> None:
    """Exit status 2 and what is wrong, without a traceback."""
    done = run(*arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [["count"], ["list"], ["show", "0" * 32], ["watch"], ["seed", "1"], ["doctor"]]
)
def test_a_server_that_is_away_is_a_sentence(command: list[str]) -> None:
    """Exit status 1, without a traceback; the URL may come from the environment."""
    done = run(*command, REDIS_URL="redis://:hunter2@127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    leads_to = page("deployment/") if command == ["doctor"] else see("SessionUnavailable")
    assert done.stderr.endswith(f"{leads_to}\n")
    assert not re.search(r",:|\.\.", done.stderr)


def test_a_value_that_can_not_be_stored_leads_to_its_page() -> None:
    """It is a wrong argument, and one of the library's own errors."""
    done = run("revoke", "0" * 32, "--redis", "redis://localhost", "--reason", "x" * 201)
    assert done.returncode == 2
    assert done.stderr.startswith("store.revoke(reason): ")
    assert done.stderr.endswith(f" {see('SessionValueError')}\n")


def test_a_server_that_can_not_be_started_leads_to_its_page() -> None:
    """The demo says why there is none."""
    done = run_apart("demo", REDIS_SERVER="/nowhere/redis-server")
    assert done.returncode == 1
    assert done.stderr.endswith(f" {see('DevServerError')}\n")


@pytest.mark.parametrize(
    "command", [[], *[[name] for name in typer.main.get_group(commands).commands]]
)
def test_the_help_of_each_command_leads_to_its_page(command: list[str]) -> None:
    """And an error of usage leads to that help."""
    done = run(*command, "--help")
    (address,) = re.findall(rf"{DOCUMENTATION}(\S+)/", done.stdout)
    written = rf"asgi.redis.session`?{''.join(f'.{name}' for name in command)}"
    assert re.search(written, (ROOT / f"docs/{address}.md").read_text())
    done = run(*command, "--bogus")
    assert done.returncode == 2
    assert f"Try 'asgi-redis-session {' '.join([*command, '--help'])}' for help." in done.stderr


def test_an_app_that_is_away_is_counted() -> None:
    """`bench` goes on, and says what came instead of answers."""
    done = run("bench", "http://127.0.0.1:1", "--seconds", "0.1", "--connections", "2")
    assert done.returncode == 1
    assert "ConnectError" in done.stdout
