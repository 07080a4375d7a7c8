"""A request with an old id can't undo a login; `session.absence` says why there is no session."""

import asyncio
from typing import Any

import httpx
import pytest

from asgi_redis_session import (
    Absence,
    SessionGone,
    SessionStore,
    SessionTooLate,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.dropin import SessionMiddleware as DropIn

from ..support.internals import handle_of, is_cluster, key_of
from ..support.page import Page
from ..support.servers import client_of
from ..support.sessions import PLAIN, is_live

pytestmark = pytest.mark.on_cluster


def sent(session_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", f"session={session_id}".encode())]


async def begin(store: SessionStore, **fields: Any) -> str:
    """An anonymous session; returns its id."""
    response = await Page(store, PLAIN)(lambda session: session.update(fields))
    return str(response.cookies["session"])


async def kind_of(store: SessionStore, session_id: str) -> str | None:
    page = Page(store)
    await page(lambda session: session.absence, sent(session_id))
    return None if page.seen is None else str(page.seen.kind)


@pytest.fixture(
    params=[None, "the secret of a store", ["a newer secret of it", "an older secret of it"]]
)
async def secret_store(session_redis_url: str, prefix: str, request: Any) -> Any:
    """A store without a secret, with one, with several."""
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, secret=request.param, timeout=20
    ) as store:
        yield store


async def test_a_straggler_cannot_undo_a_login(secret_store: SessionStore) -> None:
    """The other tab's flash message is dropped: no session, no Set-Cookie; the login stands."""
    store = secret_store
    old = await begin(store, cart=["tea"])
    new = (await Page(store)(lambda session: session.login(7), sent(old))).cookies["session"]
    straggler = Page(store)
    response = await straggler(lambda session: session.update(flash="hello"), sent(old))
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert await is_live(store, new)
    assert not await is_live(store, old)
    assert await store.users.count(7) == 1

    async def save(session: Any) -> None:
        session["flash"] = "hello"
        with pytest.raises(SessionGone, match="replaced") as caught:
            await session.save()
        assert caught.value.absence is not None

    assert (await straggler(save, sent(old))).status_code == 200


async def test_a_straggler_cannot_undo_a_renewal(secret_store: SessionStore) -> None:
    """The same while the renewal happens: it finds the session gone at its commit."""
    store = secret_store
    old = await begin(store, n=1)
    loaded, renewed = asyncio.Event(), asyncio.Event()

    async def straggle(session: Any) -> None:
        loaded.set()
        await renewed.wait()
        session["flash"] = "hello"

    slow = asyncio.create_task(Page(store)(straggle, sent(old)))
    await loaded.wait()
    new = (await Page(store)(lambda session: session.renew(), sent(old))).cookies["session"]
    renewed.set()
    response = await slow
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    page = Page(store)
    await page(dict, sent(new))
    assert page.seen == {"n": 1}


async def test_a_cookie_jar_keeps_the_login(store: SessionStore) -> None:
    """A browser with one jar ends logged in, in whichever order its answers arrive."""
    page = Page(store)
    await page(lambda session: session.update(n=1))
    old = page.client.cookies["session"]
    await page(lambda session: session.login(7))
    await page(lambda session: session.update(flash=1), sent(old))
    await page(lambda session: session.user_id)
    assert page.seen == "7"


async def test_a_straggler_can_log_in(store: SessionStore) -> None:
    """Somebody who logs in gets a session, whatever became of the old one."""
    old = await begin(store, n=1)
    await Page(store)(lambda session: session.login(7), sent(old))
    response = await Page(store)(lambda session: session.login(8), sent(old))
    assert await is_live(store, response.cookies["session"])
    assert await store.users.count(8) == 1


async def test_after_ten_seconds_a_write_makes_a_session(
    store: SessionStore, prefix: str, admin: Any
) -> None:
    """An answer that never reached the browser must not lock its user out."""
    old = await begin(store, n=1)
    await Page(store)(lambda session: session.renew(), sent(old))
    tombstone = f"{prefix}:ended:{{{prefix}:{handle_of(store, old)}}}"
    assert 50_000 < admin.pttl(tombstone) <= 60_000
    admin.zincrby(tombstone, -11_000, "replaced")
    response = await Page(store)(lambda session: session.update(a=1), sent(old))
    assert await is_live(store, response.cookies["session"])


async def test_absence_says_why(store: SessionStore, prefix: str) -> None:
    """One word for each way in which a session can be missing."""
    page = Page(store)
    await page(lambda session: session.absence)
    assert page.seen == Absence("no_cookie")
    assert await kind_of(store, "x" * 43) == "unknown"
    live = await begin(store, n=1)
    assert await kind_of(store, live) is None
    await page(lambda session: session.absence, sent(f"{live}; session={'y' * 43}"))
    assert page.seen == Absence("conflict")
    await Page(store)(lambda session: session.renew(), sent(live))
    assert await kind_of(store, live) == "replaced"
    out, revoked = await begin(store, n=1), await begin(store, n=1)
    await Page(store)(lambda session: session.logout(), sent(out))
    assert await kind_of(store, out) == "logged_out"
    await store.revoke(handle_of(store, revoked))
    await page(lambda session: session.absence, sent(revoked))
    assert page.seen.kind == "revoked"
    assert page.seen.at is not None
    assert page.seen.reason.endswith(".")


async def test_what_can_not_be_read_is_a_reason(store: SessionStore, admin: Any) -> None:
    """A later layout, say. In a Cluster only the tombstone is asked, which says nothing."""
    session_id = await begin(store, n=1)
    admin.hset(key_of(store, session_id), "@v", "2")
    wanted = "unknown" if is_cluster(store) else "unreadable"
    assert await kind_of(store, session_id) == wanted


async def test_a_reason_that_may_not_be_asked_for_is_unknown() -> None:
    """A missing right to read tombstones is no failure."""
    with DevServer(search=False) as server, client_of(server) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-zrange")
        url = server.url.replace("redis://", "redis://app:pw@")
        async with SessionStore.from_url(url, timeout=20) as store:
            out = await begin(store, n=1)
            await Page(store)(lambda session: session.logout(), sent(out))
            assert await kind_of(store, out) == "unknown"


async def test_a_revoked_browser_can_begin_again(store: SessionStore) -> None:
    """Only a session that was replaced makes stragglers: an OAuth login may start at once."""
    old = await begin(store, n=1)
    await store.revoke(handle_of(store, old))
    response = await Page(store)(lambda session: session.update(state="oauth"), sent(old))
    assert await is_live(store, response.cookies["session"])


async def test_the_limit_is_a_reason(session_redis_url: str, prefix: str) -> None:
    """Whoever was ended by a login elsewhere can be told so."""
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, max_sessions_per_user=1, remember_ended=3600
    ) as store:
        first = (await Page(store)(lambda session: session.login(7))).cookies["session"]
        await Page(store)(lambda session: session.login(7))
        assert await kind_of(store, first) == "limit"


async def test_an_unknown_end_is_unknown(store: SessionStore, prefix: str, admin: Any) -> None:
    """An older version leaves no tombstone: then a write makes a new session, as it did before."""
    old = await begin(store, n=1)
    admin.delete(f"{prefix}:{handle_of(store, old)}")
    assert await kind_of(store, old) == "unknown"
    response = await Page(store)(lambda session: session.update(a=1), sent(old))
    assert "session" in response.cookies


@pytest.mark.one_node
async def test_tombstones_when_redis_is_full(store: SessionStore, admin: Any) -> None:
    """An end works out of memory, and is remembered."""
    old = await begin(store, n=1)
    admin.config_set("maxmemory", 1)
    try:
        await Page(store)(lambda session: session.logout(), sent(old))
        assert await kind_of(store, old) == "logged_out"
    finally:
        admin.config_set("maxmemory", 0)


async def test_two_logins_at_once_both_work(secret_store: SessionStore) -> None:
    """A double click: both answers have a cookie that works; the data is in the first session."""
    store = secret_store
    old = await begin(store, cart=["tea"])
    ready, pages = asyncio.Barrier(2), [Page(store), Page(store)]

    async def log_in(session: Any) -> None:
        await session.login(7)
        session["welcome"] = True
        await ready.wait()

    answers = await asyncio.gather(*[page(log_in, sent(old)) for page in pages])
    ids = [answer.cookies["session"] for answer in answers]
    assert len(set(ids)) == 2
    found = []
    for session_id in ids:
        page = Page(store)
        await page(lambda session: (session.user_id, dict(session)), sent(session_id))
        found.append(page.seen)
    assert [user for user, _ in found] == ["7", "7"]
    assert sorted(len(fields) for _, fields in found) == [1, 2]
    assert all(fields["welcome"] for _, fields in found)


async def test_two_logins_at_once_in_the_drop_in(store: SessionStore) -> None:
    """There, a field that identifies the user is the login."""
    ready = asyncio.Barrier(2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] == "/login":
            session["user"] = "ada"
            await ready.wait()
        else:
            session["n"] = 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    transport = httpx.ASGITransport(DropIn(app, "a secret of the app, long", store=store))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        headers = {"cookie": f"session={(await client.get('/')).cookies['session']}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answers = await asyncio.gather(*[client.get("/login", headers=headers) for _ in "12"])
        straggler = await client.get("/", headers=headers)
    ids = [answer.cookies["session"] for answer in answers]
    assert len(set(ids)) == 2
    for session_id in ids:
        page = Page(store)
        await page(dict, sent(session_id))
        assert page.seen["user"] == "ada"
    assert "set-cookie" not in straggler.headers


async def test_a_change_after_the_request_is_refused(store: SessionStore) -> None:
    """It would vanish: the error names what to use instead, in a new session and in an old one."""
    known, page = await begin(store, n=1), Page(store)
    held: list[Any] = []
    for headers in (None, sent(known)):
        await page(held.append, headers)
    for session in held:
        with pytest.raises(SessionTooLate):
            session["late"] = 1
    with pytest.raises(SessionTooLate, match=r"session\.save\(\)"):
        held[1].clear()


async def test_a_late_change_of_a_session_that_is_gone(store: SessionStore) -> None:
    """`SessionGone`, not advice that can't be followed."""
    known = await begin(store, n=1)
    held: list[Any] = []

    async def act(session: Any) -> None:
        held.append(session)
        session["n"] = 2
        await store.revoke(handle_of(store, known))

    await Page(store)(act, sent(known))
    with pytest.raises(SessionGone):
        held[0]["late"] = 1
