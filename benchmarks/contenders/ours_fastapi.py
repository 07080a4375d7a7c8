"""asgi-redis-session on FastAPI, with its dependency."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from asgi_redis_session import Session, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

from .ours import policy, store
from .shop import freeze_if_asked
from .shop_fastapi import add_routes


async def login(session: Session, user: str) -> None:
    await session.login(user)


async def logout(session: Session) -> None:
    await session.logout()


async def fetch(session: Session, name: str) -> Any:
    return (await session.fetch(name))[name]


async def unloaded(request: Request) -> Any:
    return request.session


app = FastAPI()
app.add_middleware(SessionMiddleware, store=store, cookie=policy)
add_routes(
    app,
    SessionDep,
    login=login,
    logout=logout,
    fetch=fetch,
    lazy=Annotated[Session, Depends(unloaded)],
)
freeze_if_asked()
