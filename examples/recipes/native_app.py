"""
A web shop with a native app: how does a client that keeps no cookies stay logged in?

    uvicorn examples.recipes.native_app:app

It sends its id as `Authorization: Bearer …`, and `Bearer new` as long as it has none. A response
with a new id has it in the header `Session-Id`; an empty one says to forget it. Browsers go on with
the cookie. $REDIS_URL names your Redis.
"""

import os

from fastapi import FastAPI

from asgi_redis_session import CookiePolicy, HeaderPolicy, SessionMiddleware
from asgi_redis_session.fastapi import CurrentUser, SessionDep

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
    carrier=HeaderPolicy(),
    cross_origin="refuse",  # it concerns requests with the cookie only
)


@app.post("/login/{user}")
async def login(session: SessionDep, user: str) -> None:
    await session.login(user)  # a real app checks the password first


@app.post("/logout")
async def logout(session: SessionDep) -> None:
    await session.logout()


@app.get("/me")
async def me(user: CurrentUser) -> str:
    return user
