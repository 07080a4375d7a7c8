"""Sessions that are read before the app runs: when, what for, and that an app can't tell."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_redis_session import SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.engine import prefetch
from asgi_redis_session.store import engine_of
from asgi_redis_session.testing import SessionKit

from ..support.gate import gate_to, gates_to
from ..support.internals import key_of
from ..support.keyspace import expiry
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

on_cluster = pytest.mark.on_cluster

#: So many requests of a kind begin with `load` before the next one is read ahead.
ENOUGH = 8
NAME = PLAIN.name


async def answer(request: Request) -> Response:
    """What the query asks for: `load`, `wait` and then load, `add` and then load, or nothing."""
    session, asks = request.scope["session"], request.query_params
    if "wait" in asks:
        request.app.state.runs.set()
        await request.app.state.told.wait()
    if "add" in asks:
        await session.increment("n")
    if asks:
        await session.load()
        return JSONResponse(dict(session))
    return PlainTextResponse("as if there were no session")


def app_of(store: SessionStore, *inner: Middleware, **options: Any) -> Starlette:
    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    outer = Middleware(SessionMiddleware, store=store, cookie=PLAIN, **options)
    return Starlette(routes=routes, middleware=[outer, *inner])


class Browser:
    """A client of one app, and how many times a request makes Redis read a whole session."""

    def __init__(self, kit: SessionKit, client: httpx.Client) -> None:
        self.kit = kit
        self.client = client

    def get(self, url: str = "/", method: str = "GET") -> httpx.Response:
        response = self.client.request(method, url)
        assert response.status_code == 200
        return response

    def learn(self, url: str = "/?load") -> None:
        for _ in range(ENOUGH):
            self.get(url)

    def reads(self, url: str = "/", method: str = "GET") -> int:
        with self.kit.count() as commands:
            self.get(url, method)
        return commands.names.count("HGETALL")


@contextmanager
def browsing(kit: SessionKit, app: Any, cookies: dict[str, str] | None = None) -> Iterator[Browser]:
    cookies = cookies or kit.cookies({"n": 1}, cookie=PLAIN)
    with serve(app) as url, httpx.Client(base_url=url, cookies=cookies, timeout=PATIENCE) as client:
        yield Browser(kit, client)


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    """As an app has it: that of the kit reads nothing ahead."""
    return SessionStore.from_url(sessions.url, prefix=sessions.prefix)


@on_cluster
def test_a_request_that_loads_is_read_once(sessions: SessionKit, store: SessionStore) -> None:
    """Before the app runs: one that then does not load has made Redis read, too."""
    with browsing(sessions, app_of(store)) as browser:
        assert browser.reads() == 0
        browser.learn()
        assert browser.reads("/?load") == 1
        assert browser.reads() == 1  # it made an exception, so that the next one is not read ahead
        assert browser.reads() == 0
        browser.learn()
        assert browser.reads() == 1


def test_requests_are_told_apart_by_method_and_path(
    sessions: SessionKit, store: SessionStore
) -> None:
    """By the first two segments of the path."""
    with browsing(sessions, app_of(store)) as browser:
        browser.learn("/shop/cart/7?load")
        others = [browser.reads(url) for url in ("/", "/shop", "/shop/goods", "/cart/shop/7")]
        assert others == [0, 0, 0, 0]
        assert browser.reads("/shop/cart/7", "POST") == 0
        assert browser.reads("/shop/cart/8") == 1


def test_a_load_after_a_wait_reads_what_there_is_then(
    sessions: SessionKit, store: SessionStore
) -> None:
    """Another request may have written meanwhile, and this one may have been told so."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)

    async def run() -> Any:
        app = app_of(store)
        app.state.runs, app.state.told = asyncio.Event(), asyncio.Event()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", cookies=cookies
        ) as client:
            for _ in range(ENOUGH):
                await client.get("/?load")
            waiting = asyncio.create_task(client.get("/?wait"))
            await app.state.runs.wait()  # so its session has been read
            await client.get("/other?add")
            app.state.told.set()
            try:
                return (await waiting).json()
            finally:
                await store.aclose()

    assert asyncio.run(run()) == {"n": 2}


def test_a_load_after_an_own_write_sees_it(sessions: SessionKit, store: SessionStore) -> None:
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        assert browser.get("/?add").json() == {"n": 2}


def test_an_app_in_a_task_of_its_own_is_not_read_ahead_for(
    sessions: SessionKit, store: SessionStore
) -> None:
    """Such as behind Starlette's BaseHTTPMiddleware: its load comes too late, each time."""

    async def pass_on(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        return response

    inner = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
    with browsing(sessions, app_of(store, inner)) as browser:
        assert [browser.reads("/?load") for _ in range(2 * ENOUGH)] == [1] * 2 * ENOUGH
        assert browser.reads() == 0


@pytest.mark.parametrize(
    "options",
    [{"refresh": "load"}, {"autoload": lambda _: False}, {"bind": lambda _: "same"}],
    ids=lambda each: next(iter(each)),
)
def test_what_else_decides_about_loading_is_left_alone(
    options: dict[str, Any], sessions: SessionKit, store: SessionStore
) -> None:
    with browsing(sessions, app_of(store, **options)) as browser:
        browser.learn()
        assert browser.reads("/?load") == 1
        assert browser.reads() == (1 if "bind" in options else 0)


def test_nothing_is_read_ahead_while_a_session_may_have_two_names(sessions: SessionKit) -> None:
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, secret=["a" * 32, None])
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        assert browser.reads() == 0


def test_the_kit_counts_the_same_each_time(sessions: SessionKit) -> None:
    """What a test counts does not depend on the requests before it."""
    with browsing(sessions, app_of(sessions.store)) as browser:
        browser.learn()
        assert browser.reads("/?load") == 1
        assert browser.reads() == 0


@on_cluster
def test_a_session_that_is_not_used_is_not_extended(
    sessions: SessionKit, store: SessionStore, admin: Any
) -> None:
    """Reading it leaves the TTL alone."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    key = key_of(store, cookies[NAME])
    with browsing(sessions, app_of(store, refresh="never"), cookies) as browser:
        browser.learn()
        before = expiry(admin, key)
        with sessions.count() as commands:
            browser.get()
        assert commands.scripts == ["load"]
        assert expiry(admin, key) == before


def test_an_unknown_id_is_reported_when_it_is_used(sessions: SessionKit) -> None:
    events: list[SessionEvent] = []
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, on_event=events.append)
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        events.clear()
        browser.client.cookies.set(NAME, "x" * 43)
        browser.get()
        assert events == []
        browser.learn()
        events.clear()
        browser.get("/?load")
        assert [event.name for event in events] == ["unknown_id"]


def test_a_stored_value_is_opened(sessions: SessionKit) -> None:
    """In a store that encrypts."""
    options: dict[str, Any] = {"prefix": sessions.prefix, "secret": "s" * 32, "encryption": True}
    kit = SessionKit(sessions.url, sessions._portal, **options)
    store = SessionStore.from_url(sessions.url, **options)
    with browsing(kit, app_of(store)) as browser:
        browser.learn()
        assert browser.get("/?load").json() == {"n": 1}
        assert browser.reads() == 1


@on_cluster
def test_a_silent_redis_is_waited_for_only_where_it_is_needed(
    sessions: SessionKit, caplog: pytest.LogCaptureFixture
) -> None:
    """Who does not load gets an answer, and nothing is reported."""
    events: list[str] = []
    with gates_to(sessions.url) as gate:
        store = gate.store(
            prefix=sessions.prefix, timeout=2, on_event=lambda event: events.append(event.name)
        )
        with browsing(sessions, app_of(store)) as browser:
            browser.learn()
            gate.hang()
            assert browser.get().text == "as if there were no session"
            assert (events, caplog.records) == ([], [])
            assert browser.client.get("/?load").status_code == 503
            assert set(events) == {"unavailable"}
            gate.open()
            assert browser.get("/?load").json() == {"n": 1}


def test_a_slow_redis_is_asked_once_more_by_load(
    sessions: SessionKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that comes too late for the app's start serves nobody; the next is not tried."""
    monkeypatch.setattr(prefetch, "_PAUSE", 100.0)
    with gate_to(sessions.url) as gate:
        store = gate.store(prefix=sessions.prefix, timeout=2)
        with browsing(sessions, app_of(store)) as browser:
            browser.learn()
            gate.slow(replies=0.5)
            assert browser.reads("/?load") == 2
            assert browser.reads("/?load") == 1
            assert store.stats.errors == 0


def test_a_lost_connection_is_no_failure(sessions: SessionKit) -> None:
    with gate_to(sessions.url) as gate:
        store = gate.store(prefix=sessions.prefix, timeout=2)
        with browsing(sessions, app_of(store)) as browser:
            browser.learn()
            gate.cut("replies", 1)
            assert browser.get("/?load").json() == {"n": 1}


@on_cluster
async def test_all_get_their_own(sessions: SessionKit, store: SessionStore) -> None:
    """300 requests at once, each with another session, read ahead in the same batches."""
    crowd = [sessions.cookies({"n": number}, cookie=PLAIN) for number in range(300)]
    with serve(app_of(store)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:

            async def ask(cookies: dict[str, str]) -> Any:
                headers = {"cookie": f"{NAME}={cookies[NAME]}"}
                return (await client.get("/?load", headers=headers)).json()

            for _ in range(3):
                found = await asyncio.gather(*[ask(cookies) for cookies in crowd])
                assert found == [{"n": number} for number in range(300)]


def test_so_many_kinds_of_requests_are_known(store: SessionStore) -> None:
    """1,024, by at most 100 characters of the path: an app with more begins to learn anew."""
    known = engine_of(store).prefetch()
    assert known is not None

    def knows(path: str) -> bool:
        return known.begin("GET", path).is_likely

    def learn(path: str) -> None:
        for _ in range(ENOUGH):
            known.learn(known.begin("GET", path).kind)

    learn("/first")
    learn("/long/" + 500 * "x")
    for number in range(1022):
        learn(f"/{number}")
    assert all(knows(path) for path in ("/first", "/0", "/long/" + 600 * "x"))
    learn("/one more")
    assert [knows(path) for path in ("/one more", "/first", "/0")] == [True, False, False]
