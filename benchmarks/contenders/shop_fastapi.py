"""The app that every FastAPI contender serves: the same routes, in FastAPI's own style."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from .shop import FIELDS, SIZES, users

Login = Callable[[Any, str], Awaitable[None]]
Logout = Callable[[Any], Awaitable[None]]
Fetch = Callable[[Any, str], Awaitable[Any]]


async def set_user(session: Any, user: str) -> None:
    session["user_id"] = user


async def clear(session: Any) -> None:
    session.clear()


async def item(session: Any, name: str) -> Any:
    return session[name]


def add_routes(
    app: FastAPI,
    dependency: Any,
    *,
    login: Login = set_user,
    logout: Logout = clear,
    fetch: Fetch = item,
    lazy: Any,
) -> None:
    """*dependency*: the annotation that gives an endpoint its session; *lazy*: one not loaded."""

    @app.get("/untouched", response_class=PlainTextResponse)
    async def untouched() -> str:
        return "untouched"

    @app.get("/read", response_class=PlainTextResponse)
    async def read(session: dependency) -> str:
        user: str = session["user"]
        return user

    @app.post("/write", response_class=PlainTextResponse)
    @app.post("/big/write", response_class=PlainTextResponse)
    async def write(session: dependency) -> str:
        session["n"] += 1
        return str(session["n"])

    @app.get("/big/read", response_class=PlainTextResponse)
    async def big_read(session: lazy) -> str:
        value: str = await fetch(session, "field100")
        return value

    @app.get("/show")
    async def show(session: dependency) -> dict[str, Any]:
        return dict(session)

    @app.post("/start/{size}", response_class=PlainTextResponse)
    async def start(session: dependency, size: str) -> str:
        session.update(SIZES[size])
        return "started"

    @app.post("/login", response_class=PlainTextResponse)
    async def log_in(session: dependency) -> str:
        await login(session, f"user {next(users)}")
        session.update(FIELDS)
        return "in"

    @app.post("/logout", response_class=PlainTextResponse)
    async def log_out(session: dependency) -> str:
        await logout(session)
        return "out"
