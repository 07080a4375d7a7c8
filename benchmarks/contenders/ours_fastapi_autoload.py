"""asgi-redis-session on FastAPI, loaded by the middleware: no dependency to be solved."""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from asgi_redis_session import SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

from .ours import policy, store
from .ours_fastapi import fetch, login, logout
from .shop import freeze_if_asked
from .shop_fastapi import add_routes

app = FastAPI()
app.add_middleware(SessionMiddleware, store=store, cookie=policy, autoload=True)


@app.get("/read", response_class=PlainTextResponse)
async def read(request: Request) -> str:
    user: str = request.session["user"]
    return user


@app.post("/write", response_class=PlainTextResponse)
async def write(request: Request) -> str:
    request.session["n"] += 1
    return str(request.session["n"])


add_routes(app, SessionDep, login=login, logout=logout, fetch=fetch, lazy=SessionDep)
freeze_if_asked()
