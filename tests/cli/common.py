"""The command as a person runs it: in this process, because starting one takes a second of CPU."""

import io
import json
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from asgi_redis_session.cli.commands import commands

from ..support.serving import PATIENCE


class Done(NamedTuple):
    """How a command has ended, and what it has printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, answers: str = "", **environment: str) -> Done:
    """
    Run it; *answers*: what is typed.

    It has a thread of its own, where no event loop runs yet, as in a process. An exception that
    would be a traceback is raised.
    """
    printed, aside = io.StringIO(), io.StringIO()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            commands(arguments, prog_name="asgi-redis-session")
        except BaseException as error:  # noqa: BLE001
            ended.append(error)

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(aside):
        patch.delenv("REDIS_URL", raising=False)
        for name, value in {"COLUMNS": "200", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO(answers))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE)
    (end,) = ended
    if not isinstance(end, SystemExit):
        raise end
    code = end.code or 0
    assert isinstance(code, int), code
    return Done(code, printed.getvalue(), aside.getvalue())


def run_apart(*arguments: str, answers: str = "", **environment: str) -> Done:
    """Run it in a process of its own, by its name."""
    done = subprocess.run(
        [sys.executable, "-m", "asgi_redis_session", *arguments],
        input=answers,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def rows(*arguments: str) -> list[list[str]]:
    """The columns of what it prints."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def objects(*arguments: str) -> list[dict[str, Any]]:
    """What it prints with `--json`."""
    return [json.loads(line) for (line,) in rows(*arguments, "--json")]
