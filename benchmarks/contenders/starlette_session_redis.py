"""starlette-session with its Redis backend, which is synchronous: it blocks the event loop."""

from redis import Redis
from starlette.middleware import Middleware
from starlette_session import SessionMiddleware
from starlette_session.backends import BackendType

from . import SECRET
from .shop import IDLE_SECONDS, REDIS_URL, Sessions, make_app

app = make_app(
    Sessions(),
    [
        Middleware(
            SessionMiddleware,
            secret_key=SECRET,
            cookie_name="session",
            max_age=IDLE_SECONDS,
            backend_type=BackendType.redis,
            backend_client=Redis.from_url(REDIS_URL),
        )
    ],
)
