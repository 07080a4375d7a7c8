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
from .nesting import checked_key
from .options import milliseconds
from .session import Session
from .starlette import load_session, load_session_at

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


def SessionValue(  # noqa: N802  (used like FastAPI's own `Depends`)
    key: Key[Any], *, session_key: str = "session"
) -> Any:
    """
    Return a dependency: the value of this key in the loaded session.

        @app.post("/cart")
        async def add(sku: str, cart: Annotated[Cart, SessionValue(CART)]) -> Cart:
            cart.items.append(sku)  # noticed, and saved with the response
            return cart

    Without the field, it is the key's default; None if it has none. Raises what `session[key]`
    raises for a value that does not fit. *session_key*: that of the session's middleware.
    """
    refuse_other("SessionValue(key)", key, Key, "a Key")
    return _value_of(key, checked_key("SessionValue(session_key)", session_key))


# The schemes document in OpenAPI that a user is needed. They check nothing: the session does. So
# they accept everything, also a WebSocket, which older versions of FastAPI would refuse.


class _NamedCookie(APIKeyCookie):
    def __init__(self, key: str, name: str) -> None:
        description = "The session cookie, which logging in sets."
        super().__init__(
            name=name, scheme_name=f"{key}_cookie", description=description, auto_error=False
        )

    async def __call__(self, request: HTTPConnection) -> None: ...


class _AnyCookie(HTTPBase):
    """OpenAPI has no cookie without a name; this is the scheme that our 401 names."""

    def __init__(self, key: str) -> None:
        description = "A session cookie, which logging in sets."
        super().__init__(
            scheme="Cookie", scheme_name=key, description=description, auto_error=False
        )

    async def __call__(self, request: HTTPConnection) -> None: ...


async def require_user(
    session: SessionDep, _: Annotated[None, Security(_AnyCookie("session"))] = None
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
    max_age: timedelta | float,
    *,
    amr: Sequence[str] = (),
    cookie_name: str | None = None,
    key: str = "session",
) -> Callable[..., Awaitable[str]]:
    """
    Return a dependency for sensitive actions: the user must have logged in recently.

        @app.post("/password", dependencies=[Depends(require_fresh(timedelta(minutes=5)))])

    *max_age*: how long ago at most, as a timedelta or in seconds, by Redis' clock (ASVS 7.5.1,
    7.5.3). *amr*: methods all of which that login must have used, such as `["otp"]`. It answers 401
    with the code `login_required` if no user is logged in, and with `reauthentication_required` if
    the login is too old, or lacks a method: then ask for the password, or for what `amr` in the
    answer names, and call `session.login` again. *cookie_name*, *key*: as in `user_dep`.
    """
    milliseconds("require_fresh(max_age)", max_age)
    methods = checked_amr("require_fresh(amr)", amr)
    user = _user_of(checked_key("require_fresh(key)", key), _checked_name(cookie_name))
    loaded = Depends(_loader(key))

    async def fresh_user(
        session: Annotated[Session, loaded], user_id: Annotated[str, Depends(user)]
    ) -> str:
        if not session.is_fresh(max_age, amr=methods):
            raise _not_fresh(methods)
        return user_id

    return fresh_user


def session_dep(
    *, cookie_name: str | None = None, key: str = "session"
) -> Callable[..., Awaitable[Session]]:
    """
    Return a dependency like that of `SessionDep`, for another session, or with a cookie in OpenAPI.

        policy = CookiePolicy(name="admin")
        AdminSession = Annotated[
            Session, Depends(session_dep(key="admin_session", cookie_name=policy.name))
        ]

    *key*: that of the session's middleware, `SessionMiddleware(key=...)`. *cookie_name*: documents
    the cookie, as an optional parameter, because a session may be new.
    """
    return _session_of(checked_key("session_dep(key)", key), _checked_name(cookie_name))


def user_dep(
    *, cookie_name: str | None = None, key: str = "session"
) -> Callable[..., Awaitable[str]]:
    """
    Return a dependency like `require_user`, for another session, or with the cookie's name.

        CurrentUser = Annotated[str, Depends(user_dep(cookie_name=policy.name))]

    *key*: that of the session's middleware. *cookie_name*: for OpenAPI; FastAPI makes that document
    without a look at the middleware, so `require_user` itself can't know which name it has.
    """
    return _user_of(checked_key("user_dep(key)", key), _checked_name(cookie_name))


# Cached, so that `dependency_overrides` finds the same function, and a request calls it once.


@cache
def _loader(key: str) -> Callable[..., Awaitable[Session]]:
    if key == "session":
        return load_session

    async def load(connection: HTTPConnection) -> Session:
        return await load_session_at(connection, key)

    return load


@cache
def _session_of(key: str, name: str | None) -> Callable[..., Awaitable[Session]]:
    if name is None:
        return _loader(key)
    loaded = Depends(_loader(key))

    async def session(
        session: Annotated[Session, loaded],
        _: Annotated[str | None, Cookie(alias=name)] = None,
    ) -> Session:
        return session

    return session


@cache
def _value_of(key: Key[Any], session_key: str) -> Any:
    loaded = Depends(_loader(session_key))

    async def value(session: Annotated[Session, loaded]) -> Any:
        return session.get(key)

    return Depends(value)


@cache
def _user_of(key: str, name: str | None) -> Callable[..., Awaitable[str]]:
    if (key, name) == ("session", None):
        return require_user
    loaded = Depends(_loader(key))
    scheme = _AnyCookie(key) if name is None else _NamedCookie(key, name)

    async def user(
        session: Annotated[Session, loaded], _: Annotated[None, Security(scheme)] = None
    ) -> str:
        return await require_user(session)

    return user


def _checked_name(name: str | None) -> str | None:
    return None if name is None else CookiePolicy(name=name).name


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
