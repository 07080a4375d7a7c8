"""The drop-in gives a new id when a field identifies the user, and makes no fixation possible."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import SessionStore
from asgi_redis_session.dropin import RENEW_ON
from asgi_redis_session.testing import SessionKit

from .swapped import browsing

pytestmark = pytest.mark.on_cluster

#: How people log in with `request.session`: Starlette's and FastAPI's tutorials, Authlib, the docs
#: of sqladmin and of starlette-admin, apps in the style of Flask-Login and of Django.
LOGINS: dict[str, dict[str, Any]] = {
    "a tutorial": {"user": "ada"},
    "a user id": {"user_id": 7},
    "Authlib": {"user": {"sub": "1", "email": "ada@example.com"}},
    "sqladmin": {"token": "..."},
    "starlette-admin": {"username": "ada"},
    "Flask-Login": {"_user_id": "7", "_fresh": True},
    "Django": {"_auth_user_id": "7"},
    "a flag": {"authenticated": True},
}


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    return sessions.store


@pytest.mark.parametrize("fields", LOGINS.values(), ids=LOGINS.keys())
def test_a_login_gets_a_new_id(store: SessionStore, fields: dict[str, Any]) -> None:
    """The old id is dead, so an id that was planted before is worth nothing; the data moves on."""
    with browsing(store) as browser:
        browser(lambda session: session.update(cart=["tea"]))
        planted = browser.client.cookies["session"]
        browser(lambda session: session.update(fields))
        assert browser.client.cookies["session"] != planted
        assert browser(dict) == {"cart": ["tea"], **fields}
    with browsing(store, {"session": planted}) as attacker:
        assert attacker(dict) == {}


NO_LOGINS: dict[str, Callable[[Any], Any]] = {
    "other fields": lambda session: session.update(cart=[1]),
    "the same user again": lambda session: session.update(user="ada"),
    "a user who is removed": lambda session: session.pop("user"),
}


@pytest.mark.parametrize("act", NO_LOGINS.values(), ids=NO_LOGINS.keys())
def test_what_is_no_login_keeps_the_id(store: SessionStore, act: Callable[[Any], Any]) -> None:
    """Only a field of `renew_on` that appears or changes does."""
    with browsing(store) as browser:
        browser(lambda session: session.update(user="ada", n=1))
        before = browser.client.cookies["session"]
        browser(act)
        assert browser.client.cookies["session"] == before


def test_another_user_gets_another_id(store: SessionStore) -> None:
    """A value that changes counts, also one inside a dict."""
    with browsing(store) as browser:
        browser(lambda session: session.update(user={"sub": "1"}))
        before = browser.client.cookies["session"]
        browser(lambda session: session["user"].update(sub="2"))
        assert browser.client.cookies["session"] != before


def test_the_names_are_an_option(store: SessionStore) -> None:
    """An app with a name of its own gives it, and the defaults, or none at all."""
    with browsing(store, renew_on=RENEW_ON | {"@member"}) as browser:
        browser(lambda session: session.update(a=1))
        before = browser.client.cookies["session"]
        browser(lambda session: session.update({"@member": 7}))
        assert browser.client.cookies["session"] != before
    with browsing(store, renew_on=()) as browser:
        browser(lambda session: session.update(a=1))
        before = browser.client.cookies["session"]
        browser(lambda session: session.update(user="ada"))
        assert browser.client.cookies["session"] == before
