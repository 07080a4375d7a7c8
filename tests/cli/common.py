"""The command as a person runs it: a process of its own."""

import json
import subprocess
import sys
from typing import Any

from ..support.serving import PATIENCE


def run(*arguments: str, answers: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it; *answers*: what is typed."""
    return subprocess.run(
        [sys.executable, "-m", "asgi_redis_session", *arguments],
        input=answers,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", **environment},
    )


def rows(*arguments: str) -> list[list[str]]:
    """The columns of what it prints."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def objects(*arguments: str) -> list[dict[str, Any]]:
    """What it prints with `--json`."""
    return [json.loads(line) for (line,) in rows(*arguments, "--json")]
