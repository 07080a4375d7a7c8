"""Which requests are refused as another site's: `SessionMiddleware(cross_origin="refuse")`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import (
    CookiePolicy,
    CrossOriginPolicy,
    SessionEvent,
    SessionMiddleware,
    SessionStore,
)
from asgi_redis_session.dropin import FastAPIRedisSDK
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.testing import SessionKit

from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

HOST = "app.example.com"
OURS, OTHER = f"https://{HOST}", "https://evil.example"
SIBLING = "https://blog.example.com"
APP = "https://front.example.net:8443"


class Shape(NamedTuple):
    """A request with the session's cookie, and whether it passes. *site*: Sec-Fetch-Site."""

    passes: bool
    method: str = "POST"
    site: str | None = None
    origin: str | None = None
    host: str | None = HOST
    forwarded: str | None = None
    path: str = "/buy"
    policy: Mapping[str, Any] = {}


TRUSTING = {"trusted_origins": [APP]}
EXEMPT = {"exempt_paths": ["/saml/acs", "/callback/"]}
BEHIND = {"forwarded_host": True}
FAMILY = {"same_site": True}

#: As Fetch Metadata (W3C), RFC 6454 and Go's http.CrossOriginProtection have it.
SHAPES = {
    # Fetch metadata
    "a form of ours": Shape(True, site="same-origin", origin=OURS),
    "a fetch of ours": Shape(True, "PUT", "same-origin", OURS),
    "a delete of ours": Shape(True, "DELETE", "same-origin", OURS),
    "the address bar": Shape(True, site="none"),
    "another site's form": Shape(False, site="cross-site", origin=OTHER),
    "another site's fetch": Shape(False, "PATCH", "cross-site", OTHER),
    "another site's delete": Shape(False, "DELETE", "cross-site", OTHER),
    "another site, no origin": Shape(False, site="cross-site"),
    "another site, an origin like ours": Shape(False, site="cross-site", origin=OURS),
    "a subdomain": Shape(False, site="same-site", origin=SIBLING),
    "a subdomain, allowed": Shape(True, site="same-site", origin=SIBLING, policy=FAMILY),
    "another site, subdomains allowed": Shape(
        False, site="cross-site", origin=OTHER, policy=FAMILY
    ),
    "a word of the future": Shape(False, site="same-planet", origin=OURS),
    "an empty word": Shape(False, site="", origin=OURS),
    "a capital letter": Shape(False, site="Same-Origin", origin=OURS),
    # Methods
    "another site's link": Shape(True, "GET", "cross-site"),
    "another site's image": Shape(True, "GET", "cross-site", OTHER),
    "another site's HEAD": Shape(True, "HEAD", "cross-site", OTHER),
    "a preflight": Shape(True, "OPTIONS", "cross-site", OTHER),
    "a method of the app's own": Shape(False, "PURGE", "cross-site", OTHER),
    # Older browsers: Origin against Host
    "an old browser, our form": Shape(True, origin=OURS),
    "an old browser, another site": Shape(False, origin=OTHER),
    "an old browser, a subdomain": Shape(False, origin=SIBLING),
    "an old browser, subdomains allowed": Shape(False, origin=SIBLING, policy=FAMILY),
    "an old browser, a sandboxed frame": Shape(False, origin="null"),
    "an old browser, no host": Shape(False, origin=OURS, host=None),
    "http and https": Shape(True, origin=f"http://{HOST}"),
    "capital letters": Shape(True, origin="HTTPS://App.Example.COM"),
    "the default port, in the host": Shape(True, origin=OURS, host=f"{HOST}:443"),
    "the default port, in the origin": Shape(True, origin=f"{OURS}:443"),
    "another port": Shape(False, origin=f"{OURS}:8443"),
    "the same port": Shape(True, origin=f"{OURS}:8443", host=f"{HOST}:8443"),
    "a host that begins like ours": Shape(False, origin=f"{OURS}.evil.example"),
    "a host that ends like ours": Shape(False, origin=f"https://evil-{HOST}"),
    "a user before the host": Shape(False, origin=f"https://{HOST}@evil.example"),
    "an origin with a path": Shape(False, origin=f"{OURS}/"),
    "no origin at all": Shape(False, origin="nonsense"),
    "IPv6": Shape(True, origin="http://[::1]:8000", host="[::1]:8000"),
    "another IPv6": Shape(False, origin="http://[::2]:8000", host="[::1]:8000"),
    "an IPv6 default port": Shape(True, origin="http://[::1]", host="[::1]"),
    "no browser": Shape(True),
    # Trusted origins
    "a trusted front end": Shape(True, site="cross-site", origin=APP, policy=TRUSTING),
    "a trusted front end, old browser": Shape(True, origin=APP, policy=TRUSTING),
    "trust ends at the port": Shape(
        False, site="cross-site", origin="https://front.example.net", policy=TRUSTING
    ),
    "trust ends at the scheme": Shape(
        False, origin="http://front.example.net:8443", policy=TRUSTING
    ),
    "a trusted one does not say who it is": Shape(False, site="cross-site", policy=TRUSTING),
    # Exempt paths
    "an identity provider's form": Shape(
        True, site="cross-site", origin=OTHER, path="/saml/acs", policy=EXEMPT
    ),
    "a path below an exempt one": Shape(
        True, site="cross-site", origin=OTHER, path="/callback/github", policy=EXEMPT
    ),
    "a path that begins like an exempt one": Shape(
        False, site="cross-site", origin=OTHER, path="/saml/acs2", policy=EXEMPT
    ),
    "the folder's name without its slash": Shape(
        False, site="cross-site", origin=OTHER, path="/callback", policy=EXEMPT
    ),
    # Behind a proxy
    "a proxy that keeps the host": Shape(True, origin=OURS),
    "a proxy that says the host": Shape(
        True, origin=OURS, host="10.0.0.7:8000", forwarded=HOST, policy=BEHIND
    ),
    "several proxies, the last one counts": Shape(
        True, origin=OURS, host="10.0.0.7", forwarded=f"evil.example, {HOST}", policy=BEHIND
    ),
    "a header that is not trusted": Shape(False, origin=OTHER, forwarded="evil.example"),
    "a proxy that says nothing": Shape(False, origin=OURS, policy=BEHIND),
}


def app_of(store: SessionStore, seen: list[str], **options: Any) -> SessionMiddleware:
    """An app that counts what reaches it."""

    async def endpoint(request: Request) -> PlainTextResponse:
        seen.append(request.method)
        session = await request.scope["session"].load()
        return PlainTextResponse(str(len(session)))

    async def socket(websocket: WebSocket) -> None:
        seen.append("socket")
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"]
    routes = [
        WebSocketRoute("/ws", socket),
        Route("/{path:path}", endpoint, methods=methods),
    ]
    return SessionMiddleware(
        Starlette(routes=routes),
        store=store,
        **{"cookie": PLAIN, "cross_origin": "refuse", **options},
    )


async def send(app: Any, shape: Shape, cookies: Mapping[str, str]) -> tuple[int, bytes]:
    """Send a request as a server would hand it on; returns status and body."""
    lines = {
        "host": shape.host,
        "sec-fetch-site": shape.site,
        "origin": shape.origin,
        "x-forwarded-host": shape.forwarded,
        "cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()) or None,
    }
    scope = {
        "type": "http",
        "method": shape.method,
        "path": shape.path,
        "query_string": b"",
        "headers": [
            (name.encode(), value.encode()) for name, value in lines.items() if value is not None
        ],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def collect(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, collect)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_each_shape_of_request(sessions: SessionKit, shape: Shape) -> None:
    """It reaches the app, or gets 403 in one sentence, an event, and no command for Redis."""
    events: list[SessionEvent] = []
    seen: list[str] = []
    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    options: dict[str, Any] = {"cross_origin": CrossOriginPolicy(**shape.policy)}
    async with SessionStore.from_url(
        sessions.url, prefix=sessions.prefix, on_event=events.append
    ) as store:
        app = app_of(store, seen, **options)
        with sessions.count() as commands:
            status, body = await send(app, shape, cookies)
            await store.drain()
        if shape.passes:
            assert (status, seen) == (200, [shape.method])
            assert events == []
        else:
            assert (status, seen, len(commands)) == (403, [], 0)
            assert body.count(b"\n") == 1
            (event,) = events
            assert event.name == "cross_origin"
            assert (shape.origin or "another site") in (event.detail or "")
        # Without our cookie there is nothing to protect.
        assert (await send(app, shape, {}))[0] == 200
        assert (await send(app, shape, {"other": "1"}))[0] == 200


async def test_it_is_off_by_default(sessions: SessionKit) -> None:
    """Without the option, every shape reaches the app."""
    seen: list[str] = []
    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    app = app_of(sessions.store, seen, cross_origin="allow")
    assert (await send(app, SHAPES["another site's form"], cookies))[0] == 200


async def test_two_cookies_are_ours_too(sessions: SessionKit) -> None:
    """A request with two different sessions is anonymous, but it may log both out."""
    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    other = sessions.cookies({"a": 1}, cookie=PLAIN)
    both = {PLAIN.name: f"{cookies[PLAIN.name]}; {PLAIN.name}={other[PLAIN.name]}"}
    status, _ = await send(app_of(sessions.store, []), SHAPES["another site's form"], both)
    assert status == 403


async def test_the_inner_middleware_refuses_as_well(sessions: SessionKit) -> None:
    """Two middlewares, one inside the other: the option of the inner one counts."""
    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    inner = app_of(sessions.store, [])
    app = SessionMiddleware(inner, store=sessions.store, cookie=PLAIN)
    assert (await send(app, SHAPES["another site's form"], cookies))[0] == 403
    assert (await send(app, SHAPES["a form of ours"], cookies))[0] == 200


@pytest.mark.parametrize(
    "cookie",
    [{"session_id": "x" * 43}, {"session": "signed.by.Starlette"}, {"sdk": "of-another-library"}],
    ids=["ours", "signed", "another library's"],
)
async def test_the_drop_in(sessions: SessionKit, cookie: Mapping[str, str]) -> None:
    """It refuses the same, also if the request has only a cookie that could be imported."""
    seen: list[str] = []

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["method"])
        await PlainTextResponse("")(scope, receive, send)

    app = DropIn(
        endpoint,
        "a secret of the app",
        store=sessions.store,
        import_cookies=True,
        import_from=FastAPIRedisSDK(cookie="sdk"),
        cross_origin="refuse",
        trusted_origins=[APP],
    )
    assert (await send(app, SHAPES["another site's form"], cookie))[0] == 403
    assert seen == []
    for passing, sent in (
        ("a form of ours", cookie),
        ("a trusted front end", cookie),
        ("another site's form", {"other": "1"}),
    ):
        assert (await send(app, SHAPES[passing], sent))[0] == 200


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_sockets(sessions: SessionKit, http: str) -> None:
    """Another site's page can't open a WebSocket with the cookie (cross-site hijacking)."""
    seen: list[str] = []
    (value,) = sessions.cookies({"a": 1}, cookie=PLAIN).values()
    cookie = {"cookie": f"{PLAIN.name}={value}"}
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    with serve(app_of(store, seen), http=http) as url:
        ws = url.replace("http", "ws") + "/ws"
        for headers, origin, passes in (
            (cookie, url, True),
            (cookie, OTHER, False),
            (cookie, "null", False),
            ({**cookie, "sec-fetch-site": "cross-site"}, url, False),
            ({**cookie, "sec-fetch-site": "same-origin"}, url, True),
            (cookie, None, True),
            ({}, OTHER, True),
        ):
            opening = websockets.connect(
                ws,
                additional_headers=headers,
                origin=origin,  # type: ignore[arg-type]
                open_timeout=PATIENCE,
            )
            if passes:
                async with opening as socket:
                    assert await socket.recv() == "hello"
            else:
                with pytest.raises(websockets.InvalidStatus) as refused:
                    await opening
                assert refused.value.response.status_code == 403
    assert seen == ["socket"] * 4


async def test_a_real_server_answers_in_one_sentence(sessions: SessionKit) -> None:
    """403, plain text, not stored; the session is not touched."""
    cookies = sessions.cookies({"a": 1}, cookie=PLAIN)
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    with serve(app_of(store, [])) as url:
        async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=PATIENCE) as client:
            answer = await client.post("/buy", headers={"origin": OTHER})
            assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store")
            assert "another site" in answer.text
            assert (await client.post("/buy", headers={"origin": url})).text == "1"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cross_origin": "deny"}, "use 'allow', 'refuse' or a CrossOriginPolicy"),
        ({"cross_origin": True}, "use 'allow', 'refuse' or a CrossOriginPolicy"),
        ({"cross_origin": "allow", "trusted_origins": [APP]}, "needs cross_origin='refuse'"),
        (
            {"cross_origin": CrossOriginPolicy(), "trusted_origins": [APP]},
            "Give trusted_origins to the CrossOriginPolicy",
        ),
        ({"trusted_origins": APP}, "takes a list of texts"),
        ({"trusted_origins": [1]}, "takes a list of texts"),
        ({"trusted_origins": ["front.example.net"]}, "give scheme and host"),
        ({"trusted_origins": [f"{APP}/"]}, "give scheme and host"),
        ({"trusted_origins": ["https://*.example.net"]}, "give scheme and host"),
        ({"trusted_origins": ["null"]}, "give scheme and host"),
    ],
)
async def test_unusable_options_are_refused(
    store: SessionStore, options: dict[str, Any], error: str
) -> None:
    """One sentence that names the cure."""
    with pytest.raises((TypeError, ValueError), match=error):
        app_of(store, [], **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"exempt_paths": ["saml"]}, "a path begins with '/'"),
        ({"exempt_paths": "/saml"}, "takes a list of texts"),
        ({"same_site": 1}, "takes True or False"),
        ({"forwarded_host": "yes"}, "takes True or False"),
    ],
)
def test_an_unusable_policy_is_refused(options: dict[str, Any], error: str) -> None:
    """The same for the policy itself."""
    with pytest.raises((TypeError, ValueError), match=error):
        CrossOriginPolicy(**options)


def test_a_policy_can_be_compared() -> None:
    """Equal policies are equal, and its repr shows what was given."""
    policy = CrossOriginPolicy(trusted_origins=[APP])
    assert policy == CrossOriginPolicy(trusted_origins=(APP,))
    assert policy != CrossOriginPolicy()
    assert APP in repr(policy)
    assert CookiePolicy() == CookiePolicy()
