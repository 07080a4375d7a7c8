"""
The last ten products that somebody has looked at: how does none get lost between two tabs?

    uvicorn examples.recipes.recently_viewed:app

`append` adds to the list in Redis, so tabs that load at the same time all count, and the list need
not be read for it. $REDIS_URL names your Redis.
"""

import os

from fastapi import FastAPI

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


@app.get("/products/{sku}")
async def product(sku: str, session: SessionDep) -> dict[str, str]:
    await session.append("seen", sku, keep=10)
    return {"sku": sku}


@app.get("/seen")
async def seen(session: SessionDep) -> list[str]:
    return list(reversed(session.get("seen", [])))
