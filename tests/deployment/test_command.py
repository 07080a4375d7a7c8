"""The command `asgi-redis-session doctor`, with arguments that are none."""

import subprocess
import sys

import pytest

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
