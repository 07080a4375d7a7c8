"""
Moving over: what changes in an app that was written for Starlette's SessionMiddleware?

    uvicorn examples.dropin:app

One import, and the line that adds the middleware. With `autoload=True` the session is loaded before
the app runs, so the app can use it like a dict. $REDIS_URL names your Redis.
"""

import os
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
LOGIN = '<form method="post" action="/login"><input name="name"><button>Log in</button></form>'
LOGOUT = '<form method="post" action="/logout"><button>Log out</button></form>'


async def home(request: Request) -> HTMLResponse:
    name = request.session.get("name")
    hello = f"<h1>Hello {escape(name or 'stranger')}</h1>"
    flashes = "".join(f"<p>{escape(text)}</p>" for text in request.session.pop("flashes", []))
    return HTMLResponse(hello + flashes + (LOGOUT if name else LOGIN))


async def login(request: Request) -> RedirectResponse:
    form = await request.form()
    request.session["name"] = str(form.get("name") or "nobody")
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
app.add_middleware(
    SessionMiddleware, store=URL, autoload=True, cookie=CookiePolicy.for_development()
)
