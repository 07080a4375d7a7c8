"""Sessions that are read before the app runs: when, what for, and that an app can't tell."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from asgi_redis_session import Lifetime, SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.engine import prefetch
from asgi_redis_session.store import engine_of
from asgi_redis_session.telemetry import watch
from asgi_redis_session.testing import SessionKit
from asgi_redis_session.transport import changed

from ..support.gate import gate_to, gates_to
from ..support.internals import handle_of, key_of
from ..support.keyspace import expiry
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

on_cluster = pytest.mark.on_cluster

#: So many requests of a kind begin with `load` before the next one is read ahead.
ENOUGH = 8
NAME = PLAIN.name


async def answer(request: Request) -> Response:
    """What is asked for: `load`; `wait`, `add` or `lock`, and then load; `fail`; or nothing."""
    session, asks = request.scope["session"], request.query_params
    if "fail" in asks:
        raise RuntimeError("as asked for")
    if "wait" in asks:
        request.app.state.runs.set()
        await request.app.state.told.wait()
    if "add" in asks:
        await session.increment("n")
    if "lock" in asks:
        async with request.app.state.lock:
            await session.load()
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

    def learn(self, url: str = "/?load", times: int = ENOUGH) -> None:
        for _ in range(times):
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


def calling(app: Any, cookies: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A client in the event loop of the test, which then can wait for the store."""
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://test", cookies=cookies)


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


def test_one_fewer_is_not_enough(sessions: SessionKit, store: SessionStore) -> None:
    """Neither at first, nor after a session that was read in vain."""
    with browsing(sessions, app_of(store)) as browser:
        for _ in range(2):
            browser.learn(times=ENOUGH - 1)
            assert browser.reads() == 0
            browser.learn(times=1)
            assert browser.reads() == 1


def test_an_exception_counts_for_its_own_kind(sessions: SessionKit, store: SessionStore) -> None:
    with browsing(sessions, app_of(store)) as browser:
        browser.learn("/a?load")
        browser.learn("/b?load")
        assert [browser.reads(url) for url in ("/a", "/b")] == [1, 1]


def test_a_failed_request_is_an_exception_too(sessions: SessionKit, store: SessionStore) -> None:
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        assert browser.client.get("/?fail").status_code == 500
        assert browser.reads() == 0


def test_requests_are_told_apart_by_method_and_path(
    sessions: SessionKit, store: SessionStore
) -> None:
    """By the first two segments of the path."""
    with browsing(sessions, app_of(store)) as browser:
        browser.learn("/shop/cart/7?load")
        others = ("/", "/shop", "/shopcart", "/shop/goods", "/cart/shop/7")
        assert [browser.reads(url) for url in others] == [0, 0, 0, 0, 0]
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
        async with calling(app, cookies) as client:
            for _ in range(ENOUGH):
                await client.get("/?load")
            waiting = [asyncio.create_task(client.get("/?wait")) for _ in range(2)]
            await app.state.runs.wait()  # so its session has been read
            await client.get("/other?add")
            app.state.told.set()
            try:
                found = [response.json() for response in await asyncio.gather(*waiting)]
                with sessions.count() as commands:
                    await client.get("/")
                return found, commands.names.count("HGETALL")
            finally:
                await store.aclose()

    found, reads = asyncio.run(run())
    assert found == [{"n": 2}, {"n": 2}]
    assert reads == 0  # they had been read in vain, both of them


async def test_a_load_behind_a_free_lock_sees_what_its_holder_has_written(
    sessions: SessionKit,
) -> None:
    """It was read while the lock was held, and before that write; taking the lock does not wait."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    handle = handle_of(sessions.store, cookies[NAME])
    with gate_to(sessions.url) as gate:
        async with gate.store(prefix=sessions.prefix, timeout=20) as store:
            app = app_of(store)
            app.state.lock = asyncio.Lock()
            async with calling(app, cookies) as client:
                for _ in range(ENOUGH):
                    await client.get("/?lock")
                await store.drain()
                gate.hold_replies()
                sent, _ = gate.carried
                async with app.state.lock:
                    waiting = asyncio.create_task(client.get("/?lock"))
                    while gate.carried[0] == sent:
                        await asyncio.sleep(0.01)
                    async with sessions.store.edit(handle) as session:
                        session["n"] = 2
                gate.open()
                assert (await waiting).json() == {"n": 2}


def test_so_many_changes_are_remembered() -> None:
    """Of older ones it is not known any more which keys they were: it may have been any."""
    changes = changed.Changed()
    before = monotonic()
    changes.note([b"one"])
    assert changes.since(before, b"one")
    assert not changes.since(before, b"other")
    assert not changes.since(monotonic() + 1, b"one")
    for number in range(changed._KEYS):
        changes.note([b"%d" % number])
    assert changes.since(before, b"one")
    assert changes.since(before, b"other")
    assert not changes.since(monotonic() + 1, b"other")


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


def test_a_request_without_a_session_is_not_read_ahead(
    sessions: SessionKit, store: SessionStore
) -> None:
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        browser.client.cookies.clear()
        assert browser.reads() == 0
        assert browser.get("/?load").json() == {}


def test_a_websocket_is_not_read_ahead(sessions: SessionKit, store: SessionStore) -> None:
    """It lives for long, and extends the TTL with each command."""

    async def accept(socket: WebSocket) -> None:
        if "load" in socket.query_params:
            await socket.scope["session"].load()
        await socket.accept()
        await socket.close()

    middleware = Middleware(SessionMiddleware, store=store, cookie=PLAIN)
    app = Starlette(routes=[WebSocketRoute("/", accept)], middleware=[middleware])
    headers = {"cookie": f"{NAME}={sessions.cookies({'n': 1}, cookie=PLAIN)[NAME]}"}
    with serve(app) as url:

        def visit(query: str) -> None:
            address = url.replace("http", "ws") + query
            with connect(address, additional_headers=headers) as socket:
                assert list(socket) == []  # until the app closes it

        for _ in range(ENOUGH):
            visit("?load")
        with sessions.count() as commands:
            visit("")
        assert "HGETALL" not in commands.names


def test_a_load_is_counted_when_the_app_asks_for_it(
    sessions: SessionKit, store: SessionStore
) -> None:
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        browser.get("/?load")
        assert store.stats.loads == ENOUGH + 1
        browser.get()
        assert store.stats.loads == ENOUGH + 1


def test_observers_see_it(sessions: SessionKit, store: SessionStore) -> None:
    """A step that Redis is asked for is one, whoever waits for it."""
    seen: list[tuple[str, str]] = []
    watch(
        "a test",
        store,
        on_command=lambda command, outcome, _: seen.append((command, outcome)),
        on_event=lambda _: None,
    )
    with browsing(sessions, app_of(store)) as browser:
        browser.learn()
        seen.clear()
        browser.get("/?load")
        assert seen == [("load", "ok")]


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


async def test_what_would_extend_by_itself_is_not_read_ahead(
    sessions: SessionKit, admin: Any
) -> None:
    """With `refresh_after`, a read may extend the TTL, and this request never comes to answer."""
    lifetime = Lifetime(idle=3600, refresh_after=1)
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, lifetime=lifetime)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    key = key_of(store, cookies[NAME])
    async with calling(app_of(store), cookies) as client, store:
        for _ in range(ENOUGH):
            await client.get("/?load")
        await store.drain()
        admin.pexpire(key, 600_000)
        with pytest.raises(RuntimeError, match="as asked for"):
            await client.get("/?fail")
        await store.drain()
        assert admin.pttl(key) <= 600_000


@pytest.mark.parametrize(("refresh", "is_extended"), [("request", True), ("never", False)])
async def test_a_session_that_is_used_is_extended_as_without(
    refresh: str, is_extended: bool, sessions: SessionKit, admin: Any
) -> None:
    """By a command behind the read, or not at all."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    key = key_of(store, cookies[NAME])
    async with calling(app_of(store, refresh=refresh), cookies) as client, store:
        for _ in range(ENOUGH):
            await client.get("/?load")
        await store.drain()
        admin.pexpire(key, 600_000)
        await client.get("/?load")
        await store.drain()
        assert (admin.pttl(key) > 600_000) is is_extended


async def test_an_old_reply_extends_nothing(sessions: SessionKit, admin: Any) -> None:
    """As with `load`: the session's life may have been shortened since it was read."""
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    handle, key = handle_of(sessions.store, cookies[NAME]), key_of(sessions.store, cookies[NAME])
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    known = engine_of(store).prefetch()
    assert known is not None
    admin.pexpire(key, 600_000)
    for age, is_extended in ((100, False), (0, True)):
        ahead = known.begin("GET", "/")
        reading = asyncio.create_task(known.read(ahead, handle, extend=True))
        await asyncio.sleep(0)
        begun = monotonic()
        await reading
        assert ahead.seen is not None
        sent_at, reply = ahead.seen
        assert sent_at <= begun  # when it was sent, not when it was answered
        await engine_of(store).reader.load(
            (handle,),
            None,
            extend=True,
            from_cookie=False,
            seen=(sent_at - age, reply),
        )
        await store.drain()
        assert (admin.pttl(key) > 600_000) is is_extended
    await store.aclose()


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


def test_nothing_is_read_ahead_during_an_outage(
    sessions: SessionKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with a command that the app needs."""
    monkeypatch.setattr(prefetch, "_PAUSE", 0.0)
    with gate_to(sessions.url) as gate:
        store = gate.store(prefix=sessions.prefix, timeout=2)
        with browsing(sessions, app_of(store)) as browser:
            browser.learn()
            gate.shut()
            assert browser.client.get("/?load").status_code == 503
            gate.open()
            assert browser.reads() == 0
            browser.get("/?load")
            assert browser.reads() == 1


def test_a_refused_command_is_no_failure(sessions: SessionKit, admin: Any) -> None:
    """Such as that of a server that has forgotten the scripts."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    with browsing(sessions, app_of(store, refresh="never")) as browser:
        browser.learn()
        admin.script_flush()
        assert browser.get().text == "as if there were no session"
        assert browser.get("/?load").json() == {"n": 1}
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
    assert knows("/long/" + 94 * "x" + "y")
    assert not knows("/long/" + 93 * "x" + "y")
    learn("/one more")
    assert [knows(path) for path in ("/one more", "/first", "/0")] == [True, False, False]
