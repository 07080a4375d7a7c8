"""An app of the user's own that answers when a session can't be read or saved."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from asgi_redis_session import (
    Durability,
    DurabilityNotReached,
    Session,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
    SessionValueError,
)

from ..support.internals import handle_of
from .common import NOWHERE, PLAIN, WELL_FORMED, Make, browser, create

#: No replica has this much patience.
NEVER = Durability(replicas=9, timeout=0.01)


class Apology:
    """An ASGI app: JSON, a status by the error, and what it was called with."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.scopes: list[Any] = []

    @property
    def errors(self) -> list[type[Exception]]:
        return [type(scope["session.error"]) for scope in self.scopes]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        status = 500 if isinstance(scope["session.error"], SessionValueError) else 503
        body = {"error": "sessions", "path": Request(scope).url.path}
        await JSONResponse(body, status, headers=self.headers)(scope, receive, send)


async def load(session: Session) -> int:
    return len(await session.load())


async def cope(session: Session) -> Response:
    try:
        await session.load()
    except SessionUnavailable as error:
        raise HTTPException(500) from error
    return PlainTextResponse("never")


async def unstorable(session: Session) -> str:
    await session.load()
    session["list"] = things = [1]
    things.append(object())  # type: ignore[arg-type]
    return "the app's response"


async def write(session: Session) -> str:
    (await session.load())["n"] = 1
    return "the app's response"


@pytest.fixture
async def nowhere() -> AsyncIterator[SessionStore]:
    """A store whose Redis is away."""
    async with SessionStore.from_url(NOWHERE) as store:
        yield store


@pytest.mark.parametrize(
    ("path", "autoload"), [("/load", False), ("/load", True), ("/cope", False)]
)
async def test_it_answers_when_redis_is_away(
    nowhere: SessionStore, path: str, autoload: bool
) -> None:
    """The app raises, the middleware's load fails, or the app handles it with a 5xx: the same."""
    apology = Apology(**{"Retry-After": "30"})
    options: dict[str, Any] = {"unavailable": apology, "autoload": autoload}
    async with browser(nowhere, load, cope, session_id=WELL_FORMED, **options) as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.json() == {"error": "sessions", "path": path}
    assert response.headers["retry-after"] == "30"
    assert response.headers["vary"] == "Cookie"
    assert "set-cookie" not in response.headers
    assert apology.errors == [SessionUnavailable]


async def test_without_it_the_answer_is_a_plain_503(nowhere: SessionStore) -> None:
    """A sentence and Retry-After."""
    async with browser(nowhere, load, session_id=WELL_FORMED) as client:
        response = await client.get("/load")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_requests_that_need_no_session_never_meet_it(nowhere: SessionStore) -> None:
    """No cookie, nothing to read: the app answers."""
    apology = Apology()
    async with browser(nowhere, load, unavailable=apology) as client:
        assert (await client.get("/load")).text == "0"
    assert apology.errors == []


async def test_it_answers_for_a_session_that_cannot_be_saved(store: SessionStore) -> None:
    """A value that can't be stored is a 500, and the error says which field it is in."""
    apology = Apology()
    session_id = await create(store, n=1)
    async with browser(store, unstorable, unavailable=apology, session_id=session_id) as client:
        response = await client.get("/unstorable")
    assert response.status_code == 500
    assert response.json()["error"] == "sessions"
    assert apology.errors == [SessionValueError]
    assert "session['list']" in str(apology.scopes[0]["session.error"])
    info = await store.get(handle_of(store, session_id))
    assert info is not None
    assert info.fields == {"n": 1}


async def test_it_answers_for_a_write_that_may_be_lost(make: Make) -> None:
    """The session is there, so the browser gets its cookie with the 503."""
    store = make(durability=NEVER)
    apology = Apology()
    async with browser(store, write, unavailable=apology) as client:
        response = await client.get("/write")
        assert response.status_code == 503
        assert apology.errors == [DurabilityNotReached]
        assert await store.get(handle_of(store, response.cookies["session"])) is not None


@pytest.mark.parametrize("verb", ["logout", "renew"])
async def test_what_the_browser_must_know_goes_along(store: SessionStore, verb: str) -> None:
    """The old id is dead already when a later change can't be saved: its answer has the cookie."""
    session_id = await create(store, n=1)

    async def change(session: Session) -> str:
        await session.load()
        if verb == "logout":
            await session.logout()
        else:
            session.renew()
            await session.save()
        return await unstorable(session)

    apology = Apology(Vary="Accept", **{"Cache-Control": "private"})
    async with browser(store, change, unavailable=apology, session_id=session_id) as client:
        response = await client.get("/change")
    assert response.status_code == 500
    assert response.headers["vary"] == "Accept, Cookie"
    assert response.headers.get_list("cache-control") == ["no-store"]
    cookie = response.headers["set-cookie"]
    if verb == "logout":
        assert cookie.startswith("session=deleted; Max-Age=0;")
    else:
        new_id = cookie.partition(";")[0].removeprefix("session=")
        assert await store.get(handle_of(store, new_id)) is not None
    assert await store.get(handle_of(store, session_id)) is None


async def test_a_new_cookie_is_not_cached(make: Make) -> None:
    """An answer of its own that says nothing about caches gets `no-store` with the cookie."""
    store = make(durability=NEVER)
    async with browser(store, write, unavailable=Apology()) as client:
        response = await client.get("/write")
    assert response.headers["cache-control"] == "no-store"


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("no template")


async def is_silent(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


async def needs_its_session(scope: Any, receive: Any, send: Any) -> None:
    await scope["session"].load()


@pytest.mark.parametrize("responder", [fails, is_silent, needs_its_session])
async def test_one_that_does_not_answer_is_replaced_by_the_plain_answer(
    nowhere: SessionStore, responder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What it raises is logged, and reaches neither the browser nor the server."""
    async with browser(nowhere, load, session_id=WELL_FORMED, unavailable=responder) as client:
        response = await client.get("/load")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.headers["vary"] == "Cookie"
    failed = [record for record in caplog.records if "unavailable=...) failed" in record.message]
    assert len(failed) == (responder is not is_silent)


async def test_a_plain_answer_in_its_place_keeps_the_cookie(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A responder that fails does not lose what the browser must know."""
    session_id = await create(store, n=1)

    async def change(session: Session) -> str:
        await session.logout()
        return await unstorable(session)

    async with browser(store, change, session_id=session_id, unavailable=fails) as client:
        response = await client.get("/change")
    assert response.status_code == 500
    assert response.headers["set-cookie"].startswith("session=deleted; Max-Age=0;")
    assert "no template" in caplog.text


async def test_an_answer_that_breaks_off_is_not_started_again(nowhere: SessionStore) -> None:
    """The server sees one start, whatever happens after it."""

    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        raise RuntimeError("no template")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].load()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    middleware = SessionMiddleware(app, store=nowhere, cookie=PLAIN, unavailable=breaks_off)
    cookie = (b"cookie", b"session=" + WELL_FORMED.encode())
    await middleware({"type": "http", "path": "/", "headers": [cookie]}, _never, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_what_it_writes_to_the_session_is_dropped(store: SessionStore) -> None:
    """The commit has failed, and there is no other one."""
    session_id = await create(store, n=1)

    async def writes(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["n"] = 2
        await PlainTextResponse("sorry", 500)(scope, receive, send)

    async with browser(store, unstorable, session_id=session_id, unavailable=writes) as client:
        assert (await client.get("/unstorable")).text == "sorry"
    info = await store.get(handle_of(store, session_id))
    assert info is not None
    assert info.fields == {"n": 1}


async def test_the_rest_of_the_apps_response_is_not_sent(store: SessionStore) -> None:
    """Its body would follow the other answer."""
    async with browser(
        store, unstorable, session_id=await create(store, n=1), unavailable=Apology()
    ) as client:
        response = await client.get("/unstorable")
    assert "the app's response" not in response.text


@pytest.mark.parametrize(("accepts", "code"), [(False, 1013), (True, 1011)])
async def test_websockets_keep_their_close_codes(
    nowhere: SessionStore, accepts: bool, code: int
) -> None:
    """No HTTP answer fits there: "try again later" before it is accepted, an error after."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await send({"type": "websocket.accept"})
        await scope["session"].load()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    apology = Apology()
    middleware = SessionMiddleware(app, store=nowhere, cookie=PLAIN, unavailable=apology)
    cookie = (b"cookie", b"session=" + WELL_FORMED.encode())
    await middleware({"type": "websocket", "path": "/", "headers": [cookie]}, _never, send)
    assert sent[-1] == {"type": "websocket.close", "code": code, "reason": ""}
    assert apology.scopes == []


async def test_the_scope_is_the_requests_with_the_error(nowhere: SessionStore) -> None:
    """It is a copy: the app's own scope has no such key."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await scope["session"].load()

    async def send(message: Any) -> None:
        pass

    apology = Apology()
    middleware = SessionMiddleware(app, store=nowhere, cookie=PLAIN, unavailable=apology)
    cookie = (b"cookie", b"session=" + WELL_FORMED.encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/cart",
        "query_string": b"page=2",
        "headers": [cookie, (b"host", b"app")],
    }
    await middleware(scope, _never, send)
    (theirs,), (given,) = seen, apology.scopes
    assert "session.error" not in theirs
    assert {**theirs, "session.error": given["session.error"]} == given
    assert given["query_string"] == b"page=2"


@pytest.mark.parametrize("word", ["anonymously", "", None, 503])
def test_anything_else_is_refused_when_the_app_starts(store: SessionStore, word: Any) -> None:
    """One sentence that names the argument."""
    with pytest.raises(ValueError, match=r"^SessionMiddleware\(unavailable=.*or an ASGI app"):
        SessionMiddleware(_never, store=store, unavailable=word)


async def _never(*_: object) -> Any:
    raise AssertionError("nothing is received here")
