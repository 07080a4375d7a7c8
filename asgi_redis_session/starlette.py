"""Starlette: a request's session, typed; its user as `request.user`; sockets that end with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .errors import SessionUnavailable
from .session import Session

__all__ = ["SessionAuthBackend", "SessionUser", "closing_when_revoked", "load_session"]

#: Policy violation (RFC 6455, 7.4.1): the usual code for "you may not be here any more".
_REVOKED = 1008


async def load_session(connection: HTTPConnection) -> Session:
    """
    The session of a request or WebSocket, loaded.

    The same as `await connection.session.load()`, which type checkers refuse, because Starlette
    declares `session` a dict. Raises `SessionUnavailable`, or `RuntimeError` without our
    middleware.
    """
    session = connection.scope.get("session")
    if not isinstance(session, Session):
        raise RuntimeError(
            "There is no session of asgi-redis-session on this request. Add "
            "`app.add_middleware(SessionMiddleware, store=...)` from asgi_redis_session, and no "
            "other session middleware."
        )
    return await session.load()


class SessionUser(BaseUser):
    """Who is logged in: what `SessionAuthBackend` puts into `request.user`."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id

    @property
    def is_authenticated(self) -> bool:
        """True: an anonymous request has Starlette's `UnauthenticatedUser`."""
        return True

    @property
    def display_name(self) -> str:
        """The user id: sessions know no other name."""
        return self.user_id

    @property
    def identity(self) -> str:
        """The user id."""
        return self.user_id


class SessionAuthBackend(AuthenticationBackend):
    """
    For Starlette's `AuthenticationMiddleware`: `request.user` and the scope `authenticated` follow
    `session.login()`.

    Add `SessionMiddleware` outside of it (before it in a `middleware=[…]` list). It loads the
    session of every request that passes.
    """

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Starlette asks this for each request and WebSocket."""
        user_id = (await load_session(conn)).user_id
        if user_id is None:
            return None
        return AuthCredentials(["authenticated"]), SessionUser(user_id)


@asynccontextmanager
async def closing_when_revoked(
    websocket: WebSocket, *, every: timedelta | float = 0.5, code: int = _REVOKED
) -> AsyncIterator[None]:
    """
    Close an accepted WebSocket, and leave the block, soon after its session has ended.

        async with closing_when_revoked(websocket):
            async for text in websocket.iter_text(): ...

    Asks Redis *every* so many seconds (one command; the sockets of a process share its round
    trips). The session is not kept alive by that. While Redis is away, the socket stays open.
    """
    session: Session = websocket.scope["session"]
    seconds = every.total_seconds() if isinstance(every, timedelta) else every
    block = anyio.CancelScope()

    async def watch() -> None:
        while await _is_valid(session):  # noqa: ASYNC110  (Redis tells nobody by itself)
            await anyio.sleep(seconds)
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
        with suppress(WebSocketDisconnect, RuntimeError):  # the client may have left already
            await websocket.close(code)


async def _is_valid(session: Session) -> bool:
    try:
        return await session.still_valid()
    except SessionUnavailable:
        return True
