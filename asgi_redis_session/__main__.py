"""`python -m asgi_redis_session`: the command `asgi-redis-session`."""

from .cli import app

if __name__ == "__main__":
    app()
