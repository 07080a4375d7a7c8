"""
One app, before and after its move: with Starlette's middleware, and with the drop-in.

`uvicorn --factory tests.dropin.moving:before` and `tests.dropin.moving:after`.
"""

import os

from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_redis_session import SessionStore
from asgi_redis_session.dropin import SessionMiddleware

from .swapped import SECRET


def me(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.session))


def log_in(request: Request) -> JSONResponse:
    request.session["user"] = request.path_params["user"]
    return me(request)


def log_out(request: Request) -> JSONResponse:
    request.session.clear()
    return me(request)


def add(request: Request) -> JSONResponse:
    request.session[request.path_params["item"]] = True
    return me(request)


def _app() -> Starlette:
    return Starlette(
        routes=[
            Route("/me", me),
            Route("/login/{user}", log_in, methods=["POST"]),
            Route("/logout", log_out, methods=["POST"]),
            Route("/add/{item}", add, methods=["POST"]),
        ]
    )


def before() -> Starlette:
    app = _app()
    app.add_middleware(StarlettesMiddleware, secret_key=SECRET)
    return app


def after() -> Starlette:
    app = _app()
    store = SessionStore.from_url(os.environ["REDIS_URL"], prefix=os.environ["SESSION_PREFIX"])
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store, import_cookies=True)
    return app
