"""A deployment on its way to encryption: real processes of two steps at a time, under load."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from asgi_redis_session.testing import SessionKit

from ..support.crowd import Answer, Browser, Crowd, crowd_at
from ..support.serving import serve_apart
from .conftest import is_sealed

pytestmark = pytest.mark.anywhere

PEOPLE = 50
#: Two steps at a time, as a rolling deployment has them; then back again.
STEPS = ["off", "read", "migrate", "on", "migrate", "read"]


def _name(number: int) -> str:
    return f"user {number}"


def _at_once(
    crowds: list[Crowd], people: list[Browser], *requests: tuple[str, str]
) -> list[Answer]:
    """All send these requests, one after the other, each to another process."""
    answers: list[Answer] = []
    for turn, (method, path) in enumerate(requests):
        for place, crowd in enumerate(crowds):
            mine = people[(place + turn) % len(crowds) :: len(crowds)]
            answers += crowd.all([each.call(method, path) for each in mine])
    assert {answer.status for answer in answers} == {200}
    return answers


def _hashes(sessions: SessionKit, admin: Any) -> list[dict[bytes, bytes]]:
    names = sessions.keys()
    hashes = [admin.hgetall(name) for name in names if ":user:" not in name]
    return [
        {name: raw for name, raw in each.items() if not name.startswith(b"@")} for each in hashes
    ]


def test_a_rolling_deployment_keeps_everybody(
    sessions: SessionKit, session_redis_url: str, admin: Any
) -> None:
    """No user is logged out, no item is lost, and in the end every value is encrypted."""
    people = [Browser() for _ in range(PEOPLE)]
    environment = {"REDIS_URL": session_redis_url, "SESSION_PREFIX": sessions.prefix}
    items: list[str] = []

    def start(stack: ExitStack, step: str) -> Crowd:
        url = serve_apart(
            "tests.encryption.app:make",
            *("--factory", "--log-level", "warning"),
            environment={**environment, "ENCRYPTION": step},
        )
        return stack.enter_context(crowd_at(stack.enter_context(url)))

    def check(crowds: list[Crowd]) -> None:
        """All users are who they were, with all that they have put into their carts."""
        for crowd in crowds:
            for number, answer in enumerate(crowd.all(e.call("GET", "/show") for e in people)):
                assert answer.body["user"] == _name(number)
                assert answer.body["fields"]["owner"] == _name(number)
                assert sorted(answer.body["fields"]["cart"]) == sorted(items)

    with ExitStack() as stack:
        before = start(stack, STEPS[0])
        calls = [e.call("POST", f"/login/user%20{n}") for n, e in enumerate(people)]
        assert {answer.status for answer in before.all(calls)} == {200}
        for step in STEPS[1:]:
            after = start(stack, step)
            for round_ in range(2):
                items.append(f"{step}-{len(items)}")
                _at_once(
                    [before, after],
                    people,
                    ("GET", "/show"),
                    ("POST", f"/add/{items[-1]}"),
                    ("POST", f"/write/{step}{round_}"),
                    ("POST", "/renew"),
                    ("GET", "/show"),
                )
                # Two requests of each browser at the same time, to both processes.
                items.append(f"{step}-{len(items)}")
                parallel = [each.call("POST", f"/add/{items[-1]}") for each in people]
                looking = [each.call("GET", "/show") for each in people]
                with ThreadPoolExecutor(2) as both:
                    one, other = both.submit(before.all, parallel), both.submit(after.all, looking)
                    answers = [*one.result(), *other.result()]
                assert {answer.status for answer in answers} == {200}
            check([before, after])
            values = [raw for held in _hashes(sessions, admin) for raw in held.values()]
            if step == "on":
                assert values
                assert all(map(is_sealed, values))
            before = after
        assert len(_hashes(sessions, admin)) == PEOPLE
