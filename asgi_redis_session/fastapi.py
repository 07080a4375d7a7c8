"""FastAPI: the session and its user as dependencies, documented in OpenAPI."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, HTTPException, Security, status
from fastapi.security import APIKeyCookie
from starlette.requests import HTTPConnection

from .cookie import CookiePolicy
from .options import milliseconds
from .session import Session
from .starlette import load_session

__all__ = ["CurrentUser", "SessionDep", "require_fresh", "require_user"]

SessionDep = Annotated[Session, Depends(load_session)]
"""
`Annotated[Session, Depends(load_session)]`: declare a parameter of this type to get the loaded
session, in endpoints, dependencies and WebSockets.

    @app.get("/cart")
    async def cart(session: SessionDep) -> list[str]:
        return session.get("cart", [])
"""


class _SessionCookie(APIKeyCookie):
    """Documents the cookie in OpenAPI. It checks nothing: the session does."""

    async def __call__(self, request: HTTPConnection) -> None:
        """Accept everything, also a WebSocket, which older versions of FastAPI would refuse."""


_cookie = _SessionCookie(
    name=CookiePolicy().name,
    scheme_name="session",
    description="The session cookie that logging in sets (under the name of your CookiePolicy).",
    auto_error=False,
)


async def require_user(session: SessionDep, _: Annotated[None, Security(_cookie)] = None) -> str:
    """
    Return the id of the user who is logged in; 401 with the code `login_required` if nobody is.

    For a whole route or router: `dependencies=[Depends(require_user)]`.
    """
    if session.user_id is None:
        raise _unauthorized("login_required", "Log in first.")
    return session.user_id


CurrentUser = Annotated[str, Depends(require_user)]
"""`Annotated[str, Depends(require_user)]`: the user's id as a parameter, or 401."""


def require_fresh(max_age: timedelta | float) -> Callable[[Session, str], Awaitable[str]]:
    """
    Return a dependency for sensitive actions: the user must have logged in recently.

        @app.post("/password", dependencies=[Depends(require_fresh(timedelta(minutes=5)))])

    *max_age*: how long ago at most, as a timedelta or in seconds, by Redis' clock (ASVS 7.5.1,
    7.5.3). It answers 401 with the code `login_required` if nobody is logged in, and with
    `reauthentication_required` if the login is too old: then ask for the password, and call
    `session.login` again.
    """
    milliseconds("require_fresh(max_age)", max_age)

    async def fresh_user(session: SessionDep, user_id: CurrentUser) -> str:
        if not session.is_fresh(max_age):
            raise _unauthorized("reauthentication_required", "Confirm your password first.")
        return user_id

    return fresh_user


def _unauthorized(code: str, message: str) -> HTTPException:
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED,
        detail={"code": code, "message": message},
        headers={"WWW-Authenticate": "Cookie"},
    )
