"""
Starlette's `SessionMiddleware` with the data in Redis: one changed import, one added argument.

    from asgi_redis_session.dropin import SessionMiddleware

    app.add_middleware(SessionMiddleware, secret_key=..., store="redis://localhost:6379/0")

`request.session` is a dict, as there. The verbs of `asgi_redis_session.Session` are not on it: an
app that wants them uses `asgi_redis_session.SessionMiddleware`.
"""

from .imports import FastAPIRedisSDK, LitestarSessions, Starsessions
from .middleware import RENEW_ON, SessionMiddleware
from .session import Session

__all__ = [
    "RENEW_ON",
    "FastAPIRedisSDK",
    "LitestarSessions",
    "Session",
    "SessionMiddleware",
    "Starsessions",
]
