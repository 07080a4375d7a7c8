"""
A draft that saves itself: how does a WebSocket use the session?

    uvicorn examples.websocket:app

Open http://127.0.0.1:8000, type, and reload: your text is still there. A response saves the session
when it starts; a socket calls `await session.save()`. A socket that is accepted can't set a cookie
any more, so the page creates the session. $REDIS_URL names your Redis.
"""

import os
from html import escape

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_redis_session import CookiePolicy, SessionGone, SessionMiddleware
from asgi_redis_session.starlette import load_session

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Draft</title>
<h1>Draft</h1><textarea rows="12" cols="60" maxlength="9999">{draft}</textarea>
<p><output>Nothing typed yet.</output>
<script type="module">
  const [draft, output] = document.querySelectorAll("textarea, output")
  const socket = new WebSocket(location.href.replace("http", "ws") + "draft")
  draft.oninput = () => socket.send(draft.value)
  socket.onmessage = ({{data}}) => output.value = data
  socket.onclose = ({{reason}}) => output.value = reason || "Disconnected."
</script>"""
POLICY_VIOLATION = 1008


async def page(request: Request) -> HTMLResponse:
    session = await load_session(request)
    return HTMLResponse(PAGE.format(draft=escape(session.setdefault("draft", ""))))


async def edit(websocket: WebSocket) -> None:
    session = await load_session(websocket)
    if session.is_new:
        await websocket.close(POLICY_VIOLATION)
        return
    await websocket.accept()
    async for draft in websocket.iter_text():
        session["draft"] = draft
        try:
            await session.save()
        except SessionGone:
            await websocket.close(POLICY_VIOLATION, "Your session has ended.")
            return
        await websocket.send_text(f"{len(draft)} characters saved.")


app = Starlette(
    routes=[Route("/", page), WebSocketRoute("/draft", edit)],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
