"""fastapi-redis-sdk: Redis' own package for FastAPI, set up as its README shows."""

from fastapi import FastAPI
from redis_fastapi import FastAPIRedis, SessionDep, get_settings

from .shop import REDIS_URL, freeze_if_asked
from .shop_fastapi import add_routes

settings = get_settings()
settings.url = REDIS_URL
settings.session_cookie_https_only = False

app = FastAPI()
FastAPIRedis(app).lifespan().sessions()
add_routes(app, SessionDep, lazy=SessionDep)
freeze_if_asked()
