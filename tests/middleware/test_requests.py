"""What each kind of request costs and sends: the table of the design, seen from the server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_redis_session import (
    Limits,
    SessionEvent,
    SessionMiddleware,
    SessionStore,
    SessionValueError,
)
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of, open_session, servers_of
from ..support.sessions import PLAIN, create

pytestmark = pytest.mark.on_cluster

Endpoint = Callable[[Request], Awaitable[Response]]


async def untouched(request: Request) -> Response:
    return PlainTextResponse("untouched")


async def read(request: Request) -> Response:
    return JSONResponse(dict(await load_session(request)))


async def write(request: Request) -> Response:
    session = await load_session(request)
    session["n"] = session.get("n", 0) + 1
    return JSONResponse(dict(session))


async def count(request: Request) -> Response:
    session = await load_session(request)
    return JSONResponse(await session.increment("n"))


@asynccontextmanager
async def client_of(
    store: SessionStore, *endpoints: Endpoint, cookies: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in endpoints]
    app = SessionMiddleware(Starlette(routes=routes), store=store, cookie=PLAIN, **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://app", cookies=cookies
    ) as client:
        yield client
        await store.drain()


WELL_FORMED = "A" * 43


@pytest.mark.parametrize(
    ("path", "cookie", "commands", "sets_cookie"),
    [
        ("/untouched", None, 0, False),
        ("/read", None, 0, False),
        ("/read", "malformed", 0, False),
        ("/untouched", "malformed", 0, False),
        ("/read", "known", 1, False),
        ("/write", "known", 2, False),
        ("/read", "unknown", 2, False),
        ("/write", "unknown", 3, True),
        ("/write", None, 1, True),
    ],
)
async def test_round_trips_are_as_the_design_says(
    kit: SessionKit, path: str, cookie: str | None, commands: int, sets_cookie: bool
) -> None:
    """Each kind of request waits for exactly the commands that the design's table lists."""
    known = kit.cookies({"n": 1}, cookie=PLAIN)["session"]
    values = {"known": known, "unknown": WELL_FORMED, "malformed": "x" * 42}
    cookies = {} if cookie is None else {"session": values[cookie]}
    async with client_of(kit.store, untouched, read, write, cookies=cookies, refresh="load") as c:
        with kit.count() as counted:
            response = await c.get(path)
            await kit.store.drain()
    assert response.status_code == 200
    assert len(counted) == commands
    assert ("set-cookie" in response.headers) is sets_cookie


async def test_an_untouched_session_is_refreshed_by_one_command_that_nobody_waits_for(
    kit: SessionKit, admin: Any
) -> None:
    """refresh="request": a request that never loads the session still extends its TTL, once."""
    cookies = kit.cookies({"n": 1}, cookie=PLAIN)
    (key,) = [k for k in sorted(kit.keys()) if admin.hget(k, "n") == b"1"]
    admin.pexpire(key, 60_000)
    async with client_of(kit.store, untouched, cookies=cookies) as client:
        with kit.count() as counted:
            response = await client.get("/untouched")
            await kit.store.drain()
    assert counted.names == ["EVALSHA"]
    assert admin.pttl(key) > 60_000
    assert "vary" not in response.headers
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(("refresh", "path"), [("load", "/untouched"), ("never", "/read")])
async def test_requests_that_must_not_keep_a_session_alive_do_not(
    kit: SessionKit, admin: Any, refresh: str, path: str
) -> None:
    """refresh="load" leaves untouched sessions alone; "never" leaves the TTL of all alone."""
    cookies = kit.cookies({"n": 1}, cookie=PLAIN)
    (key,) = [k for k in sorted(kit.keys()) if admin.hget(k, "n") == b"1"]
    admin.pexpire(key, 60_000)
    async with client_of(kit.store, untouched, read, cookies=cookies, refresh=refresh) as client:
        await client.get(path)
        await kit.store.drain()
    assert admin.pttl(key) <= 60_000


@pytest.mark.parametrize("path", ["/write", "/count"])
async def test_at_most_one_ttl_refresh_per_request(kit: SessionKit, path: str) -> None:
    """A request that reads and then writes, or counts, sets the TTL once."""

    def calls() -> int:
        """On whichever node of a Cluster the session is."""
        seen = [server.info("commandstats") for server in servers_of(kit)]
        return sum(stats.get("cmdstat_pexpireat", {"calls": 0})["calls"] for stats in seen)

    cookies = kit.cookies({"n": 1}, cookie=PLAIN)
    async with client_of(kit.store, write, count, cookies=cookies) as client:
        before = calls()
        await client.get(path)
        assert calls() - before == 1


async def test_an_unknown_id_is_never_adopted(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """A well-formed id that Redis does not know reads as empty, and a write gets a new id."""
    async with client_of(store, read, write, cookies={"session": WELL_FORMED}) as client:
        assert (await client.get("/read")).json() == {}
        response = await client.get("/write")
    assert response.json() == {"n": 1}
    assert WELL_FORMED not in response.headers["set-cookie"]
    assert [event.name for event in events] == ["unknown_id", "unknown_id", "created"]


async def test_a_created_session_is_documented_bytes_with_a_ttl(
    kit: SessionKit, admin: Any
) -> None:
    """A hash with the user's fields and our metadata, a TTL, and no trace of the id."""

    async def fill(request: Request) -> Response:
        session = await load_session(request)
        session.update(
            text="plain", digits="123", n=7, f=1.5, t=True, none=None, cart=["a", {"b": 1}]
        )
        return PlainTextResponse("ok")

    async with client_of(kit.store, fill) as client:
        before = set(kit.keys())
        response = await client.get("/fill")
        session_id = response.cookies["session"]
        (key,) = set(kit.keys()) - before
    fields = admin.hgetall(key)
    now = admin.time()[0] * 1000
    assert key == f"{kit.prefix}:{handle_of(kit.store, session_id)}"
    assert {name: raw for name, raw in fields.items() if not name.startswith(b"@")} == {
        b"text": b"plain",
        b"digits": b"'123",
        b"n": b"7",
        b"f": b"1.5",
        b"t": b"true",
        b"none": b"null",
        b"cart": b'["a",{"b":1}]',
    }
    assert fields[b"@v"] == b"1"
    assert abs(int(fields[b"@created"]) - now) < 60_000
    assert int(fields[b"@deadline"]) - int(fields[b"@created"]) == 7 * 24 * 3600 * 1000
    assert 0 < admin.pttl(key) <= 30 * 60 * 1000
    assert session_id.encode() not in b"".join([key.encode(), *fields, *fields.values()])
    assert response.headers["set-cookie"] == (
        f"session={session_id}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax"
    )
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "Cookie"


async def test_the_apps_own_cache_control_and_vary(store: SessionStore) -> None:
    """`Vary` is merged; `Cache-Control` of the app stays, unless there is a cookie of ours."""

    async def own(request: Request) -> Response:
        (await load_session(request))["x"] = 1
        return Response(headers={"vary": "Accept", "cache-control": "private"})

    async with client_of(store, own) as client:
        for cache_control in (["no-store"], ["private"]):  # the first one has a cookie
            response = await client.get("/own")
            assert response.headers.get_list("vary") == ["Accept, Cookie"]
            assert response.headers.get_list("cache-control") == cache_control


async def test_fetch_reads_named_fields_only(kit: SessionKit) -> None:
    """`fetch` is one HMGET script; the session stays unloaded and is refreshed by it."""
    cookies = kit.cookies({f"field{i}": i for i in range(200)}, cookie=PLAIN)

    async def pick(request: Request) -> Response:
        session = request.scope["session"]
        found = await session.fetch("field7", "field8", "missing")
        return JSONResponse({"found": found, "loaded": session.loaded})

    async with client_of(kit.store, pick, cookies=cookies) as client:
        with kit.count() as counted:
            response = await client.get("/pick")
            await kit.store.drain()
    assert response.json() == {"found": {"field7": 7, "field8": 8}, "loaded": False}
    assert counted.names == ["EVALSHA"]


async def test_fetch_shows_staged_changes_of_a_loaded_session(kit: SessionKit) -> None:
    """Once loaded, `fetch` answers from the session as it stands, without a command."""
    cookies = kit.cookies({"a": 1, "b": 2}, cookie=PLAIN)

    async def pick(request: Request) -> Response:
        session = await load_session(request)
        session["a"] = 10
        del session["b"]
        return JSONResponse(await session.fetch("a", "b"))

    async with client_of(kit.store, pick, cookies=cookies) as client:
        assert (await client.get("/pick")).json() == {"a": 10}


async def test_increment_acts_at_once_without_a_load(kit: SessionKit) -> None:
    """One command, atomic, and it stands although the request fails."""
    cookies = kit.cookies({"n": 41}, cookie=PLAIN)

    async def count(request: Request) -> Response:
        assert await request.scope["session"].increment("n") == 42
        assert await request.scope["session"].increment("fresh", 5) == 5
        raise RuntimeError("after the increment")

    async with client_of(kit.store, count, cookies=cookies) as client:
        with kit.count() as counted:
            assert (await client.get("/count")).status_code == 500
    assert counted.names == ["EVALSHA", "EVALSHA"]
    assert kit.read(cookies, cookie=PLAIN) == {"n": 42, "fresh": 5}


async def test_increment_changes_what_is_staged(store: SessionStore) -> None:
    """In a new session, and over a staged assignment, the staged value is changed."""

    async def count(request: Request) -> Response:
        session = request.scope["session"]
        first = await session.increment("n", 2)
        session["m"] = 10
        return JSONResponse([first, await session.increment("m"), dict(session)])

    async with client_of(store, count) as client:
        assert (await client.get("/count")).json() == [2, 11, {"n": 2, "m": 11}]


@pytest.mark.parametrize("value", ["5", 1.5, True, None, [1], 2**63, 2**63 - 1])
@pytest.mark.parametrize("loaded", [True, False])
async def test_increment_of_something_else_is_refused(
    kit: SessionKit, value: object, loaded: bool
) -> None:
    """Only 64-bit integers can be incremented; the message says so and nothing changes."""
    cookies = kit.cookies({"n": value}, cookie=PLAIN)

    async def count(request: Request) -> Response:
        if loaded:
            await load_session(request)
        try:
            await request.scope["session"].increment("n")
        except ValueError as error:
            return PlainTextResponse(str(error))
        return PlainTextResponse("accepted")

    async with client_of(kit.store, count, cookies=cookies) as client:
        assert "can't be incremented" in (await client.get("/count")).text
    assert kit.read(cookies, cookie=PLAIN) == {"n": value}


async def test_sums_beyond_2_53_are_exact(kit: SessionKit) -> None:
    """Lua's numbers would round here; the sum comes back as text."""
    cookies = kit.cookies({"n": 2**60}, cookie=PLAIN)

    async def count(request: Request) -> Response:
        return PlainTextResponse(str(await request.scope["session"].increment("n", 1)))

    async with client_of(kit.store, count, cookies=cookies) as client:
        assert (await client.get("/count")).text == str(2**60 + 1)


async def test_concurrent_loads_of_one_request_are_one_command(kit: SessionKit) -> None:
    """`load` under gather is single-flight."""
    cookies = kit.cookies({"n": 1}, cookie=PLAIN)

    async def gather(request: Request) -> Response:
        loaded = await asyncio.gather(*[load_session(request) for _ in range(50)])
        return JSONResponse(len({id(session) for session in loaded}))

    async with client_of(kit.store, gather, cookies=cookies) as client:
        with kit.count() as counted:
            assert (await client.get("/gather")).json() == 1
    assert counted.names == ["HGETALL"]


async def test_autoload_may_depend_on_the_request(kit: SessionKit) -> None:
    """A function of the scope decides; the other requests stay lazy."""
    cookies = kit.cookies({"n": 1}, cookie=PLAIN)

    async def loaded(request: Request) -> Response:
        return JSONResponse(request.scope["session"].loaded)

    async def lazy(request: Request) -> Response:
        return JSONResponse(request.scope["session"].loaded)

    async with client_of(
        kit.store, loaded, lazy, cookies=cookies, autoload=lambda scope: scope["path"] == "/loaded"
    ) as client:
        assert (await client.get("/loaded")).json() is True
        assert (await client.get("/lazy")).json() is False


@pytest.mark.parametrize("option", [{"refresh": "always"}, {"unavailable": "ignore"}])
def test_unusable_options_are_refused(option: dict[str, Any]) -> None:
    """A mistyped option of the middleware is one sentence that lists the right ones."""
    with pytest.raises(ValueError, match=r"SessionMiddleware\(\w+='\w+'\): use '\w+'"):
        SessionMiddleware(PlainTextResponse("x"), store="redis://", **option)


async def test_other_scopes_are_passed_through(
    store: SessionStore,
) -> None:
    """Scopes that are neither HTTP nor WebSocket reach the app as they came."""
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope))

    await SessionMiddleware(app, store=store)({"type": "other"}, None, None)
    assert seen == [{"type": "other"}]


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "3"])
def test_an_unusable_limit_of_sessions_is_refused(most: Any) -> None:
    """`max_sessions_per_user` is a whole number of at least 1; `on_limit` one of two words."""
    with pytest.raises(ValueError, match="max_sessions_per_user"):
        SessionStore.from_url("redis://", max_sessions_per_user=most)
    with pytest.raises(ValueError, match="on_limit"):
        SessionStore.from_url("redis://", on_limit="ask")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"store": Redis()}, "SessionStore(client)"),
        ({"store": None}, "a SessionStore or a Redis URL"),
        ({"store": "redis://", "cookie": "session"}, 'CookiePolicy(name="...")'),
    ],
)
def test_a_wrong_store_or_cookie_is_refused_at_once(options: Any, cure: str) -> None:
    """When the app is made, not at its first request; the message names the cure."""
    with pytest.raises(TypeError) as caught:
        SessionMiddleware(asyncio.sleep, **options)
    assert cure in str(caught.value)


@pytest.mark.parametrize("loaded", [True, False])
async def test_increment_makes_no_field_too_many(
    session_redis_url: str, prefix: str, loaded: bool
) -> None:
    """The limit of fields holds for `increment`, also without a load; existing fields may grow."""
    limits = Limits(fields=16)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, limits=limits) as store:
        session_id = await create(store, **{f"field{number}": 1 for number in range(16)})
        session = open_session(store, session_id)
        if loaded:
            await session.load()
        with pytest.raises(SessionValueError, match="at most 16 fields"):
            await session.increment("new")
        assert await session.increment("field0") == 2
        await session.logout()


async def test_misuse_is_refused_before_anything_is_sent(kit: SessionKit) -> None:
    """Too many names, and an amount that is no 64-bit integer."""
    session = open_session(kit.store, WELL_FORMED)
    with kit.count() as counted:
        with pytest.raises(SessionValueError, match="at most 1000 names"):
            await session.fetch(*[f"f{number}" for number in range(1001)])
        for amount in (1.5, True, 2**63):
            with pytest.raises(SessionValueError, match="64-bit"):
                await session.increment("n", amount)  # type: ignore[arg-type]
    assert len(counted) == 0
    assert await open_session(kit.store).fetch("n") == {}
