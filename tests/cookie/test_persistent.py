"""`login(persistent=...)`: whether the cookie outlives the browser, for each login."""

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, Lifetime, SessionMiddleware, SessionStore, dropin

from ..support.internals import handle_of, open_session
from ..support.sessions import PLAIN, create, opened

pytestmark = pytest.mark.on_cluster

ENDS_WITH_BROWSER = CookiePolicy(name="session", secure=False, max_age="session")
WEEK = 7 * 24 * 3600
CHOICES: dict[str, dict[str, Any]] = {
    "kept": {"persistent": True},
    "ends": {"persistent": False},
    "open": {},
}


async def _act(request: Request) -> JSONResponse:
    session = await request.scope["session"].load()
    match request.path_params["verb"]:
        case "renew":
            session.renew()
        case "shorten":
            session.set_lifetime(absolute=3600)
        case "write":
            session["n"] = 1
        case verb:
            await session.login("ann", **CHOICES[verb])
    return JSONResponse(session.user_id)


class Browser:
    """A client that keeps its cookie, and shows how it was set last."""

    def __init__(self, store: SessionStore, cookie: CookiePolicy = PLAIN) -> None:
        self.store = store
        app = Starlette(routes=[Route("/{verb}", _act)])
        self.app = SessionMiddleware(app, store=store, cookie=cookie)
        self.cookies: dict[str, str] = {}

    async def get(self, verb: str) -> str:
        """The attribute `Max-Age` of the cookie that the answer sets; `none` if it has none."""
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://app", cookies=self.cookies
        ) as client:
            answer = await client.get(f"/{verb}")
        assert answer.status_code == 200, answer.text
        self.cookies |= dict(answer.cookies)
        return _max_age(answer)

    async def shown(self) -> bool | None:
        """What the list of the user's sessions says."""
        (listed,) = await self.store.users.list("ann")
        seen = await self.store.get(handle_of(self.store, self.cookies["session"]))
        assert seen is not None
        assert seen.persistent is listed.persistent
        return listed.persistent


def _max_age(answer: httpx.Response) -> str:
    attributes = answer.headers["set-cookie"].split("; ")
    return next((each[8:] for each in attributes if each.startswith("Max-Age=")), "none")


@pytest.mark.parametrize("cookie", [PLAIN, ENDS_WITH_BROWSER], ids=["absolute", "session"])
async def test_a_login_says_how_long_its_cookie_is_kept(
    store: SessionStore, cookie: CookiePolicy
) -> None:
    """Whatever the policy says; and the infos of the session show it."""
    browser = Browser(store, cookie)
    assert await browser.get("kept") == str(WEEK)
    assert await browser.shown() is True
    assert await browser.get("ends") == "none"
    assert await browser.shown() is False
    assert await browser.get("open") == (str(WEEK) if cookie is PLAIN else "none")
    assert await browser.shown() is None


@pytest.mark.parametrize("choice", CHOICES)
async def test_it_is_kept_through_renewals(store: SessionStore, choice: str) -> None:
    """A new id, and a shorter life, come with the same kind of cookie."""
    browser = Browser(store)
    await browser.get("write")
    is_kept = await browser.get(choice) != "none"
    before = await browser.shown()
    for verb in ("renew", "renew", "shorten"):
        assert (await browser.get(verb) != "none") is is_kept
    if is_kept:
        assert 0 < int(await browser.get("renew")) <= 3600  # what is left
    assert await browser.shown() is before


async def test_a_session_without_a_deadline_is_kept_as_long_as_browsers_allow(
    session_redis_url: str, prefix: str
) -> None:
    """400 days, the most that a browser keeps a cookie."""
    lifetime = Lifetime(absolute=None)
    async with opened(session_redis_url, prefix, lifetime=lifetime) as store:
        assert await Browser(store, ENDS_WITH_BROWSER).get("kept") == str(400 * 24 * 3600)


async def test_an_anonymous_session_follows_the_policy(store: SessionStore) -> None:
    """Only a login chooses."""
    browser = Browser(store)
    browser.cookies = {"session": await create(store, n=1)}
    info = await store.get(handle_of(store, browser.cookies["session"]))
    assert info is not None
    assert info.persistent is None
    assert 0 < int(await browser.get("renew")) <= WEEK


async def test_what_redis_holds_of_the_choice(store: SessionStore, admin: Any) -> None:
    """One of the claims of a login that chooses; without a choice, nothing of before is left."""
    browser = Browser(store)
    for choice, held in (("kept", True), ("ends", False), ("open", None), ("ends", False)):
        await browser.get(choice)
        key = f"{store.prefix}:{handle_of(store, browser.cookies['session'])}"
        since, claims = admin.hmget(key, "@auth", "@claims")
        if held is None:
            assert claims is None
        else:
            at, _, text = claims.partition(b" ")
            assert (at, json.loads(text)) == (since, {"persistent": held})


async def test_the_drop_in_keeps_the_choice(store: SessionStore) -> None:
    """A session that the other middleware has begun on the same store keeps its kind of cookie."""
    for choice, expected in (("kept", str(1209600)), ("ends", "none"), ("open", str(1209600))):
        browser = Browser(store)
        await browser.get(choice)

        async def renew(request: Request) -> JSONResponse:
            request.session["role"] = "admin"
            return JSONResponse({})

        app = dropin.SessionMiddleware(Starlette(routes=[Route("/", renew)]), "k" * 32, store=store)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://app", cookies=browser.cookies
        ) as client:
            answer = await client.get("/")
        assert answer.cookies["session"] != browser.cookies["session"]
        assert _max_age(answer) == expected


async def test_a_choice_that_is_none(store: SessionStore) -> None:
    """Anything but True, False and None is refused before a place is reserved."""
    session = await open_session(store).load()
    with pytest.raises(TypeError, match=r"session\.login\(persistent\) takes True or False"):
        await session.login("ann", persistent="yes")  # type: ignore[arg-type]
    assert session.user_id is None
