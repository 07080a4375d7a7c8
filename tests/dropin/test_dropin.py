"""The drop-in: `request.session` as it is in Starlette, with the data in Redis."""

import copy
import enum
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.datastructures import Secret
from starlette.responses import JSONResponse

from asgi_redis_session import Lifetime, SessionStore
from asgi_redis_session.dropin import Session, SessionMiddleware
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of
from ..support.values import same
from .swapped import SECRET, browsing

pytestmark = pytest.mark.on_cluster


async def nowhere(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


class Word(enum.StrEnum):
    YES = "yes"


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    return sessions.store


def test_it_is_a_dict(store: SessionStore) -> None:
    """What asks for a dict gets one: isinstance, json, copies and merges."""
    with browsing(store) as browser:
        browser(lambda session: session.update(a=1, b=[2]))

        def look(session: Any) -> list[Any]:
            assert isinstance(session, dict)
            assert JSONResponse(session).body == b'{"a":1,"b":[2]}'
            merged = session | {"c": 3}
            copies = [
                copy.copy(session),
                copy.deepcopy(session),
                pickle.loads(pickle.dumps(session)),
            ]
            assert [type(each) for each in (merged, session.copy(), *copies)] == [dict] * 5
            return [json.loads(json.dumps(session)), dict(session), {**session}, *copies]

        assert browser(look) == [{"a": 1, "b": [2]}] * 6
        assert browser() == {"a": 1, "b": [2]}


CHANGES: dict[str, Callable[[Any], Any]] = {
    "set": lambda s: s.__setitem__("a", 2),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("new", []).append(1),
    "update": lambda s: s.update(a=2),
    "|=": lambda s: s.__ior__({"a": 2}),
    "dict.__setitem__": lambda s: dict.__setitem__(s, "a", 2),
    "append": lambda s: s["list"].append(1),
    "nested": lambda s: s["dict"]["deep"].append({}),
    "the same number of another type": lambda s: s.__setitem__("a", True),
    "a removed and an added one": lambda s: s.update(z=s.pop("a")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_found(store: SessionStore, change: str) -> None:
    """No mutator is watched: what differs when the response starts is saved."""
    with browsing(store) as browser:
        browser(lambda session: session.update(list=[], dict={"deep": []}, a=1))

        def act(session: Any) -> dict[str, Any]:
            assert not session.modified
            CHANGES[change](session)
            assert session.modified
            return dict(session)

        changed = browser(act)
        assert same(browser(dict), changed)


def test_what_has_not_changed_is_not_written(store: SessionStore, sessions: SessionKit) -> None:
    """One command to read; a write sends only what differs."""
    with browsing(store) as browser:
        browser(lambda session: session.update(a=1, list=[1], b="x"))
        with sessions.count() as commands:
            browser.respond(lambda session: session["list"][0])
        assert commands.scripts == ["load"]
        with sessions.count() as commands:
            browser.respond(lambda session: session["list"].append(2))
        assert commands.scripts == ["load", "commit"]
        assert commands.lines[-1].endswith(" list [1,2]")
        assert " @seen " in commands.lines[-1]
        assert " b " not in commands.lines[-1]


LIKE_STARLETTE: dict[str, tuple[Any, Any]] = {
    "tuple": ((1, (2,)), [1, [2]]),
    "int keys": ({1: "a"}, {"1": "a"}),
    "StrEnum": (Word.YES, "yes"),
    "OrderedDict": (OrderedDict(a=1), {"a": 1}),
    "flashes": ([("info", "Saved")], [["info", "Saved"]]),
    "70 kB": ("x" * 70_000, "x" * 70_000),
}


@pytest.mark.parametrize(("value", "stored"), LIKE_STARLETTE.values(), ids=LIKE_STARLETTE.keys())
def test_values_become_what_json_makes_of_them(
    session_redis_url: str, value: Any, stored: Any
) -> None:
    """As in Starlette, a session is what JSON makes of it, in a store with room for it."""
    with browsing(session_redis_url) as browser:
        assert browser.respond(lambda session: session.update(v=value) or None).status_code == 200
        assert same(browser(dict), {"v": stored})
        browser(lambda session: session.clear())


def test_300_fields_fit(session_redis_url: str) -> None:
    """A store made from a URL has limits that no cookie ever had."""
    fields = {f"field {number}": number for number in range(300)}
    with browsing(session_redis_url) as browser:
        browser(lambda session: session.update(fields))
        assert browser(dict) == fields
        browser(lambda session: session.clear())


def test_a_given_store_keeps_its_limits(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond them the answer is 500, and the log names the limit and the option."""
    fields = {f"field {number}": number for number in range(300)}
    with browsing(store) as browser:
        assert browser.respond(lambda session: session.update(fields)).status_code == 500
    assert "300 fields, more than 256" in caplog.text
    assert "Limits(fields=...)" in caplog.text


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), datetime(2026, 1, 2, tzinfo=UTC), b"x"],
    ids=["set", "object", "datetime", "bytes"],
)
def test_what_json_refuses_is_a_500(
    store: SessionStore, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    """As in Starlette, but with a sentence that says what to store instead."""
    with browsing(store) as browser:
        assert browser.respond(lambda session: session.update(v=value)).status_code == 500
        assert browser(dict) == {}
    assert "session['v']: A value of type" in caplog.text


def test_exact_values_are_an_option(store: SessionStore) -> None:
    """`values="exact"` refuses what would come back different."""
    with browsing(store, values="exact") as browser:
        assert browser.respond(lambda session: session.update(v=(1,))).status_code == 500
        assert browser.respond(lambda session: session.update(v=[1])).status_code == 200


NAMES = ["", "@", "@user", "@v", "%", "%%", "%@x", "%a", "100%", "\x00", "a b"]


def test_reserved_names_are_escaped(store: SessionStore) -> None:
    """Names that are reserved in Redis are the app's own here, and none hides another."""
    fields = {name: number for number, name in enumerate(NAMES)}
    with browsing(store) as browser:
        browser(lambda session: session.update(fields))
        assert browser(dict) == fields
        browser(lambda session: [session.pop(name) for name in NAMES[:4]])
        assert browser(dict) == {name: fields[name] for name in NAMES[4:]}


def test_a_name_that_is_no_text_becomes_what_json_makes_of_it(store: SessionStore) -> None:
    """`session[1]` is `session["1"]` in the next request."""
    with browsing(store) as browser:
        browser(lambda session: session.update({1: "a", None: "b", False: "c", 1.5: "d"}))
        assert browser(dict) == {"1": "a", "false": "c", "null": "b", "1.5": "d"}


def test_the_cookie_is_written_as_starlette_writes_it(store: SessionStore) -> None:
    """The same attributes, in the same spelling; none for a read."""
    options = {"path": "/app", "domain": "example.com", "same_site": "none", "https_only": True}
    with browsing(store, url="https://www.example.com/app", **options) as browser:
        expected = (
            r"session=[\w-]{43}; Max-Age=1209600; path=/app; httponly; samesite=none; secure; "
            r"domain=example\.com"
        )
        response = browser.respond(lambda session: session.update(a=1))
        assert re.fullmatch(expected, response.headers["set-cookie"])
        assert "set-cookie" not in browser.respond(dict).headers
        response = browser.respond(lambda session: session.clear())
        assert response.headers["set-cookie"].startswith("session=null; expires=Thu, 01 Jan 1970")


def test_max_age_is_the_idle_time_without_a_deadline(
    store: SessionStore, sessions: SessionKit, admin: Any
) -> None:
    """14 days from the last use, whatever the store says of other sessions."""
    with browsing(store, max_age=3600) as browser:
        browser(lambda session: session.update(a=1))
        (key,) = sessions.keys()
        assert 3_590_000 < admin.pttl(key) <= 3_600_000
        assert admin.hget(key, "@idle") == b"3600000"
        assert not admin.hexists(key, "@deadline")


def test_without_a_max_age_the_store_says_how_long(
    store: SessionStore, sessions: SessionKit, admin: Any
) -> None:
    """The cookie ends with the browser, the session by the store's lifetime."""
    with browsing(store, max_age=None) as browser:
        cookie = browser.respond(lambda session: session.update(a=1)).headers["set-cookie"]
        assert "max-age" not in cookie.lower()
        assert browser(dict) == {"a": 1}
        (key,) = sessions.keys()
        assert admin.hget(key, "@idle") == b"%d" % Lifetime().idle_ms
        assert admin.hexists(key, "@deadline")


@pytest.mark.parametrize("max_age", [0, -1])
def test_a_max_age_of_nothing_keeps_nothing(
    store: SessionStore, sessions: SessionKit, max_age: int
) -> None:
    """The browser drops the cookie at once, and so does Redis."""
    with browsing(store, max_age=max_age) as browser:
        response = browser.respond(lambda session: session.update(a=1))
        assert f"; Max-Age={max_age}; " in response.headers["set-cookie"]
        assert browser(dict) == {}


def test_a_cookie_that_has_aged_is_sent_again(
    store: SessionStore, sessions: SessionKit, admin: Any
) -> None:
    """Reading keeps the session alive, so past half its time it keeps the cookie alive, too."""
    with browsing(store, max_age=1000) as browser:
        browser(lambda session: session.update(a=1))
        (key,) = sessions.keys()
        assert "set-cookie" not in browser.respond(dict).headers
        admin.hincrby(key, "@created", -501_000)
        assert "; Max-Age=1000; " in browser.respond(dict).headers["set-cookie"]
        browser.client.get("/")


def test_a_write_sends_the_cookie_again_now_and_then(
    store: SessionStore, sessions: SessionKit, admin: Any
) -> None:
    """Once in each hundredth of Max-Age, so that it lives as long after a write as in Starlette."""

    def write(session: Any) -> None:
        session["n"] = session.get("n", 0) + 1

    three_years = 100_000_000
    with browsing(store, max_age=three_years) as browser:
        browser(write)
        (key,) = sessions.keys()
        admin.hincrby(key, "@created", -three_years * 10)
        assert f"; Max-Age={three_years}; " in browser.respond(write).headers["set-cookie"]
        assert "set-cookie" not in browser.respond(write).headers


def test_the_secret_key_becomes_the_secret_of_a_store_made_from_a_url(
    session_redis_url: str, admin: Any
) -> None:
    """So nobody who can write to Redis can plant a session for an id of their choice."""
    secrets = ["first " + SECRET, "second " + SECRET]
    with browsing(session_redis_url, secret_key=Secret(secrets[0])) as browser:
        browser(lambda session: session.update(a=1))
        cookies = dict(browser.client.cookies)
    with browsing(session_redis_url, cookies, secret_key=secrets[1]) as browser:
        assert browser(dict) == {}
    with browsing(session_redis_url, cookies, secret_key=secrets[0]) as browser:
        assert browser(dict) == {"a": 1}
        browser(lambda session: session.clear())


def test_a_given_store_keeps_its_secret(store: SessionStore, sessions: SessionKit) -> None:
    """Other processes find the session with the same store, whatever its secret key."""
    with browsing(store) as browser:
        browser(lambda session: session.update(a=1))
        session_id = browser.client.cookies["session"]
    assert sessions.keys() == [f"{sessions.prefix}:{handle_of(store, session_id)}"]


def test_a_short_secret_key_is_warned_about(store: SessionStore) -> None:
    """Any length works, as in Starlette."""
    with pytest.warns(UserWarning, match="fewer than 16 characters") as caught:
        SessionMiddleware(nowhere, "example", store=store)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SessionMiddleware(nowhere, SECRET, store=store)


NONSENSE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"secret_key": ""}, ValueError, "secret_key"),
    ({"max_age": 1.5}, TypeError, "max_age=1.5"),
    ({"max_age": True}, TypeError, "max_age=True"),
    ({"import_cookies": datetime(2026, 1, 2)}, ValueError, "aware datetime"),  # noqa: DTZ001
    ({"values": "pickle"}, ValueError, "values='pickle'"),
    ({"store": 7}, TypeError, "SessionStore or a Redis URL"),
]


@pytest.mark.parametrize(("options", "error", "named"), NONSENSE, ids=lambda row: str(row)[:30])
def test_unusable_arguments_are_refused(
    store: SessionStore, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    """Each with a sentence that names the argument."""
    with pytest.raises(error, match=re.escape(named)):
        SessionMiddleware(nowhere, **{"secret_key": SECRET, "store": store, **options})


def test_a_cookie_that_browsers_ignore_is_warned_about(store: SessionStore) -> None:
    """Starlette accepts SameSite=None without Secure; so does the drop-in, with a warning."""
    with pytest.warns(UserWarning, match="https_only=True"):
        SessionMiddleware(nowhere, SECRET, same_site="none", store=store)


def test_it_varies_with_the_cookie_if_it_was_used(store: SessionStore) -> None:
    """Reading, touching and writing count; not using it does not."""
    with browsing(store) as browser:
        browser(lambda session: session.update(a=1))
        uses: list[Callable[[Any], Any]] = [
            dict,
            list,
            len,
            lambda s: s["a"],
            lambda s: s.get("a"),
            lambda s: "a" in s,
            lambda s: list(s.values()),
            lambda s: list(s.items()),
            lambda s: s.update(b=1),
        ]
        for use in uses:
            assert browser.respond(use).headers["vary"] == "Cookie"


def test_a_session_made_by_hand_knows_what_has_changed() -> None:
    """As Starlette's: some libraries make one in their tests."""
    session = Session({"a": 1, "b": [1]})
    assert (session.accessed, session.modified) == (False, False)
    assert session["a"] == 1
    assert (session.accessed, session.modified) == (True, False)
    session["b"].append(2)
    assert session.modified
    session = Session(a=1)
    session.mark_modified()
    assert (session.accessed, session.modified) == (True, True)
    session.modified = False
    assert not session.modified
    session["a"] = object()
    assert session.modified
