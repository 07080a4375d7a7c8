"""
Sign in with Apple: how does the session survive a callback that is a POST from another site?

    pip install python-multipart
    uvicorn examples.recipes.form_post:app

With `response_mode=form_post`, the provider's page posts a form to your callback. Browsers send a
cookie with SameSite=Lax along with links and redirects from other sites, but not with their forms.
So the callback touches no session: it redirects to itself with GET, and that request brings the
cookie. $REDIS_URL names your Redis.
"""

import os
import secrets
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session

PROVIDER = os.environ.get("PROVIDER", "https://appleid.apple.com/auth/authorize")


async def login(request: Request) -> RedirectResponse:
    session = await load_session(request)
    session["state"] = secrets.token_urlsafe()
    question = {
        "client_id": "com.example.shop",
        "redirect_uri": str(request.url_for("callback")),
        "response_type": "code",
        "response_mode": "form_post",
        "scope": "email",
        "state": session["state"],
    }
    return RedirectResponse(f"{PROVIDER}?{urlencode(question)}", 303)


async def posted(request: Request) -> RedirectResponse:
    form = await request.form()
    answer = {name: str(form[name]) for name in ("code", "state", "error") if name in form}
    return RedirectResponse(f"{request.url.path}?{urlencode(answer)}", 303)


async def callback(request: Request) -> RedirectResponse:
    session = await load_session(request)
    state = await session.take("state")  # once
    if state is None or state != request.query_params.get("state"):
        raise HTTPException(400, "This login was not started in this browser.")
    await session.login(await user_of(request.query_params["code"]))
    return RedirectResponse("/", 303)


async def user_of(code: str) -> str:
    return f"whoever {code} is"  # exchange it at the provider, or let Authlib do all of this


app = Starlette(
    routes=[
        Route("/login", login),
        Route("/callback", posted, methods=["POST"]),
        Route("/callback", callback),
    ],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
