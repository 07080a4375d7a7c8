"""`SessionMiddleware(bind=...)`: a session that is used from somewhere else."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import SessionEvent, SessionMiddleware, SessionStore

from ..support.internals import handle_of
from ..support.sessions import PLAIN, create, is_live, log_in

pytestmark = pytest.mark.on_cluster


def agent_of(scope: Mapping[str, Any]) -> str:
    return str(dict(scope["headers"]).get(b"user-agent", b""), "latin-1")


async def _act(request: Request) -> JSONResponse:
    session = request.scope["session"]
    verb = request.path_params["verb"]
    await session.load()
    if verb == "login":
        await session.login("ann")
    elif verb == "write":
        session["n"] = 1
    elif verb == "renew":
        session.renew()
    absence = session.absence
    return JSONResponse(
        {
            "fields": dict(session),
            "user": session.user_id,
            "fresh": session.is_fresh(3600),
            "absence": None if absence is None else absence.kind,
            "n": await session.fetch("n"),
        }
    )


class Browser:
    """A browser with a user agent, and a cookie that may be stolen."""

    def __init__(self, store: SessionStore, **options: Any) -> None:
        app = Starlette(routes=[Route("/{verb}", _act)])
        self.app = SessionMiddleware(
            app, store=store, cookie=PLAIN, **{"bind": agent_of, **options}
        )
        self.cookies: dict[str, str] = {}

    async def get(self, verb: str, agent: str = "Firefox") -> Any:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://app",
            cookies=self.cookies,
            headers={"user-agent": agent},
        ) as client:
            answer = await client.get(f"/{verb}")
            self.cookies = {**self.cookies, **dict(answer.cookies)}
            assert answer.status_code == 200, answer.text
            return answer.json()

    @property
    def session_id(self) -> str:
        return self.cookies[PLAIN.name]


@pytest.mark.parametrize("first", ["login", "write"])
async def test_another_browser_ends_it(
    store: SessionStore, events: list[SessionEvent], first: str
) -> None:
    """Whoever comes with the cookie from elsewhere gets nothing, and the session is gone."""
    browser = Browser(store)
    await browser.get(first)
    await browser.get("write")
    session_id, handle = browser.session_id, handle_of(store, browser.session_id)
    assert (await browser.get("read"))["fields"] == {"n": 1}
    events.clear()
    stolen = await browser.get("read", "Chrome")
    assert stolen == {"fields": {}, "user": None, "fresh": False, "absence": "revoked", "n": {}}
    assert not await is_live(store, session_id)
    assert [event.name for event in events][:2] == ["moved", "ended"]
    assert events[0].handle == handle
    assert events[0].user_id == ("ann" if first == "login" else None)
    assert await store.users.count("ann") == 0


async def test_another_browser_has_to_log_in_again(
    store: SessionStore, events: list[SessionEvent]
) -> None:
    """With on_bind_change="login" the session goes on, but is not fresh until the next login."""
    browser = Browser(store, on_bind_change="login")
    await browser.get("login")
    await browser.get("write")
    assert (await browser.get("read"))["fresh"]
    moved = await browser.get("read", "Chrome")
    assert (moved["user"], moved["fields"], moved["fresh"]) == ("ann", {"n": 1}, False)
    assert [event.name for event in events].count("moved") == 1
    assert (await browser.get("read"))["fresh"]  # the first browser still is
    assert (await browser.get("login", "Chrome"))["fresh"]
    assert (await browser.get("read", "Chrome"))["fresh"]
    assert not (await browser.get("read"))["fresh"]


async def test_it_stays_bound_through_renewals(store: SessionStore) -> None:
    """A new id is bound as the old one was."""
    browser = Browser(store)
    await browser.get("login")
    await browser.get("renew")
    assert (await browser.get("read"))["user"] == "ann"
    assert (await browser.get("read", "Chrome"))["user"] is None


async def test_a_session_from_before_is_not_bound(store: SessionStore) -> None:
    """What was written without the option stays usable, and its next login binds it."""
    for session_id in (await create(store, n=1), await log_in(store, "ann", n=1)):
        browser = Browser(store)
        browser.cookies = {PLAIN.name: session_id}
        assert (await browser.get("read", "Chrome"))["fields"] == {"n": 1}
        await browser.get("login", "Chrome")
        assert (await browser.get("read"))["user"] is None


async def test_it_survives_a_new_secret(session_redis_url: str, prefix: str) -> None:
    """The digest is made with the store's secret; an older one still counts."""
    old, new = "a" * 40, "b" * 40
    async with SessionStore.from_url(session_redis_url, prefix=prefix, secret=old) as store:
        browser = Browser(store)
        await browser.get("login")
    async with SessionStore.from_url(session_redis_url, prefix=prefix, secret=[new, old]) as store:
        cookies, browser = browser.cookies, Browser(store)
        browser.cookies = cookies
        assert (await browser.get("read"))["user"] == "ann"
        assert (await browser.get("read", "Chrome"))["user"] is None


async def test_what_redis_holds_is_a_digest(store: SessionStore, admin: Any) -> None:
    """Neither the text nor a part of it."""
    browser = Browser(store, bind=lambda _: "a-text-that-only-we-know")
    await browser.get("write")
    found = admin.hgetall(f"{store.prefix}:{handle_of(store, browser.session_id)}")
    assert len(found[b"@bind"]) == 32
    assert b"only-we" not in b"".join(found.values())


async def test_a_function_that_returns_no_text(store: SessionStore) -> None:
    """The request fails with a sentence, before the session is read."""
    app = SessionMiddleware(
        Starlette(),
        store=store,
        cookie=PLAIN,
        bind=lambda _: None,  # type: ignore[arg-type, return-value]
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://app"
    ) as client:
        with pytest.raises(TypeError, match="return a text"):
            await client.get("/")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bind": "user-agent"}, "takes a function of the scope"),
        ({"bind": agent_of, "on_bind_change": "raise"}, "use 'end' or 'login'"),
    ],
)
async def test_unusable_options_are_refused(
    store: SessionStore, options: dict[str, Any], error: str
) -> None:
    """One sentence that names the cure."""
    with pytest.raises((TypeError, ValueError), match=error):
        SessionMiddleware(Starlette(), store=store, **options)
