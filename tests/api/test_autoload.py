"""Which requests load their session before the app runs, and which extend its TTL."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import Session, SessionMiddleware, SessionStore

from ..support.internals import key_of
from .common import MINUTE, PLAIN, browser, create


async def no_app(*_: object) -> Any:
    """An app that does nothing."""


def yes(session: Session) -> bool:
    return session.loaded


def no(session: Session) -> bool:
    return session.loaded


def by_path(scope: Any) -> bool:
    return bool(scope["path"] == "/yes")


async def by_path_async(scope: Any) -> bool:
    return by_path(scope)


async def by_suffix(suffix: str, scope: Any) -> bool:
    return bool(scope["path"].endswith(suffix))


class ByPath:
    """An object that is called."""

    def __call__(self, scope: Any) -> bool:
        return by_path(scope)

    async def method(self, scope: Any) -> bool:
        return by_path(scope)


class ByPathAsync:
    """An object that is called and awaited; no function says that it is async."""

    async def __call__(self, scope: Any) -> bool:
        return by_path(scope)


@pytest.mark.parametrize(
    "autoload",
    [
        by_path,
        by_path_async,
        ByPath(),
        ByPath().method,
        ByPathAsync(),
        functools.partial(by_suffix, "yes"),
    ],
    ids=["function", "async function", "object", "async method", "async object", "partial"],
)
async def test_a_function_of_the_scope_decides(
    store: SessionStore, autoload: Callable[..., Any]
) -> None:
    """It may be async; a false answer leaves the session unloaded."""
    async with browser(store, yes, no, autoload=autoload) as client:
        assert (await client.get("/yes")).text == "True"
        assert (await client.get("/no")).text == "False"


@pytest.mark.parametrize("autoload", [True, False])
async def test_a_bool_decides_for_all(store: SessionStore, autoload: bool) -> None:
    """True loads each session, False none."""
    session_id = await create(store, n=1)
    async with browser(store, yes, no, autoload=autoload, session_id=session_id) as client:
        assert (await client.get("/yes")).text == (await client.get("/no")).text == str(autoload)


@pytest.mark.parametrize("word", ["yes", "", None, 1, 0, [], by_path_async({"path": ""})])
def test_anything_else_is_refused_when_the_app_starts(store: SessionStore, word: Any) -> None:
    """One sentence that names the argument; a coroutine is no function."""
    with pytest.raises(TypeError, match=r"^SessionMiddleware\(autoload=.*True, False, or a func"):
        SessionMiddleware(no_app, store=store, autoload=word)
    if hasattr(word, "close"):
        word.close()


async def test_a_function_that_fails_is_an_error_of_the_app(store: SessionStore) -> None:
    """Its exception arrives at the server, as one of the app would; the app does not run."""

    def broken(scope: Any) -> bool:
        raise KeyError("tenant")

    async with browser(store, yes, autoload=broken) as client:
        assert (await client.get("/yes")).status_code == 500
    app = SessionMiddleware(no_app, store=store, autoload=broken, cookie=PLAIN)
    with pytest.raises(KeyError, match="tenant"):
        await app({"type": "http", "path": "/", "headers": []}, no_app, no_app)


# --- refresh ---


def page(session: Session) -> bool:
    return session.loaded


async def poll(session: Session) -> bool:
    return (await session.load()).loaded


async def test_polling_routes_need_not_keep_a_session_alive(
    store: SessionStore, admin: Any
) -> None:
    """refresh= as a function of the scope: one path never extends the TTL, the others do."""

    def refresh(scope: Any) -> str:
        return "never" if scope["path"] == "/poll" else "request"

    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    async with browser(store, page, poll, refresh=refresh, session_id=session_id) as client:
        admin.pexpire(key, MINUTE)
        assert (await client.get("/poll")).text == "True"
        await store.drain()
        assert admin.pttl(key) <= MINUTE
        assert (await client.get("/page")).text == "False"
        await store.drain()
        assert admin.pttl(key) > MINUTE


@pytest.mark.parametrize("word", ["request", "load", "never"])
@pytest.mark.parametrize("loads", [True, False])
async def test_each_word_means_the_same_from_a_function(
    store: SessionStore, admin: Any, word: Any, loads: bool
) -> None:
    """A request that loads extends the TTL but for "never"; another one for "request" only."""
    extended = word == "request" or (word == "load" and loads)
    session_id = await create(store, n=1)
    key = key_of(store, session_id)
    path = "/poll" if loads else "/page"
    for refresh in (word, lambda scope: word):
        admin.pexpire(key, MINUTE)
        async with browser(store, page, poll, refresh=refresh, session_id=session_id) as client:
            await client.get(path)
        assert (admin.pttl(key) > MINUTE) is extended


@pytest.mark.parametrize("answer", ["always", "", None, True, ["request"]])
async def test_a_wrong_answer_of_the_function_is_named(store: SessionStore, answer: Any) -> None:
    """The error says what was returned, and what may be."""
    app = SessionMiddleware(no_app, store=store, refresh=lambda scope: answer)
    with pytest.raises(ValueError, match=r"refresh=\.\.\.\) returned .*'request', 'load' or 'n"):
        await app({"type": "http", "path": "/", "headers": []}, no_app, no_app)


@pytest.mark.parametrize("word", ["always", "", None, True])
def test_an_unknown_word_is_refused_when_the_app_starts(store: SessionStore, word: Any) -> None:
    """The same for the argument itself."""
    with pytest.raises(ValueError, match=r"^SessionMiddleware\(refresh="):
        SessionMiddleware(no_app, store=store, refresh=word)


def test_an_async_function_is_no_refresh(store: SessionStore) -> None:
    """It would be asked before there is anything to await it for: refused when the app starts."""
    with pytest.raises(TypeError, match="Use a plain one"):
        SessionMiddleware(no_app, store=store, refresh=by_path_async)  # type: ignore[arg-type]
