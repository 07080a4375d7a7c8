"""
Log in with OpenID Connect: how does Authlib keep its state in our session?

    pip install authlib httpx
    uvicorn examples.recipes.openid_provider:app --port 9000
    uvicorn examples.recipes.authlib_login:app

Authlib writes to `request.session` itself, so the session is loaded before the app runs. $OPENID
names the provider's document; the second command is a provider to try it with. $REDIS_URL names
your Redis.
"""

import os

from authlib.integrations.starlette_client import OAuth, OAuthError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session

LOCAL = "http://127.0.0.1:9000/.well-known/openid-configuration"
oauth = OAuth()
oauth.register(
    "provider",
    server_metadata_url=os.environ.get("OPENID", LOCAL),
    client_id="shop",
    client_secret=os.environ.get("OPENID_SECRET", "a secret between the two"),
    client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
)


async def me(request: Request) -> JSONResponse:
    session = await load_session(request)
    return JSONResponse({"user": session.user_id, "email": session.get("email")})


async def login(request: Request) -> Response:
    answer: Response = await oauth.provider.authorize_redirect(request, request.url_for("callback"))
    return answer


async def callback(request: Request) -> RedirectResponse:
    try:
        token = await oauth.provider.authorize_access_token(request)  # checks the state
    except OAuthError as error:
        raise HTTPException(400, "This login was not started in this browser.") from error
    session = await load_session(request)
    await session.login(token["userinfo"]["sub"])  # a new id
    session["email"] = token["userinfo"]["email"]  # what you need; not the whole token
    return RedirectResponse("/", 303)


async def logout(request: Request) -> RedirectResponse:
    session = await load_session(request)
    await session.logout()
    return RedirectResponse("/", 303)


app = Starlette(
    routes=[
        Route("/", me),
        Route("/login", login),
        Route("/callback", callback),
        Route("/logout", logout, methods=["POST"]),
    ],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
            autoload=True,
        )
    ],
)
