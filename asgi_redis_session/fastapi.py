"""FastAPI: the session and its user as dependencies, documented in OpenAPI."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from fastapi import Cookie, Depends, HTTPException, Security, status
from fastapi.security import APIKeyCookie
from fastapi.security.http import HTTPBase
from starlette.requests import HTTPConnection

from .arguments import refuse_other
from .cookie import CookiePolicy
from .engine.claims import checked_amr
from .key import Key
from .options import milliseconds
from .session import Session
from .starlette import load_session

__all__ = [
    "CurrentUser",
    "SessionDep",
    "SessionValue",
    "require_fresh",
    "require_user",
    "session_dep",
    "user_dep",
]

SessionDep = Annotated[Session, Depends(load_session)]
"""
`Annotated[Session, Depends(load_session)]`: declare a parameter of this type to get the loaded
session, in endpoints, dependencies and WebSockets.

    @app.get("/cart")
    async def cart(session: SessionDep) -> list[str]:
        return session.get("cart", [])
"""


def SessionValue(key: Key[Any]) -> Any:  # noqa: N802  (used like FastAPI's own `Depends`)
    """
    Return a dependency: the value of this key in the loaded session.

        @app.post("/cart")
        async def add(sku: str, cart: Annotated[Cart, SessionValue(CART)]) -> Cart:
            cart.items.append(sku)  # noticed, and saved with the response
            return cart

    Without the field, it is the key's default; None if it has none. Raises what `session[key]`
    raises for a value that does not fit.
    """
    refuse_other("SessionValue(key)", key, Key, "a Key")
    return _value_of(key)


# The schemes document in OpenAPI that a user is needed. They check nothing: the session does. So
# they accept everything, also a WebSocket, which older versions of FastAPI would refuse.


class _NamedCookie(APIKeyCookie):
    def __init__(self, name: str) -> None:
        description = "The session cookie, which logging in sets."
        super().__init__(
            name=name, scheme_name="session_cookie", description=description, auto_error=False
        )

    async def __call__(self, request: HTTPConnection) -> None: ...


class _AnyCookie(HTTPBase):
    """OpenAPI has no cookie without a name; this is the scheme that our 401 names."""

    def __init__(self) -> None:
        description = "A session cookie, which logging in sets."
        super().__init__(
            scheme="Cookie", scheme_name="session", description=description, auto_error=False
        )

    async def __call__(self, request: HTTPConnection) -> None: ...


async def require_user(
    session: SessionDep, _: Annotated[None, Security(_AnyCookie())] = None
) -> str:
    """
    Return the id of the user who is logged in; 401 with the code `login_required` if no user is.

    For a whole route or router: `dependencies=[Depends(require_user)]`. In OpenAPI, the cookie has
    no name; `user_dep` gives it one.
    """
    if session.user_id is None:
        raise _unauthorized("login_required", "Log in first.")
    return session.user_id


CurrentUser = Annotated[str, Depends(require_user)]
"""`Annotated[str, Depends(require_user)]`: the user's id as a parameter, or 401."""


def require_fresh(
    max_age: timedelta | float, *, amr: Sequence[str] = (), cookie_name: str | None = None
) -> Callable[..., Awaitable[str]]:
    """
    Return a dependency for sensitive actions: the user must have logged in recently.

        @app.post("/password", dependencies=[Depends(require_fresh(timedelta(minutes=5)))])

    *max_age*: how long ago at most, as a timedelta or in seconds, by Redis' clock (ASVS 7.5.1,
    7.5.3). *amr*: methods all of which that login must have used, such as `["otp"]`. It answers 401
    with the code `login_required` if no user is logged in, and with `reauthentication_required` if
    the login is too old, or lacks a method: then ask for the password, or for what `amr` in the
    answer names, and call `session.login` again. *cookie_name*: for OpenAPI, as in `user_dep`.
    """
    milliseconds("require_fresh(max_age)", max_age)
    methods = checked_amr("require_fresh(amr)", amr)
    user = require_user if cookie_name is None else user_dep(cookie_name=cookie_name)

    async def fresh_user(session: SessionDep, user_id: Annotated[str, Depends(user)]) -> str:
        if not session.is_fresh(max_age, amr=methods):
            raise _not_fresh(methods)
        return user_id

    return fresh_user


def session_dep(*, cookie_name: str) -> Callable[..., Awaitable[Session]]:
    """
    Return a dependency like that of `SessionDep`, which also documents the cookie in OpenAPI.

        policy = CookiePolicy(name="sid")
        SessionDep = Annotated[Session, Depends(session_dep(cookie_name=policy.name))]

    There the cookie is an optional parameter, because a session may be new.
    """
    return _session_of(CookiePolicy(name=cookie_name).name)


def user_dep(*, cookie_name: str) -> Callable[..., Awaitable[str]]:
    """
    Return a dependency like `require_user` that names the cookie in OpenAPI.

        CurrentUser = Annotated[str, Depends(user_dep(cookie_name=policy.name))]

    FastAPI makes that document without a look at the middleware, so `require_user` itself can't
    know which name it has.
    """
    return _user_of(CookiePolicy(name=cookie_name).name)


# Cached, so that `dependency_overrides` finds the same function, and a request calls it once.


@cache
def _session_of(name: str) -> Callable[..., Awaitable[Session]]:
    async def session(
        session: SessionDep, _: Annotated[str | None, Cookie(alias=name)] = None
    ) -> Session:
        return session

    return session


@cache
def _value_of(key: Key[Any]) -> Any:
    async def value(session: SessionDep) -> Any:
        return session.get(key)

    return Depends(value)


@cache
def _user_of(name: str) -> Callable[..., Awaitable[str]]:
    async def user(
        session: SessionDep, _: Annotated[None, Security(_NamedCookie(name))] = None
    ) -> str:
        return await require_user(session)

    return user


def _not_fresh(methods: Sequence[str]) -> HTTPException:
    code = "reauthentication_required"
    if not methods:
        return _unauthorized(code, "Confirm your password first.")
    return _unauthorized(code, f"Log in with {' and '.join(methods)} first.", amr=[*methods])


def _unauthorized(code: str, message: str, **more: list[str]) -> HTTPException:
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED,
        detail={"code": code, "message": message, **more},
        headers={"WWW-Authenticate": "Cookie"},
    )
