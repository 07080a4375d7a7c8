"""A thousand people who are logged in, and the app is switched over under them, and back."""

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from asgi_redis_session.testing import SessionKit

from ..support.crowd import Answer, Browser, Crowd, crowd_at
from ..support.serving import serve_apart
from .test_imports import hashes, sign

pytestmark = pytest.mark.anywhere

PEOPLE = 1000


class Site:
    """An app that two workers serve. Its socket is ours, so that the switch refuses nobody."""

    def __init__(self, sessions: SessionKit, url: str) -> None:
        self._environment = {"REDIS_URL": url, "SESSION_PREFIX": sessions.prefix}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    @contextmanager
    def serve(self, factory: str) -> Iterator[Crowd]:
        """Serve the app of *factory*; yields the crowd in front of it."""
        options = ["--factory", "--workers", "2", "--log-level", "warning"]
        app = f"tests.dropin.moving:{factory}"
        with serve_apart(
            app, *options, listener=self._listener, environment=self._environment
        ) as url:
            with crowd_at(url) as crowd:
                yield crowd

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def site(sessions: SessionKit, session_redis_url: str) -> Iterator[Site]:
    site = Site(sessions, session_redis_url)
    yield site
    site.close()


Request = tuple[str, str]
READ: Request = ("GET", "/me")


def add(item: str) -> Request:
    return "POST", f"/add/{item}"


def at_once(crowd: Crowd, people: list[Browser], *requests: Request) -> list[list[Answer]]:
    """Let everybody send these requests at once; returns each one's answers."""
    calls = [each.call(*request) for each in people for request in requests]
    answers = crowd.all(calls)
    assert {answer.status for answer in answers} == {200}
    return [answers[first : first + len(requests)] for first in range(0, len(calls), len(requests))]


def given_ids(answers: list[Answer]) -> set[str | None]:
    return {answer.cookies["session_id"] for answer in answers if "session_id" in answer.cookies}


def test_a_move_under_load(site: Site, sessions: SessionKit, admin: Any) -> None:
    """Nobody is logged out, nobody has two sessions, and no signed cookie brings one back."""
    people = [Browser() for _ in range(PEOPLE)]
    names = {each: f"user {number}" for number, each in enumerate(people)}
    staying, leaving, changing = people[:500], people[500:800], people[800:]

    with site.serve("before") as crowd:
        crowd.all(each.call("POST", f"/login/{quote(names[each])}") for each in people)
    signed = {each: dict(each.jar) for each in people}

    with site.serve("after") as crowd:
        # The first requests after the switch, several at once with each signed cookie.
        answers = at_once(crowd, people, READ, add("tea"), add("jug"))
        for each, of_each in zip(people, answers, strict=True):
            assert {answer.body["user"] for answer in of_each} == {names[each]}
            assert given_ids(of_each) == {each.jar["session_id"]}
        stored = [admin.hmget(key, "user", "tea", "jug") for key in hashes(sessions)]
        everybody = [[name.encode(), b"true", b"true"] for name in names.values()]
        assert sorted(stored) == sorted(everybody)

        # Some log out, and some log in as somebody else, beside other requests.
        at_once(crowd, leaving, READ, ("POST", "/logout"), READ)
        assert not any(each.jar for each in leaving)
        at_once(crowd, changing, READ, ("POST", "/login/eve"), READ)
        for (answer,) in at_once(crowd, changing, READ):
            assert answer.body["user"] == "eve"
        remaining = sorted(hashes(sessions))
        assert len(remaining) == len(staying) + len(changing)

        # Every signed cookie is replayed, among others that nobody has signed.
        replayed = [Browser(signed[each]) for each in people]
        forged = [
            Browser({"session": forged})
            for each in people[:100]
            for forged in forgeries(signed[each]["session"])
        ]
        answers = at_once(crowd, [*replayed, *forged], READ)
        for each, (answer,) in zip([*people, *forged], answers, strict=True):
            if each in staying:
                assert answer.body["user"] == names[each]
                assert given_ids([answer]) == {each.jar["session_id"]}
            else:
                assert answer.body == {}
                assert not answer.cookies
        assert sorted(hashes(sessions)) == remaining

    # The way back: whoever has neither logged in nor out has the session of before the move.
    with site.serve("before") as crowd:
        for each, (answer,) in zip(people, at_once(crowd, people, READ), strict=True):
            assert answer.body == ({"user": names[each]} if each in staying else {})


def forgeries(cookie: str) -> list[str]:
    """Cookies like this one that nobody has signed with the app's secret."""
    payload, _, signature = cookie.partition(".")
    other = base64.b64encode(b'{"user": "eve"}').decode()
    signed_by_others = sign(base64.b64decode(payload), "another secret, as long as ours")
    return [payload, f"{other}.{signature}", signed_by_others]
