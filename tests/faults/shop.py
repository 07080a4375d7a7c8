"""
The app that is used while things fail, and a browser that uses it without a network in between.

`python -m tests.faults.shop URL PREFIX` serves it with uvicorn, in a process that may be killed.
"""

import asyncio
import sys
from collections.abc import MutableMapping
from http.cookies import SimpleCookie
from typing import Any

import uvicorn

from asgi_redis_session import Session, SessionError, SessionMiddleware, SessionStore

from ..support.sessions import PLAIN

Scope = MutableMapping[str, Any]

OK, GONE, FAILED, UNAVAILABLE = 200, 410, 500, 503


class Shop:
    """
    `/login/ada`, `/add/7` (two fields in one commit), `/logout`, `/everywhere` (logs out
    everywhere), `/read`, `/slow/7` (as add, when the app has been told to end), and `/hello`, which
    has no use for its session and tells how many slow ones wait.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self.ending = asyncio.Event()
        self._verbs = {
            "login": self._login,
            "add": self._add,
            "slow": self._slow,
            "logout": self._logout,
            "everywhere": self._everywhere,
            "read": self._read,
        }
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        verb, _, what = scope["path"][1:].partition("/")
        status, body = OK, b"%d" % self._waiting
        if verb in self._verbs:
            session = await scope["session"].load()
            if session.is_new and verb != "login":
                status = GONE
            else:
                body = await self._verbs[verb](session, what)
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _login(self, session: Session, what: str) -> bytes:
        await session.login(what)
        return await self._add(session, "0")

    async def _add(self, session: Session, what: str) -> bytes:
        session[f"a{what}"] = session[f"b{what}"] = int(what)
        return b"added"

    async def _slow(self, session: Session, what: str) -> bytes:
        self._waiting += 1
        await self.ending.wait()
        self._waiting -= 1
        return await self._add(session, what)

    async def _logout(self, session: Session, what: str) -> bytes:
        await session.logout()
        return b"bye"

    async def _everywhere(self, session: Session, what: str) -> bytes:
        await self._store.users.revoke_all(session.user_id or "")
        return b"bye"

    async def _read(self, session: Session, what: str) -> bytes:
        return b"%d" % len(session)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})


def app_of(store: SessionStore, **options: Any) -> SessionMiddleware:
    """The shop behind the middleware."""
    return SessionMiddleware(Shop(store), store=store, cookie=PLAIN, **options)


class Browser:
    """One browser: holds the session cookie, and asks the app without a network in between."""

    def __init__(self, app: SessionMiddleware, session_id: str | None = None) -> None:
        self._app = app
        self.session_id = session_id

    async def get(self, path: str) -> int:
        """Make one request; returns the status. Only a response that has arrived counts."""
        headers = (
            [] if self.session_id is None else [(b"cookie", f"session={self.session_id}".encode())]
        )
        scope = {"type": "http", "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        try:
            await self._app(scope, _nothing, send)
        except SessionError:
            return FAILED  # as any server answers
        for name, value in messages[0]["headers"]:
            if name == b"set-cookie":
                cookie = SimpleCookie(value.decode())["session"]
                self.session_id = cookie.value or None
        status: int = messages[0]["status"]
        return status


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


def main(url: str, prefix: str) -> None:
    """Serve until SIGTERM; prints the port."""
    store = SessionStore.from_url(url, prefix=prefix, timeout=20)
    shop = Shop(store)
    app = SessionMiddleware(shop, store=store, cookie=PLAIN)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", backlog=1024)
    server = uvicorn.Server(config)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        while not server.should_exit:
            await asyncio.sleep(0.01)
        shop.ending.set()
        await serving

    asyncio.run(serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
