"""
starlette-admin: how does its login page use our session?

    pip install starlette-admin python-multipart
    uvicorn examples.recipes.starlette_admin_admin:app

Open http://127.0.0.1:8000/admin; the password is "hush". $REDIS_URL names your Redis.
"""

import os
from datetime import timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin import BaseAdmin
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import LoginFailed

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session


class SessionLogin(AuthProvider):
    async def login(
        self, username: str, password: str, remember_me: bool, request: Request
    ) -> Response | None:
        if password != "hush":
            raise LoginFailed("Invalid username or password")
        session = await load_session(request)
        if remember_me:
            days = timedelta(days=14)
            await session.login(username, idle=days, absolute=timedelta(days=60), persistent=True)
        else:
            await session.login(username, persistent=False)
        return None

    async def logout(self, request: Request) -> Response | None:
        session = await load_session(request)
        await session.logout()
        return None

    async def authenticate(self, request: Request) -> AdminUser | None:
        session = await load_session(request)
        return None if session.user_id is None else AdminUser(username=session.user_id)


admin = BaseAdmin(
    auth_provider=SessionLogin(),
    secret_key=os.environ.get("SECRET", "signs the admin's own cookies"),
)
app = Starlette()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)
admin.mount_to(app)
