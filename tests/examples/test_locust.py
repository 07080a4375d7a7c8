"""The shopper's journey of `benchmarks/locustfile.py`, for a few seconds, against the real shop."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.serving import serve

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(session_redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The shop on a Redis of the tests'."""
    monkeypatch.setenv("REDIS_URL", session_redis_url)
    monkeypatch.setenv("SESSION_PREFIX", prefix)
    shop = importlib.reload(importlib.import_module("examples.shop"))
    with serve(shop.app) as url:
        yield url


def run_locust(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless"]
    return subprocess.run(
        [*command, *options, "--host", url, "--only-summary", "--exit-code-on-error", "1"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_carts_stay_right_under_a_rush_of_shoppers(url: str) -> None:
    """Twenty shoppers at once always see the carts that they have filled themselves."""
    done = run_locust(url, "-u", "20", "-r", "20", "-t", "8s", "--think", "0.05")
    assert done.returncode == 0, done.stderr
    assert " 0(0.00%)" in next(line for line in done.stderr.splitlines() if "Aggregated" in line)


def test_a_wrong_cart_is_noticed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journey can fail: where carts don't survive the login, it says so."""
    from asgi_redis_session import Session  # noqa: PLC0415

    login = Session.login

    async def forgetful_login(self: Session, user_id: str, **options: Any) -> None:
        await login(self, user_id, **options)
        for field in [name for name in self if name.startswith("cart:")]:
            del self[field]

    monkeypatch.setattr(Session, "login", forgetful_login)
    done = run_locust(url, "-u", "2", "-t", "100s", "--think", "0.05", "--stop")
    assert done.returncode == 1
    assert "the customer expects" in done.stdout + done.stderr


OWN_APP = (
    "-u",
    "5",
    "-r",
    "5",
    "-t",
    "3s",
    "--think",
    "0.05",
    "--login",
    "POST /login name={user}",
)


def test_an_app_of_ones_own_is_named_by_its_requests(url: str) -> None:
    """Each user logs in as somebody else, and their pages show that."""
    pages = ("--page", "GET /api/session", "--page", "POST /cart/tea by=1")
    expect = ("--expect", "{user}", "--logout", "POST /logout")
    done = run_locust(url, *OWN_APP, *pages, *expect)
    assert done.returncode == 0, done.stderr
    assert " 0(0.00%)" in next(line for line in done.stderr.splitlines() if "Aggregated" in line)


def test_a_page_of_somebody_else_is_noticed(url: str) -> None:
    """A page that does not show what its user expects is a failure."""
    page = ("--page", "GET /api/session", "--expect", "not {user}")
    done = run_locust(url, *OWN_APP, *page, "-t", "100s", "--stop")
    assert done.returncode == 1
    assert "does not show what this user expects" in done.stdout + done.stderr
