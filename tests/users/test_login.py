"""Logins: new ids, two users in one request, and logins that come too late."""

import asyncio
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from asgi_redis_session import (
    SessionEvent,
    SessionMiddleware,
    SessionStore,
    SessionValueError,
)
from asgi_redis_session.testing import SessionKit

from ..support.internals import cookie_change, handle_of, handles_of, new_id, open_session
from ..support.keyspace import Look, age_place, index_key, look
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN, create, is_live, live_among, log_in
from ..support.steps import Steps
from .app import app_of, client_of

pytestmark = pytest.mark.on_cluster

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"


DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann"])
async def test_login_gives_a_new_id_and_keeps_what_is_the_users(
    before: str, store: SessionStore, admin: Any, prefix: str, events: list[SessionEvent]
) -> None:
    """New id, new beginning, data kept, the old id anonymous and listed nowhere."""
    old = None
    if before == "anonymous":
        old = await create(store, cart=["sku"])
    elif before == "ann":
        old = await log_in(store, "ann", cart=["sku"])
    if old is not None:
        key = f"{prefix}:{handle_of(store, old)}"
        for name in ("@created", "@deadline", "@auth"):
            if (instant := admin.hget(key, name)) is not None:
                admin.hset(key, name, int(instant) - DAY_MS)
    events.clear()
    new = await log_in(store, "ann", old)
    assert new != old
    session = await open_session(store, new).load()
    assert dict(session) == ({} if old is None else {"cart": ["sku"]})
    assert session.user_id == "ann"
    meta = admin.hgetall(f"{prefix}:{session.handle}")
    assert meta[b"@created"] == meta[b"@auth"]
    assert int(meta[b"@deadline"]) - int(meta[b"@created"]) == 7 * DAY_MS
    assert meta[b"@idle"] == b"1800000"
    seconds, _ = admin.time()
    assert abs(int(meta[b"@created"]) - seconds * 1000) < 60_000
    assert old is None or not await is_live(store, old)
    assert [info.handle for info in await store.users.list("ann")] == [session.handle]
    assert len(look(admin, prefix).users) == 1
    assert [(e.name, e.handle) for e in events[:1]] == [("logged_in", session.handle)]


async def test_login_on_a_session_that_has_ended_shows_nothing_of_it(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Another request has ended it since the load: the login holds what it writes itself."""
    session = await open_session(store, await create(store, cart=["sku"])).load()
    await store.revoke(str(session.handle))
    await session.login("ann")
    session["mine"] = 1
    assert dict(session) == {"cart": ["sku"], "mine": 1}
    await session.save()
    assert dict(session) == {"mine": 1}
    session["more"] = 2
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == {"mine": 1, "more": 2}
    assert list(look(admin, prefix).users) == [session.handle]


async def test_login_over_another_users_session_ends_it(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Bob's data is dropped, his session ended, and his index empty; his others live."""
    other = await log_in(store, "bob")
    old = await log_in(store, "bob", secret="bob's")
    session = await open_session(store, old).load()
    await session.login("ann")
    assert dict(session) == {}
    session["mine"] = 1
    await session.save()
    new = new_id(session)
    assert dict(await open_session(store, new).load()) == {"mine": 1}
    assert await live_among(store, [other, old, new]) == [other, new]
    seen = look(admin, prefix)
    assert list(seen.places[index_key(prefix, "bob")]) == list(handles_of(store, other))
    assert list(seen.places[index_key(prefix, "ann")]) == list(handles_of(store, new))


async def test_a_longer_lifetime_at_login_is_respected(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Remember me: TTL, deadline, Max-Age, `@idle` and the index are those of the login."""
    for old in (None, await create(store, n=1), await log_in(store, "ann")):
        session = await open_session(store, old).load()
        await session.login("ann", idle=30 * 86_400, absolute=90 * 86_400)
        await session.save()
        key = f"{prefix}:{session.handle}"
        change = cookie_change(session)
        assert change is not None
        assert change.max_age_ms == 90 * DAY_MS
        assert 29 * DAY_MS < admin.pttl(key) <= 30 * DAY_MS
        assert int(admin.hget(key, "@idle")) == 30 * DAY_MS
        await open_session(store, change.session_id).load()
        assert 29 * DAY_MS < admin.pttl(key) <= 30 * DAY_MS
        assert admin.pttl(index_key(prefix, "ann")) > 89 * DAY_MS
        normal = await log_in(store, "ann", change.session_id)
        key = f"{prefix}:{handle_of(store, normal)}"
        assert admin.pttl(key) <= 1_800_000
        assert admin.hget(key, "@idle") == b"1800000"


async def test_login_in_a_real_request(
    sessions: SessionKit, events: list[SessionEvent], admin: Any
) -> None:
    """Set-Cookie with the new id; address and agent as the server saw them, 512 bytes of it."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, on_event=events.append)
    with serve(app_of(store)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            for agent in (FIREFOX, "x" * 5_000, "\u00e9" * 600):
                headers = {"user-agent": agent.encode("latin-1").decode("latin-1")}
                raw = {"user-agent": agent.encode("latin-1")}
                old = client.cookies.get(PLAIN.name)
                response = await client.get("/in/ann", headers=raw)  # type: ignore[arg-type]
                assert response.status_code == 200
                new = client.cookies[PLAIN.name]
                assert new != old
                assert f"{PLAIN.name}={new}; " in response.headers["set-cookie"]
                assert "Max-Age=604800" in response.headers["set-cookie"]
                info = sessions.info(handle_of(store, new))
                assert info is not None
                assert (info.address, info.user_agent) == ("127.0.0.1", headers["user-agent"][:512])
                assert (await client.get("/")).json() == ["ann", {"greeted": True}]
    assert [event.name for event in events] == ["logged_in"] * 3
    assert len(sessions.keys()) == 2


async def test_a_long_address_is_cut(sessions: SessionKit) -> None:
    """A unix socket's path, or what a proxy's header says, may be long: 512 characters are kept."""
    app = app_of(sessions.store)
    for address in ("/run/" + "x" * 600, "2001:db8::1"):
        transport = httpx.ASGITransport(app, client=(address, 0))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/in/ann")
            info = sessions.info(handle_of(sessions.store, client.cookies[PLAIN.name]))
        assert info is not None
        assert info.address == address[:512]


async def test_what_a_session_says_about_its_login(store: SessionStore, admin: Any) -> None:
    """`user_id`, `authenticated_at`, `is_fresh` hold from the call on, and after the commit."""
    session = await open_session(store, await create(store, n=1)).load()
    assert (session.user_id, session.authenticated_at) == (None, None)
    assert session.is_fresh(60) is False
    await session.login(7)
    for _ in range(2):
        assert session.user_id == "7"
        assert session.authenticated_at is not None
        assert session.authenticated_at == session.created_at
        assert session.is_fresh(60) is True
        await session.save()
    age_place(admin, store.prefix, "7", str(session.handle), 3_600_000)
    await session.reload()
    assert session.is_fresh(3_599) is False
    assert session.is_fresh(timedelta(hours=2)) is True


@pytest.mark.parametrize("again", ["load", "login"])
async def test_a_login_grows_old_while_a_socket_is_open(store: SessionStore, again: str) -> None:
    """Time goes on from the last command of the session; nothing need be read for that."""
    session = await open_session(store, await log_in(store, "ann")).load()
    if again == "login":
        await session.login("ann")
        await session.save()
    assert session.is_fresh(3_600)
    async with asyncio.timeout(PATIENCE):
        while session.is_fresh(0.05):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("query", ["status=500", "status=503", "then=raise"])
@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann", "bob"])
async def test_a_failed_request_logs_nobody_in(
    query: str, before: str, store: SessionStore, admin: Any, prefix: str
) -> None:
    """Status 500 or an exception after login: all is as it was, and the place is given back."""
    old = None
    if before != "nobody":
        old = await (create(store, n=1) if before == "anonymous" else log_in(store, before, n=1))
    was = look(admin, prefix)
    async with client_of(app_of(store), old) as client:
        response = await client.get(f"/in/ann?{query}")
        assert response.status_code >= 500
        assert "set-cookie" not in response.headers
        await store.drain()
        assert look(admin, prefix) == was
        if old is not None:
            user = None if before == "anonymous" else before
            assert (await client.get("/")).json() == [user, {"n": 1}]


async def test_login_after_the_response_started_is_too_late(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """SessionTooLate at the call, and no place taken."""
    for session_id in (None, await create(store, n=1)):
        async with client_of(app_of(store), session_id) as client:
            assert (await client.get("/late")).text == "too late"
    assert look(admin, prefix).places == {}


@pytest.mark.parametrize("user", ["", True, False, None, b"ann", 1.5, "\ud800", ["ann"]])
async def test_an_unusable_user_id_is_refused_before_any_command(
    user: Any, store: SessionStore
) -> None:
    """SessionValueError, with nothing sent; and so in every verb of `store.users`."""
    session = await open_session(store, await create(store, n=1)).load()
    sent = Steps(store).names
    with pytest.raises(SessionValueError):
        await session.login(user)
    for verb in (store.users.list, store.users.count, store.users.revoke_all):
        with pytest.raises(SessionValueError):
            await verb(user)
    with pytest.raises(SessionValueError):
        await store.users.revoke(user, "0" * 32)
    assert sent == []
    assert session.user_id is None
    assert session.modified is False


async def test_an_unusable_user_id_is_refused_before_the_session_is_loaded(
    store: SessionStore,
) -> None:
    """A wrong call is told from a wrong user id without asking Redis for the session."""
    session = open_session(store, await create(store, n=1))
    sent = Steps(store).names
    with pytest.raises(SessionValueError):
        await session.login("")
    assert sent == []


async def test_a_planted_id_is_worth_nothing_after_login(store: SessionStore) -> None:
    """An id that was captured before the login: anonymous and empty, in 100 requests at once."""
    planted = await create(store, n=1)
    app = app_of(store)
    async with client_of(app, planted) as victim, client_of(app, planted) as thief:
        new = (await victim.get("/in/ann")).cookies[PLAIN.name]
        stolen = await asyncio.gather(*[thief.get("/") for _ in range(100)])
        assert {response.text for response in stolen} == {"[null,{}]"}
        assert not [1 for response in stolen if "set-cookie" in response.headers]
    async with client_of(app, new) as victim:
        assert (await victim.get("/")).json() == ["ann", {"n": 1, "greeted": True}]


async def test_two_renewals_of_a_login_have_one_winner(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Two requests renewing one id, 50 times: one winner, one live session, one place."""
    session_id = await log_in(store, "ann", n=1)
    for _ in range(50):
        pair = [await open_session(store, session_id).load() for _ in range(2)]
        for session in pair:
            session.renew()
        results = await asyncio.gather(*[one.save() for one in pair], return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["NoneType", "SessionGone"]
        session_id = new_id(pair[results.index(None)])
        seen = look(admin, prefix)
        handle = handle_of(store, session_id)
        assert seen.users == {handle: "ann"}
        assert [*seen.places[index_key(prefix, "ann")]] == [handle]


@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann"])
async def test_a_login_that_loses_against_revoke_all(
    before: str, store: SessionStore, admin: Any, prefix: str, events: list[SessionEvent]
) -> None:
    """Revoked between place and commit: the response goes out, without a cookie; `gone`."""
    old = None
    if before != "nobody":
        old = await (create(store, n=1) if before == "anonymous" else log_in(store, before))
    app = app_of(store)
    events.clear()
    async with client_of(app, old) as client:
        waiting = asyncio.create_task(client.get("/in/ann?then=pause"))
        while not any(
            score < 0 for places in look(admin, prefix).places.values() for score in places.values()
        ):
            await asyncio.sleep(0.002)
        await store.users.revoke_all("ann")
        app.app.state.go_on.set()  # type: ignore[attr-defined]
        response = await waiting
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert "gone" in [event.name for event in events]
    assert "logged_in" not in [event.name for event in events]
    assert await store.users.count("ann") == 0
    seen = look(admin, prefix)
    assert "ann" not in seen.users.values()
    assert seen.places == {}


async def test_a_client_that_goes_away_does_not_stop_a_commit(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Cancelled between place and hash of a login: it is carried through, and the id is sent."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].login("ann")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
    scope: dict[str, Any] = {"type": "http", "headers": []}
    reached, go_on = Steps(store).pause_before("create")
    async with anyio.create_task_group() as group:
        group.start_soon(middleware, scope, None, send)
        await reached.wait()
        group.cancel_scope.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    (start,) = sent
    assert b"set-cookie" in dict(start["headers"])
    assert list(look(admin, prefix).users.values()) == ["ann"]


@pytest.mark.parametrize("how", ["cancelled", "silent"])
async def test_a_request_that_never_answers_gives_the_place_back(
    store: SessionStore, admin: Any, prefix: str, how: str
) -> None:
    """Cancelled between `login()` and the response, or an app that forgets to respond."""
    placed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].login("ann")
        placed.set()
        if how == "cancelled":
            await asyncio.Event().wait()

    middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
    scope: dict[str, Any] = {"type": "http", "headers": []}
    request = asyncio.ensure_future(middleware(scope, None, None))
    await placed.wait()
    if how == "cancelled":
        request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await store.drain()
    assert look(admin, prefix) == Look()


async def test_two_users_in_one_request_never_share_data(store: SessionStore, admin: Any) -> None:
    """What was staged for one user is dropped when another logs in before the commit."""
    session = await open_session(store).load()
    await session.login("ann")
    session["secret"] = "of ann"
    await session.login("bob")
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == {}

    first = await log_in(store, "ann", a=1)
    session = await open_session(store, first).load()
    await session.login("bob")
    session["b"] = "of bob"
    await session.login("ann")
    assert dict(session) == {}
    session["fresh"] = True
    await session.save()
    again = await open_session(store, new_id(session)).load()
    assert (again.user_id, dict(again)) == ("ann", {"fresh": True})
    assert not await open_session(store, first).still_valid()
    assert await store.users.count("ann") == 1
    assert await store.users.count("bob") == 1  # of the first part


async def test_a_user_id_of_thousands_of_digits_is_refused(store: SessionStore) -> None:
    """CPython would not turn it into text; we say it in our own words."""
    session = await open_session(store).load()
    with pytest.raises(SessionValueError, match="thousands of digits"):
        await session.login(10**5000)
