"""
No framework: how does a plain ASGI app use a session?

    uvicorn examples.bare_asgi:app

The middleware puts a `Session` into `scope["session"]`. Open some pages below
http://127.0.0.1:8000, then /forget. $REDIS_URL names your Redis.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def remember(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        # When the app has shut down, the middleware closes its connection to Redis.
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    session: Session = scope["session"]
    if scope["path"] == "/forget":
        await session.logout()
        text = "Forgotten.\n"
    else:
        await session.load()
        session.setdefault("pages", []).append(scope["path"])
        text = "You have been to " + ", ".join(session["pages"]) + "\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


app = SessionMiddleware(
    remember,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)
