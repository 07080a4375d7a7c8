"""
One HTTP response, or one WebSocket: the commit, the cookie, and what is sent when either fails.

What the app has staged is committed before the response starts, so that everything the browser sees
acknowledged is in Redis. `docs/outcomes.md` lists every way in which an exchange can end.
"""

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal

import anyio

from .caching import Headers
from .engine import actions
from .engine.state import SessionState
from .errors import (
    DurabilityNotReached,
    SessionError,
    SessionGone,
    SessionUnavailable,
    SessionValueError,
)
from .nesting import Layer, warn_of_other
from .records import about

__all__ = [
    "ASGIApp",
    "Exchange",
    "HTTPExchange",
    "Receive",
    "Refresh",
    "Scope",
    "Send",
    "WebSocketExchange",
]

logger = logging.getLogger("asgi_redis_session")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[..., Awaitable[None]]  # frameworks disagree on how to spell the types
Refresh = Literal["request", "load", "never"]

_SERVER_ERROR = 500
_NOTHING_CARRIED: Headers = []
#: Redis has not done, or not confirmed, what the app asked for. The client should try again.
_TryAgain = SessionUnavailable | DurabilityNotReached

_TRY_AGAIN_LATER, _INTERNAL_ERROR = 1013, 1011  # WebSocket close codes, RFC 6455 and IANA

_SENTENCES = {
    HTTPStatus.INTERNAL_SERVER_ERROR: b"The session could not be saved.\n",
    HTTPStatus.SERVICE_UNAVAILABLE: b"Sessions are not available. Please try again shortly.\n",
}


class Exchange:
    """
    What HTTP responses and WebSockets have in common.

    *responder*: an ASGI app that answers in place of the app when the session can't be read or
    saved; None for a plain 503 or 500.
    """

    __slots__ = (
        "_is_failing",
        "_is_replaced",
        "_is_started",
        "_layer",
        "_receive",
        "_refresh",
        "_responder",
        "_scope",
        "_send",
        "_session",
        "_state",
    )

    def __init__(  # noqa: PLR0917  (keywords would cost each request a dict)
        self,
        state: SessionState,
        layer: Layer,
        refresh: Refresh,
        responder: ASGIApp | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._state = state
        self._layer = layer
        self._refresh = refresh
        self._responder = responder
        self._scope = scope
        self._receive = receive
        self._send = send
        self._session = scope[layer.key]  # what the middleware has put there
        self._is_started = False  # the response has begun, or the socket was accepted
        self._is_failing = False  # a 5xx: what is staged must not be written any more
        self._is_replaced = False  # we answered in place of the app; its messages are dropped

    @property
    def receive(self) -> Receive:
        """What the app gets in place of the server's `receive`."""
        return self._receive

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message in place of the server's `send`."""
        raise NotImplementedError

    async def handle_error(self, error: Exception) -> bool:
        """
        Handle an exception from the app; returns True if it must not be raised again.

        It may return False although an answer was sent.
        """
        raise NotImplementedError

    async def finish(self) -> None:
        """The app has returned: write what background tasks and streams have changed."""
        if not self._is_started or self._is_failing or self._is_replaced:
            self._state.discard()
        elif self._state.may_have_changes:
            await self._commit_late()

    async def _commit_late(self) -> None:
        try:
            await self._commit()
        except SessionError as error:
            # It is too late to answer the browser, and raising would add nothing to the log.
            is_kept = isinstance(error, DurabilityNotReached)
            outcome = "may still be lost" if is_kept else "was not saved"
            logger.exception(
                "A change made after the response had started %s.",
                outcome,
                extra=about("late_write", outcome=outcome),
            )

    async def _commit(self) -> None:
        if self._is_failing:
            self._state.discard()
            return
        try:
            # A client that disconnects must not cancel a commit: the id of a new session should
            # still reach the response.
            with anyio.CancelScope(shield=True):
                await actions.commit(self._state)
        except SessionGone:
            pass  # an event has been reported; the response goes out without a cookie

    def _start(self) -> None:
        """The response starts: from now on, the browser can't be given a new id."""
        self._is_started = True
        self._state.seal()
        if self._refresh == "request":
            self._state.extend_soon()

    def _carried(self) -> Headers:
        """Return the headers that carry an id, or its end; none if the client's id is right."""
        change = self._state.pop_cookie_change()
        if change is None and not self._state.conflicting:
            return _NOTHING_CARRIED
        return self._layer.carrier.headers_for(change, self._scope)


class HTTPExchange(Exchange):
    """One HTTP request and its response."""

    __slots__ = ()

    def send(self, message: Message) -> Awaitable[None]:  # noqa: D102  (as in Exchange)
        if not self._is_started and message["type"] == "http.response.start":
            return self._send_start(message)
        return _nothing() if self._is_replaced else self._send(message)

    async def _send_start(self, message: Message) -> None:
        self._is_failing = message["status"] >= _SERVER_ERROR
        # Starlette's ServerErrorMiddleware, for instance, sends its 500 while it handles the error.
        if self._is_failing and (failure := _failure_behind(sys.exception())) is not None:
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE, failure)
            return
        try:
            if self._scope.get(self._layer.key) is not self._session:
                await self._heed_scope()
            if self._state.may_have_changes:
                await self._commit()
        except SessionError as error:
            await self._replace(error)
            return
        if self._state.repeats_cookie:
            await actions.repeat_cookie(self._state)
        self._start()
        await self._send(self._with_headers(message))

    async def _heed_scope(self) -> None:
        """
        There is something else in the scope where the session was.

        Litestar's `set_session()` and `clear_session()` put it there, to replace the data or to end
        the session. Elsewhere it belongs to another middleware, such as that of a mounted app.
        """
        key, session = self._layer.key, self._session
        found = self._scope.get(key)
        if key != "session" or "litestar_app" not in self._scope:
            warn_of_other(found, "inside")
            return
        if self._is_failing:
            pass  # what is staged is dropped, and so is this
        elif isinstance(found, Mapping):
            await actions.load(self._state)
            session.clear()
            session.update(found)
        else:
            await actions.logout(self._state)
        self._scope[key] = session

    async def handle_error(self, error: Exception) -> bool:  # noqa: D102  (as in Exchange)
        self._is_failing = True
        self._state.discard()
        failure = _failure_behind(error)
        if failure is not None and not self._is_started:
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE, failure)
        return self._is_replaced and failure is error

    async def _replace(self, error: SessionError) -> None:
        """The commit has failed. Nothing may be raised out of `send`, so we answer instead."""
        self._state.discard()
        if isinstance(error, _TryAgain):
            await self._answer(HTTPStatus.SERVICE_UNAVAILABLE, error)
        else:
            _log_unsaved(error)
            await self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, error)

    async def _answer(self, status: HTTPStatus, error: Exception) -> None:
        self._is_replaced = True
        # The answer depends on the session, even if the app never came to use it.
        self._state.accessed = True
        if not self._is_started:
            self._is_started = True
            self._state.seal()
        if self._responder is not None and await self._respond(self._responder, error):
            return
        text = _SENTENCES[status]
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        start = {"type": "http.response.start", "status": int(status), "headers": headers}
        await self._send(self._with_headers(start))
        await self._send({"type": "http.response.body", "body": text})

    async def _respond(self, responder: ASGIApp, error: Exception) -> bool:
        """Let the app's own responder answer; returns whether it has started a response."""
        has_started = False

        async def send(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message = self._with_headers(message)
            await self._send(message)

        try:
            await responder({**self._scope, "session.error": error}, self._receive, send)
        except Exception:
            logger.exception(
                "The app given as SessionMiddleware(unavailable=...) failed.",
                extra=about("unavailable_app_failed"),
            )
        return has_started

    def _with_headers(self, message: Message) -> Message:
        """The message with `Set-Cookie`, `Vary` and `Cache-Control`, where they are needed."""
        carried = self._carried()
        if not carried and not self._state.accessed:
            return message
        headers = list(message.get("headers", ()))
        self._layer.marks.put(headers, self._scope, carried)
        return {**message, "headers": headers}


class WebSocketExchange(Exchange):
    """One WebSocket."""

    __slots__ = ()

    async def send(self, message: Message) -> None:  # noqa: D102  (as in Exchange)
        if self._is_replaced:
            return
        kind = message["type"]
        try:
            if kind == "websocket.accept" and not self._is_started:
                if self._state.may_have_changes:
                    await self._commit()
                if self._state.repeats_cookie:
                    await actions.repeat_cookie(self._state)
                self._start()
                message = self._accept(message)
            elif kind == "websocket.close" and self._is_started and not self._is_failing:
                if self._state.may_have_changes:
                    await self._commit()
            elif kind in ("websocket.close", "websocket.http.response.start"):
                # Refused before it was accepted, or closed: what is staged will not be written.
                self._is_failing = True
                self._state.discard()
        except SessionError as error:
            await self._replace(error)
            return
        await self._send(message)

    @property
    def receive(self) -> Receive:  # noqa: D102  (as in Exchange)
        return self._receive_message

    async def _receive_message(self) -> Message:
        message = await self._receive()
        is_open = self._is_started and not self._is_failing
        is_last = message["type"] == "websocket.disconnect"
        if is_last and is_open and self._state.may_have_changes:
            # Most apps let their framework's exception for this rise: it is not a failure.
            await self._commit_late()
        return message

    async def handle_error(self, error: Exception) -> bool:  # noqa: D102  (as in Exchange)
        self._is_failing = True
        self._state.discard()
        failure = _failure_behind(error)
        if failure is not None and not self._is_replaced:
            # The socket may be closed already.
            with suppress(OSError, RuntimeError):
                await self._close(_INTERNAL_ERROR if self._is_started else _TRY_AGAIN_LATER)
        return failure is error

    def _accept(self, message: Message) -> Message:
        if self._refresh != "never":
            self._state.extend_with_every_command()
        carried = self._carried()
        if not carried:
            return message
        return {**message, "headers": [*message.get("headers", ()), *carried]}

    async def _replace(self, error: SessionError) -> None:
        self._state.discard()
        if not isinstance(error, _TryAgain):
            _log_unsaved(error)
        is_final = self._is_started or isinstance(error, SessionValueError)
        await self._close(_INTERNAL_ERROR if is_final else _TRY_AGAIN_LATER)

    async def _close(self, code: int) -> None:
        self._is_replaced = True
        await self._send({"type": "websocket.close", "code": code, "reason": ""})


def _log_unsaved(error: Exception) -> None:
    about_it = about("session_not_saved", reason=str(error))
    logger.error("The session was not saved: %s", error, exc_info=error, extra=about_it)


async def _nothing() -> None:
    """What becomes of a message that is not sent."""


def _failure_behind(error: BaseException | None) -> _TryAgain | None:
    """Return the failure of Redis that *error* is, contains, or was raised because of, if any."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        if isinstance(error, _TryAgain):
            return error
        seen.add(id(error))
        waiting += (error.__context__, error.__cause__)
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
    return None
