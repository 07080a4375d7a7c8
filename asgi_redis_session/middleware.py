"""
The middleware: it finds the id in the cookie, and puts a `Session` into the scope.

What happens between the app and the server after that is in `exchange`.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, get_args

from .arguments import is_async, refuse_no_function, shown
from .carrier import Carrier, carrier_of, refuse_no_carrier
from .cookie import CookiePolicy, SentCookies
from .cross_origin import CrossOriginPolicy, policy_of, refusal, refuse
from .engine import actions
from .engine.state import SessionState
from .exchange import (
    ASGIApp,
    Exchange,
    HTTPExchange,
    Receive,
    Refresh,
    Scope,
    Send,
    WebSocketExchange,
)
from .header import HeaderPolicy
from .nesting import LAYER, Layer, beside, checked_key, joins
from .session import Session, state_of
from .store import SessionStore, engine_of

__all__ = ["SessionMiddleware"]

_REFRESH = get_args(Refresh)
#: What a policy reads from a request without its cookie.
_NO_COOKIE = SentCookies()


class SessionMiddleware:
    """
    Server-side sessions for any ASGI app, as `scope["session"]` (Starlette: `request.session`).

    *store*: a `SessionStore`, or a Redis URL for one with all defaults.
    *cookie*: the name and attributes of the cookie. Or a function of the scope that returns them,
    for a domain per tenant, or a cookie that is `Secure` over HTTPS only. It is called for each
    request, so let it choose among policies that exist already.
    *autoload*: whether the session is loaded before the app runs, so that code for Starlette's
    `SessionMiddleware` works unchanged. If False, the app calls `await session.load()` where it
    needs the session. Or a function of the scope, also an async one, that returns True or False.
    *refresh*: which requests extend the TTL. `"request"`, all that carry the session's cookie;
    `"load"`, those that use the session; `"never"`, none. Or a function of the scope that returns
    one of these, so that polling routes don't keep a session alive.
    *unavailable*: what a request gets that needs its session while Redis is down. `"fail"`: 503
    with `Retry-After`. `"anonymous"`: an empty session that refuses writes. Or an ASGI app that
    answers in place of the plain 503 (and of the 500 for a session that can't be saved), with a
    `Retry-After` of its own; the error is in `scope["session.error"]`. The cookie is never cleared.
    *cross_origin*: `"refuse"` answers 403 to a request with the session's cookie that another
    site's page has sent: a form post, for instance, or a WebSocket. *trusted_origins* may send
    them, as in `["https://app.example.com"]`. A `CrossOriginPolicy` says more.
    *bind*: a function of the scope that returns a text, such as the browser's family and a part of
    its address; a new session and each login are bound by it. The session is then loaded before the
    app runs. If the text is another one later, *on_bind_change* says what happens: `"end"` ends the
    session, and with `"login"` it is not fresh any more (`is_fresh`, `require_fresh`).
    *key*: where in the scope the session is. A second middleware with another key, and a cookie
    with another name, gives the app a second session, as in `scope["admin_session"]`.
    *carrier*: a `HeaderPolicy`, for clients that send the id in a header, such as native apps.
    With `cookie=None` there is no cookie, and the header alone.

    It may wrap the app (`SessionMiddleware(app, …)`) or be added to it (`app.add_middleware(…)`).
    If it is installed twice, the outer one is used; *autoload* of the inner one still loads its
    session. An inner one whose cookie has another name makes a session of its own. Raises
    `TypeError` or `ValueError` for unusable arguments, and at a request `RuntimeError` if an inner
    one has another store.
    """

    # What the drop-in does in another way: how a session is loaded, and what the app sees of it.
    # Attributes rather than methods, because a request should not pay for a further call.
    _load: Callable[[Any], Awaitable[None]] = staticmethod(actions.load)
    _session_of: Callable[[Any], Any] = Session
    _make_state: Callable[..., SessionState] = SessionState

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: SessionStore | str,
        cookie: CookiePolicy | Callable[[Scope], CookiePolicy] | None = CookiePolicy(),  # noqa: B008
        autoload: bool | Callable[[Scope], bool | Awaitable[bool]] = False,
        refresh: Refresh | Callable[[Scope], Refresh] = "request",
        unavailable: Literal["fail", "anonymous"] | ASGIApp = "fail",
        cross_origin: Literal["allow", "refuse"] | CrossOriginPolicy = "allow",
        trusted_origins: Sequence[str] = (),
        bind: Callable[[Scope], str] | None = None,
        on_bind_change: Literal["end", "login"] = "end",
        key: str = "session",
        carrier: HeaderPolicy | None = None,
    ) -> None:
        if not callable(app):
            raise TypeError(f"SessionMiddleware(app) takes an ASGI app, not {shown(app)}.")
        store = text_of(store)
        _refuse_nonsense(store, cookie, autoload, refresh, unavailable)
        refuse_no_carrier("SessionMiddleware", cookie, carrier)
        self.app = app
        self.store = SessionStore.from_url(store) if isinstance(store, str) else store
        self.key = checked_key("SessionMiddleware(key)", key)
        self.cookie = cookie
        self.autoload = autoload
        self.refresh = refresh
        self.unavailable = unavailable
        self.cross_origin = policy_of(cross_origin, trusted_origins)
        self.bind = bind
        self._ends_moved = _is_ending(bind, on_bind_change)
        self._engine = engine_of(self.store)
        self.carrier = carrier
        # Of all requests; None: how the id travels depends on the request.
        is_fixed = isinstance(cookie, CookiePolicy) and carrier is None
        self._layer = self._layer_of({}) if is_fixed else None
        reads_ahead = autoload is False and bind is None
        self._prefetch = self._engine.prefetch() if reads_ahead else None
        self._responder = None if isinstance(unavailable, str) else unavailable

    async def __call__(  # noqa: C901, PLR0912  (each function more costs each request a call)
        self, scope: Any, receive: Any, send: Any
    ) -> None:
        """Serve one connection (ASGI 3). Frameworks disagree on how to spell these types."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._serve_without(scope, receive, send)
            return
        layer = self._layer or self._layer_of(scope)
        if self.cross_origin is not None and self._is_refused(scope, layer.carrier):
            await refuse(scope, receive, send)
            return
        if LAYER in scope or layer.key in scope:
            if joins(scope, layer):
                await self._serve_inside(scope, receive, send)
                return
            scope, layer = beside(scope, layer)
        refresh = _ask_refresh(self.refresh, scope) if callable(self.refresh) else self.refresh
        state = self._new_state(scope, layer.carrier, refresh)
        scope[layer.key], scope[LAYER] = self._session_of(state), layer
        of_kind = HTTPExchange if kind == "http" else WebSocketExchange
        exchange: Exchange = of_kind(state, layer, refresh, self._responder, scope, receive, send)
        try:
            if self.bind is not None:
                await actions.check_binding(
                    state, _ask_bind(self.bind, scope), ends=self._ends_moved
                )
            elif self.autoload and (self.autoload is True or await self._wants_load(scope)):
                await self._load(state)
            elif (
                self._prefetch is not None
                and state.session_id is not None
                and kind == "http"
                and refresh != "load"
            ):
                method, path = scope.get("method", ""), scope.get("path", "")
                state.ahead = ahead = self._prefetch.begin(method, path)
                if ahead.is_likely:
                    await self._prefetch.read(ahead, state.handles()[0], state.extends)
                ahead.start()
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if not await exchange.handle_error(error):
                raise
        except BaseException:  # cancelled: what is staged, and a login's place, are given up
            state.discard()
            raise
        else:
            if state.may_have_changes:
                await exchange.finish()
        finally:
            state.is_over = True
            if state.ahead is not None:
                state.ahead.end()

    def _layer_of(self, scope: Scope) -> Layer:
        cookie = _ask_cookie(self.cookie, scope) if callable(self.cookie) else self.cookie
        carrier = carrier_of(cookie, self.carrier, scope.get("headers", ()))
        return Layer(self.key, self._engine, carrier)

    async def _serve_inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope[self.key]
        if isinstance(session, Session) and await self._wants_load(scope):
            await actions.load(state_of(session))
        await self.app(scope, receive, send)

    def _is_refused(self, scope: Scope, carrier: Carrier) -> bool:
        policy = self.cross_origin
        cookie = carrier.cookie
        if policy is None or cookie is None or not self._has_cookie(cookie, scope["headers"]):
            return False
        if (why := refusal(policy, scope)) is None:
            return False
        self._engine.reports.cross_origin(why)
        return True

    def _has_cookie(self, cookie: CookiePolicy, headers: Any) -> bool:
        """Whether the request carries an id, even if it names no session any more."""
        return cookie.read(headers) != _NO_COOKIE

    async def _wants_load(self, scope: Scope) -> bool:
        if not callable(self.autoload):
            return self.autoload
        answer = self.autoload(scope)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def _new_state(self, scope: Scope, carrier: Carrier, refresh: Refresh) -> SessionState:
        headers = scope.get("headers", ())
        sent = carrier.read(headers)
        if sent.conflicting:
            self._engine.reports.conflict(carrier.places)
        return self._make_state(
            self._engine,
            sent.session_id,
            refresh != "never",
            self.unavailable == "anonymous",
            (scope.get("client"), headers),
            sent.conflicting,
            sent.is_former,
        )

    async def _serve_without(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what has no session: the lifespan, at whose end the store is closed."""

        async def close_and_send(message: Any) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.store.aclose()
            await send(message)

        await self.app(scope, receive, close_and_send)


def text_of(store: Any) -> Any:
    """Return a URL as text: pydantic's `RedisDsn`, for instance, is no str."""
    return str(store) if type(store).__name__.endswith(("Dsn", "Url")) else store


def _ask_bind(function: Callable[[Scope], str], scope: Scope) -> str:
    text = function(scope)
    if not isinstance(text, str):
        raise TypeError(
            f"The function given as SessionMiddleware(bind=...) returned {shown(text)}: return a "
            "text."
        )
    return text


def _ask_cookie(function: Any, scope: Scope) -> CookiePolicy:
    cookie = function(scope)
    if not isinstance(cookie, CookiePolicy):
        raise TypeError(
            f"The function given as SessionMiddleware(cookie=...) returned {shown(cookie)}: return "
            "a CookiePolicy."
        )
    return cookie


def _is_ending(bind: object, on_bind_change: object) -> bool:
    if bind is not None:
        refuse_no_function("SessionMiddleware(bind)", bind, "a function of the scope, or None")
    if not isinstance(on_bind_change, str) or on_bind_change not in ("end", "login"):
        raise ValueError(
            f"SessionMiddleware(on_bind_change={shown(on_bind_change)}): use 'end' or 'login'."
        )
    return on_bind_change == "end"


def _ask_refresh(function: Callable[[Scope], Refresh], scope: Scope) -> Refresh:
    refresh = function(scope)
    if not isinstance(refresh, str) or refresh not in _REFRESH:
        raise ValueError(
            f"The function given as SessionMiddleware(refresh=...) returned {shown(refresh)}: "
            "return 'request', 'load' or 'never'."
        )
    return refresh


def _refuse_nonsense(
    store: object, cookie: object, autoload: object, refresh: object, unavailable: object
) -> None:
    if not isinstance(store, SessionStore | str):
        raise TypeError(
            f"SessionMiddleware(store=...) is a SessionStore or a Redis URL, not "
            f"{type(store).__name__}. Wrap a client: SessionStore(client)."
        )
    is_usable = cookie is None or isinstance(cookie, CookiePolicy) or callable(cookie)
    if not is_usable or is_async(cookie):
        raise TypeError(
            "SessionMiddleware(cookie=...) is a CookiePolicy, or a plain function of the scope "
            f"that returns one, not {shown(cookie)}. To choose the name, give "
            'CookiePolicy(name="...").'
        )
    if not isinstance(autoload, bool) and not callable(autoload):
        raise TypeError(
            f"SessionMiddleware(autoload={shown(autoload)}): use True, False, or a function of the "
            "scope that returns one of them."
        )
    if is_async(refresh):
        raise TypeError(
            "SessionMiddleware(refresh=...) is asked before the session exists, so it can't be an "
            "async function. Use a plain one."
        )
    if not callable(refresh) and not (isinstance(refresh, str) and refresh in _REFRESH):
        raise ValueError(
            f"SessionMiddleware(refresh={shown(refresh)}): use 'request', 'load' or 'never', or a "
            "function of the scope that returns one of them."
        )
    if not callable(unavailable) and not (
        isinstance(unavailable, str) and unavailable in ("fail", "anonymous")
    ):
        raise ValueError(
            f"SessionMiddleware(unavailable={shown(unavailable)}): use 'fail' or 'anonymous', or "
            "an ASGI app that answers instead."
        )
