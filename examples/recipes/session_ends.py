"""
How does a page warn before its session ends?

    uvicorn examples.recipes.session_ends:app    uses $REDIS_URL

The page asks how long the session lasts, by a request that does not extend it, and waits until two
minutes before that: `session_ends.js`.
"""

import os
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import SessionDep

SCRIPT = '<script src="/session/ends.js" defer></script>'
PAGE = """<!doctype html><title>Session</title>{script}
<p>{user}</p><form method="post" action="/login/ann"><button>Log in</button></form>"""

routes = APIRouter()


def refresh(scope: Any) -> Literal["never", "request"]:
    return "never" if scope["path"] == "/session/left" else "request"


@routes.get("/session/left")
@routes.get("/session/stay")
async def left(session: SessionDep) -> dict[str, float | None]:
    ends_in = session.expires_in
    return {"seconds": None if ends_in is None else ends_in.total_seconds()}


@routes.get("/session/ends.js")
async def script() -> FileResponse:
    return FileResponse(Path(__file__).with_suffix(".js"), media_type="text/javascript")


def make_app() -> FastAPI:
    store = SessionStore.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    app = FastAPI()
    cookie = CookiePolicy(name="session", secure=False)  # in production: CookiePolicy()
    app.add_middleware(SessionMiddleware, store=store, cookie=cookie, refresh=refresh)
    app.include_router(routes)

    @app.get("/", response_class=HTMLResponse)
    async def page(session: SessionDep) -> str:
        return PAGE.format(script=SCRIPT, user=session.user_id)

    @app.post("/login/{user}", response_class=RedirectResponse, status_code=303)
    async def login(session: SessionDep, user: str) -> str:
        await session.login(user)
        return "/"

    return app


app = make_app()
