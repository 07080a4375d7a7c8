"""
How does a page say why its user has to log in again?

    uvicorn examples.recipes.signed_out:app    uses $REDIS_URL

`session.absence` says why a request has no session. It is shown on the login page only, because
each request says it until the next login: the browser keeps its cookie.
"""

import os
from datetime import timedelta
from html import escape

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import CurrentUser, SessionDep

store = SessionStore.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    max_sessions_per_user=2,
    remember_ended=timedelta(days=1),
)
app = FastAPI()
app.add_middleware(SessionMiddleware, store=store, cookie=CookiePolicy.for_development())

WHY = {
    "limit": "You were signed out because you signed in elsewhere.",
    "revoked": "You were signed out: {reason}",
    "unknown": "Your session has ended.",
    "expired": "Your session has ended.",
}


def why_signed_out(session: Session) -> str:
    absence = session.absence
    if absence is None or absence.kind not in WHY:  # first visits, logouts
        return ""
    return WHY[absence.kind].format(reason=absence.reason)


@app.get("/login", response_class=HTMLResponse)
async def login_page(session: SessionDep) -> str:
    form = '<form method="post" action="/login/ann"><button>Log in</button></form>'
    return f"<!doctype html><title>Log in</title><p>{escape(why_signed_out(session))}</p>{form}"


@app.post("/login/{user}", response_class=RedirectResponse, status_code=303)
async def login(session: SessionDep, user: str) -> str:
    await session.login(user)
    return "/"


@app.get("/", response_class=Response)
async def home(session: SessionDep) -> Response:
    if session.user_id is None:
        return RedirectResponse("/login", 303)
    return Response(f"Hello, {session.user_id}")


@app.post("/password")
async def change_password(session: SessionDep, _user: CurrentUser) -> None:
    await store.users.revoke_others(session, reason="the password was changed.")


@app.post("/logout")
async def logout(session: SessionDep) -> None:
    await session.logout()
