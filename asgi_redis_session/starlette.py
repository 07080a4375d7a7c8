"""Starlette: a request's session, typed; its user as `request.user`; sockets that end with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .arguments import refuse_no_integer
from .live import ending_when_revoked, until_ended
from .nesting import checked_key
from .options import milliseconds
from .session import Session

__all__ = [
    "SessionAuthBackend",
    "SessionUser",
    "closing_when_revoked",
    "ending_when_revoked",
    "load_session",
    "load_session_at",
]

#: Policy violation (RFC 6455, 7.4.1): the usual code for "you may not be here any more".
_REVOKED = 1008


async def load_session(connection: HTTPConnection) -> Session:
    """
    Return the session of a request or WebSocket, loaded.

    It does what `await connection.session.load()` does. Type checkers refuse that, because
    Starlette declares `session` as a dict. Raises `SessionUnavailable`, and `RuntimeError` if
    `SessionMiddleware` is not installed.
    """
    return await _session_of(connection).load()


async def load_session_at(connection: HTTPConnection, key: str) -> Session:
    """
    Return a session of a request or WebSocket, loaded, of an app with several of them.

    *key*: that of its middleware, `SessionMiddleware(key=...)`. Raises as `load_session`.
    """
    return await _session_of(connection, key).load()


class SessionUser(BaseUser):
    """Who is logged in: what `SessionAuthBackend` puts into `request.user`."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id

    @property
    def is_authenticated(self) -> bool:
        """Always True: an anonymous request has Starlette's `UnauthenticatedUser`."""
        return True

    @property
    def display_name(self) -> str:
        """The user id; a session stores no other name."""
        return self.user_id

    @property
    def identity(self) -> str:
        """The user id."""
        return self.user_id


class SessionAuthBackend(AuthenticationBackend):
    """
    A backend for Starlette's `AuthenticationMiddleware`.

    `request.user` and the scope `authenticated` then follow `session.login()`. Add
    `SessionMiddleware` outside of it, which is before it in a `middleware=[…]` list. The backend
    loads the session of every request. *key*: that of the session's middleware.
    """

    def __init__(self, *, key: str = "session") -> None:
        self._key = checked_key("SessionAuthBackend(key)", key)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Called by Starlette for each request and WebSocket."""
        user_id = (await load_session_at(conn, self._key)).user_id
        if user_id is None:
            return None
        return AuthCredentials(["authenticated"]), SessionUser(user_id)


@asynccontextmanager
async def closing_when_revoked(
    websocket: WebSocket,
    *,
    every: timedelta | float = 0.5,
    code: int = _REVOKED,
    key: str = "session",
) -> AsyncIterator[None]:
    """
    Close an accepted WebSocket, and leave the block, soon after its session has ended.

        async with closing_when_revoked(websocket):
            async for text in websocket.iter_text(): ...

    With `SessionStore(push=True)` Redis reports the end. Else, and where its rights do not allow
    that, *every* says how often Redis is asked, as a timedelta or in seconds: one command, and the
    sockets of a process share round trips. It does not extend the session's TTL. While Redis is
    down, the socket stays open. *code*: the WebSocket close code (RFC 6455, 7.4). The reason that
    the client gets is the kind of `session.absence`: `"replaced"` after a login or a renewal in
    another tab (connect again, with the new cookie), else `"logged_out"`, `"revoked"` and so on.
    *key*: that of the session's middleware.
    """
    seconds = milliseconds("closing_when_revoked(every)", every) / 1000
    refuse_no_integer("closing_when_revoked(code)", code, 1000, 4999)
    session = _session_of(websocket, checked_key("closing_when_revoked(key)", key))
    block = anyio.CancelScope()

    async def watch() -> None:
        await until_ended(session, seconds)
        block.cancel()

    # Not a task group: what the block raises must not arrive in an ExceptionGroup.
    watcher = asyncio.create_task(watch())
    try:
        with block:
            yield
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])
    if block.cancelled_caught and websocket.application_state is WebSocketState.CONNECTED:
        absence = session.absence
        with suppress(WebSocketDisconnect, RuntimeError):  # the client may have left already
            await websocket.close(code, None if absence is None else absence.kind)


def _session_of(connection: HTTPConnection, key: str = "session") -> Session:
    session = connection.scope.get(key) if isinstance(key, str) else None
    if not isinstance(session, Session):
        checked_key("load_session_at(key)", key)
        option = "" if key == "session" else f", key={key!r}"
        raise RuntimeError(
            "There is no session of asgi-redis-session on this request. Add "
            f"`app.add_middleware(SessionMiddleware, store=...{option})` from asgi_redis_session, "
            "and no other session middleware."
        )
    return session
