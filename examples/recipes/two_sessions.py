"""
Two sessions in one app: how does a member of staff stay logged in to the shop as well?

    uvicorn examples.recipes.two_sessions:app

Each middleware has a key in the scope, a cookie, a lifetime and a prefix in Redis of its own.
Logging out of the admin area leaves the shop's session as it is. $REDIS_URL names your Redis.
"""

import os
import warnings
from typing import Annotated

from fastapi import Depends, FastAPI

from asgi_redis_session import CookiePolicy, Lifetime, Session, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import SessionDep, session_dep, user_dep

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
warnings.filterwarnings("ignore", "CookiePolicy", UserWarning)  # plain HTTP, for this example
AdminSession = Annotated[Session, Depends(session_dep(key="admin_session"))]
CurrentAdmin = Annotated[str, Depends(user_dep(key="admin_session"))]

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=SessionStore.from_url(URL, prefix="shop:session"),
    cookie=CookiePolicy(name="shop", secure=False),
)
app.add_middleware(
    SessionMiddleware,
    key="admin_session",
    store=SessionStore.from_url(
        URL, prefix="admin:session", lifetime=Lifetime(idle=300, absolute=3600)
    ),
    cookie=CookiePolicy(name="admin", secure=False, same_site="strict"),
)


@app.post("/login/{user}")
async def login(session: SessionDep, user: str) -> None:
    await session.login(user)


@app.get("/")
async def me(session: SessionDep) -> str | None:
    return session.user_id


@app.post("/admin/login/{user}")
async def admin_login(session: AdminSession, user: str) -> None:
    await session.login(user)  # a real app checks the password, and a second factor


@app.post("/admin/logout")
async def admin_logout(session: AdminSession) -> None:
    await session.logout()


@app.get("/admin")
async def report(admin: CurrentAdmin, session: SessionDep) -> dict[str, str | None]:
    return {"admin": admin, "shop": session.user_id}
