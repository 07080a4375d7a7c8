"""Starlette's own `SessionMiddleware`: the whole session in a signed cookie."""

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware

from . import SECRET
from .shop import IDLE_SECONDS, Sessions, make_app

app = make_app(Sessions(), [Middleware(SessionMiddleware, secret_key=SECRET, max_age=IDLE_SECONDS)])
