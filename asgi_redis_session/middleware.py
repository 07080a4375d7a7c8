"""
The story of one request.

The middleware finds the id in the cookie, puts a `Session` into the scope, and wraps `send`: what
the app staged is committed before the response starts, so whatever the browser sees acknowledged is
in Redis. `docs/outcomes.md` lists every way in which a request can end.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal

import anyio

from .cookie import CookiePolicy, is_id
from .errors import (
    DurabilityNotReached,
    SessionError,
    SessionGone,
    SessionUnavailable,
    SessionValueError,
)
from .session import Session
from .store import SessionStore

__all__ = ["SessionMiddleware"]

logger = logging.getLogger("asgi_redis_session")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[..., Awaitable[None]]  # frameworks disagree on how to spell the types

_SERVER_ERROR = 500  # the first status that says: this was our fault
#: Redis has not done, or not promised, what the app asked for: the client should come again.
_COME_AGAIN = (SessionUnavailable, DurabilityNotReached)

_TRY_AGAIN_LATER, _INTERNAL_ERROR = 1013, 1011  # WebSocket close codes, RFC 6455 and IANA


class SessionMiddleware:
    """
    Server-side sessions for any ASGI app, as `scope["session"]` (Starlette: `request.session`).

    *store*: a `SessionStore`, or a Redis URL for one with all defaults.
    *autoload*: False, the app awaits `session.load()` where it needs the session; True, it is
    loaded before the app runs, so that code for Starlette's `SessionMiddleware` works unchanged; or
    a function of the scope that says which of the two.
    *refresh*: which requests keep a session alive. `"request"`: all that carry its cookie;
    `"load"`: those that use it; `"never"`: none.
    *unavailable*: what a request gets that needs its session while Redis is away. `"fail"`: 503;
    `"anonymous"`: an empty session that refuses writes. The cookie is left alone either way.

    It may wrap the app (`SessionMiddleware(app, …)`) or be added to it (`app.add_middleware(…)`).
    Installed twice, the outer one does the work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: SessionStore | str,
        cookie: CookiePolicy = CookiePolicy(),  # noqa: B008  (frozen)
        autoload: bool | Callable[[Scope], bool] = False,
        refresh: Literal["request", "load", "never"] = "request",
        unavailable: Literal["fail", "anonymous"] = "fail",
    ) -> None:
        if refresh not in ("request", "load", "never"):
            raise ValueError(
                f"SessionMiddleware(refresh={refresh!r}): use 'request', 'load' or 'never'."
            )
        if unavailable not in ("fail", "anonymous"):
            raise ValueError(
                f"SessionMiddleware(unavailable={unavailable!r}): use 'fail' or 'anonymous'."
            )
        if not isinstance(store, SessionStore | str):
            raise TypeError(
                f"SessionMiddleware(store=...) is a SessionStore or a Redis URL, not "
                f"{type(store).__name__}. Wrap a client: SessionStore(client)."
            )
        if not isinstance(cookie, CookiePolicy):
            raise TypeError(
                f"SessionMiddleware(cookie=...) is a CookiePolicy, not {type(cookie).__name__}. "
                'To choose the name, give CookiePolicy(name="...").'
            )
        self.app = app
        self.store = SessionStore.from_url(store) if isinstance(store, str) else store
        self.cookie = cookie
        self.autoload = autoload
        self.refresh = refresh
        self.unavailable = unavailable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind not in ("http", "websocket") or _is_served(scope):
            await self.app(scope, receive, send)
        else:
            session = scope["session"] = self._session(scope)
            exchange = (_Response if kind == "http" else _Socket)(self, session, send)
            autoload = self.autoload
            try:
                if autoload and (autoload is True or autoload(scope)):
                    try:
                        await session.load()
                    finally:
                        session.mark_unaccessed()
                await self.app(scope, exchange.watching(receive), exchange.send)
            except Exception as error:
                if not await exchange.fail(error):
                    raise
            except BaseException:  # cancelled: what was staged, and a login's place, are given up
                session.discard()
                raise
            else:
                if session.touched:
                    await exchange.finish()

    def _session(self, scope: Scope) -> Session:
        headers = scope.get("headers", ())
        values = self.cookie.values(headers)
        session_id = None
        if len(values) > 1:
            self.store.emit_conflict()
        elif values and is_id(value := values.pop()):
            session_id = value.decode()
        return Session(
            self.store,
            session_id,
            slide=self.refresh != "never",
            tolerant=self.unavailable == "anonymous",
            origin=(scope.get("client"), headers),
        )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def close_and_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.store.aclose()
            await send(message)

        await self.app(scope, receive, close_and_send)


class _Exchange:
    """What HTTP responses and WebSockets have in common: commit, tell the browser, take over."""

    __slots__ = ("_is_failing", "_is_ours", "_is_started", "_middleware", "_send", "_session")

    def __init__(self, middleware: SessionMiddleware, session: Session, send: Send) -> None:
        self._middleware = middleware
        self._session = session
        self._send = send
        self._is_started = False  # the response has begun, or the socket was accepted
        self._is_failing = False  # a 5xx: nothing staged may be written any more
        self._is_ours = False  # we answered in the app's place; the rest of its messages is dropped

    def send(self, message: Message) -> Awaitable[None]:
        raise NotImplementedError

    def watching(self, receive: Receive) -> Receive:
        """What the app receives, watched for what concerns the session."""
        return receive

    async def fail(self, error: Exception) -> bool:
        """The app raised; whether that was answered, so that the error need not rise further."""
        raise NotImplementedError

    async def finish(self) -> None:
        """The app has returned: write what background tasks and streams have changed."""
        if not self._is_started or self._is_failing or self._is_ours:
            self._session.discard()
        elif self._session.touched:
            await self._commit_late()

    async def _commit_late(self) -> None:
        try:
            await self._commit()
        except DurabilityNotReached:
            logger.exception("A change made after the response had started may still be lost.")
        except SessionError:
            # Too late to tell the browser, and raising would tell nobody more than this does.
            logger.exception("A change made after the response had started was not saved.")

    async def _commit(self) -> None:
        if self._is_failing:
            self._session.discard()
            return
        try:
            # A client that goes away must not leave a half-told story: the write is one step in
            # Redis anyway, but the id of a new session should still reach the response.
            with anyio.CancelScope(shield=True):
                await self._session.save()
        except SessionGone:
            pass  # the store has reported it; the response goes out without a cookie

    def _begin(self) -> None:
        """The response starts: close the door for new ids."""
        self._is_started = True
        self._session.seal()
        if self._middleware.refresh == "request":
            self._session.refresh()

    def _set_cookie(self) -> bytes | None:
        """The `Set-Cookie` that the browser needs; None if it has all it needs."""
        grant = self._session.take_grant()
        if grant is None:
            return None
        policy = self._middleware.cookie
        if grant.session_id is None:
            return policy.render_deletion()
        return policy.render(grant.session_id, grant.max_age_ms)


class _Response(_Exchange):
    """One HTTP exchange."""

    __slots__ = ()

    def _with_cookie(self, message: Message) -> Message:
        """The message with `Set-Cookie`, `Vary` and `Cache-Control`, as far as they are needed."""
        cookie = self._set_cookie()
        if cookie is None and not self._session.accessed:
            return message
        headers = list(message.get("headers", ()))
        _vary_on_cookie(headers)
        if cookie is not None:
            headers.append((b"set-cookie", cookie))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
        return {**message, "headers": headers}

    def send(self, message: Message) -> Awaitable[None]:
        if not self._is_started and message["type"] == "http.response.start":
            return self._send_start(message)
        return _nothing() if self._is_ours else self._send(message)

    async def _send_start(self, message: Message) -> None:
        session = self._session
        self._is_failing = message["status"] >= _SERVER_ERROR
        if self._is_failing and session.failure is not None:
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            if session.touched:
                await self._commit()
        except SessionError as error:
            await self._replace(error)
            return
        self._begin()
        await self._send(self._with_cookie(message))

    async def fail(self, error: Exception) -> bool:
        self._is_failing = True
        self._session.discard()
        comes_again = isinstance(error, _COME_AGAIN)
        if self._is_ours:
            return comes_again
        if (comes_again or self._session.failure is not None) and not self._is_started:
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
            return comes_again
        return False

    async def _replace(self, error: SessionError) -> None:
        """The commit failed: nothing may be raised out of `send`, so we answer instead."""
        self._session.discard()
        if isinstance(error, _COME_AGAIN):
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            logger.error("The session was not saved: %s", error, exc_info=error)
            await self._answer(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _answer(self, status: HTTPStatus) -> None:
        self._is_ours = True
        if not self._is_started:
            self._is_started = True
            self._session.seal()
        text = _SENTENCES[status]
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        start = {"type": "http.response.start", "status": int(status), "headers": headers}
        await self._send(self._with_cookie(start))
        await self._send({"type": "http.response.body", "body": text})


class _Socket(_Exchange):
    """One WebSocket."""

    __slots__ = ()

    async def send(self, message: Message) -> None:
        if self._is_ours:
            return
        kind = message["type"]
        try:
            if kind == "websocket.accept" and not self._is_started:
                if self._session.touched:
                    await self._commit()
                self._begin()
                message = self._accept(message)
            elif kind == "websocket.close" and self._is_started and not self._is_failing:
                if self._session.touched:
                    await self._commit()
            elif kind in ("websocket.close", "websocket.http.response.start"):
                self._deny()
        except SessionError as error:
            await self._replace(error)
            return
        await self._send(message)

    def watching(self, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            is_open = self._is_started and not self._is_failing
            if message["type"] == "websocket.disconnect" and is_open and self._session.touched:
                # Most apps let their framework's exception for this rise: it is no failure.
                await self._commit_late()
            return message

        return received

    async def fail(self, error: Exception) -> bool:
        self._is_failing = True
        self._session.discard()
        if not isinstance(error, _COME_AGAIN) or self._is_ours:
            return self._is_ours and isinstance(error, _COME_AGAIN)
        # The socket may be closed already; then there is nobody left to tell.
        with suppress(OSError, RuntimeError):
            await self._close(_INTERNAL_ERROR if self._is_started else _TRY_AGAIN_LATER)
        return True

    def _accept(self, message: Message) -> Message:
        if self._middleware.refresh != "never":
            self._session.outlive_request()
        cookie = self._set_cookie()
        if cookie is None:
            return message
        return {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}

    def _deny(self) -> None:
        """Refused before it was accepted, or closed: nothing staged will be written."""
        self._is_failing = True
        self._session.discard()

    async def _replace(self, error: SessionError) -> None:
        self._session.discard()
        if not isinstance(error, _COME_AGAIN):
            logger.error("The session was not saved: %s", error, exc_info=error)
        started = self._is_started or isinstance(error, SessionValueError)
        await self._close(_INTERNAL_ERROR if started else _TRY_AGAIN_LATER)

    async def _close(self, code: int) -> None:
        self._is_ours = True
        await self._send({"type": "websocket.close", "code": code, "reason": ""})


def _is_served(scope: Scope) -> bool:
    """Whether a middleware of ours further out has given it a session."""
    # Mostly there is none, and asking an abstract class about None is dear.
    return "session" in scope and isinstance(scope["session"], Session)


async def _nothing() -> None:
    """What becomes of a message that is not sent."""


_SENTENCES = {
    HTTPStatus.INTERNAL_SERVER_ERROR: b"The session could not be saved.\n",
    HTTPStatus.SERVICE_UNAVAILABLE: b"Sessions are not available. Please try again shortly.\n",
}


def _vary_on_cookie(headers: list[tuple[bytes, bytes]]) -> None:
    """Add `Cookie` to the response's `Vary`, unless it is there already (RFC 9110, 12.5.5)."""
    place, listed = -1, b""
    for index, (name, value) in enumerate(headers):
        if name == b"vary" or name.lower() == b"vary":
            place = index if place < 0 else place
            listed += value.lower() + b","
    if place < 0:
        headers.append((b"vary", b"Cookie"))
    elif not {b"cookie", b"*"} & {name.strip() for name in listed.split(b",")}:
        name, value = headers[place]
        headers[place] = (name, value + b", Cookie")
