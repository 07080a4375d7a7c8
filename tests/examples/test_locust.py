"""The shopper's journey of `benchmarks/locustfile.py`, for a few seconds, against the real shop."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.serving import serve

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(session_redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The shop on a Redis of the tests'."""
    monkeypatch.setenv("REDIS_URL", session_redis_url)
    monkeypatch.setenv("SESSION_PREFIX", prefix)
    with pytest.warns(UserWarning, match="for_development"):
        shop = importlib.reload(importlib.import_module("examples.shop"))
    with serve(shop.app) as url:
        yield url


def run_locust(url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless"]
    return subprocess.run(
        [*command, "--host", url, "--only-summary", "--exit-code-on-error", "1"],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_carts_stay_right_under_a_rush_of_shoppers(url: str) -> None:
    """Twenty shoppers at once always see the carts that they have filled themselves."""
    done = run_locust(url, SHOPPERS="20", SECONDS="8")
    assert done.returncode == 0, done.stderr
    assert " 0(0.00%)" in next(line for line in done.stderr.splitlines() if "Aggregated" in line)


def test_a_wrong_cart_is_noticed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journey can fail: where carts don't survive the login, it says so."""
    from asgi_redis_session import Session  # noqa: PLC0415

    login = Session.login

    async def forgetful_login(self: Session, user_id: str) -> None:
        await login(self, user_id)
        self.pop("cart", None)

    monkeypatch.setattr(Session, "login", forgetful_login)
    done = run_locust(url, SHOPPERS="2", SECONDS="3")
    assert done.returncode == 1
    assert "the customer expects" in done.stdout + done.stderr
