"""
Moving over: what changes in an app that was written for Starlette's SessionMiddleware?

    uvicorn examples.dropin:app

One import, and one argument more: `request.session` is a dict as before, and its data is in Redis.
$REDIS_URL names your Redis.
"""

import os
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from asgi_redis_session.dropin import SessionMiddleware

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
LOGIN = '<form method="post" action="/login"><input name="name"><button>Log in</button></form>'
LOGOUT = '<form method="post" action="/logout"><button>Log out</button></form>'


async def home(request: Request) -> HTMLResponse:
    name = request.session.get("user")
    hello = f"<h1>Hello {escape(name or 'stranger')}</h1>"
    flashes = "".join(f"<p>{escape(text)}</p>" for text in request.session.pop("flashes", []))
    return HTMLResponse(hello + flashes + (LOGOUT if name else LOGIN))


async def login(request: Request) -> RedirectResponse:
    form = await request.form()
    request.session["user"] = str(form.get("name") or "nobody")
    request.session.setdefault("flashes", []).append("You are logged in.")
    return RedirectResponse("/", 303)


async def logout(request: Request) -> RedirectResponse:
    request.session.clear()
    return RedirectResponse("/", 303)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]
)
# It was `from starlette.middleware.sessions import SessionMiddleware`
# and `app.add_middleware(SessionMiddleware, secret_key="keep this secret")`.
app.add_middleware(SessionMiddleware, secret_key="keep this secret", store=URL)
