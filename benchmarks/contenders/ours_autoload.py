"""asgi-redis-session for code that was written for Starlette's sessions."""

from starlette.middleware import Middleware

from asgi_redis_session import SessionMiddleware

from .ours import policy, store
from .shop import Sessions, make_app

app = make_app(
    Sessions(), [Middleware(SessionMiddleware, store=store, cookie=policy, autoload=True)]
)
