"""
An account page: how do users see where they are logged in, and end sessions that are not theirs?

    uvicorn examples.devices:app

Log in at http://127.0.0.1:8000 with two browsers. Deleting the account needs a login within the
last five minutes; otherwise the app asks for the password again. $REDIS_URL names your Redis.
"""

import os
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import CurrentUser, SessionDep, require_fresh, require_user
from examples.devices_page import DELETE, DELETED, LOGIN, PASSWORD, account

store = SessionStore.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app = FastAPI(title="Account", default_response_class=RedirectResponse)
app.add_middleware(SessionMiddleware, store=store, cookie=CookiePolicy.for_development())
FreshUser = Annotated[str, Depends(require_fresh(timedelta(minutes=5)))]


@app.exception_handler(401)
async def unauthorized(request: Request, error: HTTPException) -> HTMLResponse:
    detail: Any = error.detail
    page = PASSWORD if detail["code"] == "reauthentication_required" else LOGIN
    return HTMLResponse(page, status_code=401, headers=error.headers)


@app.get("/", response_class=HTMLResponse)
async def page(session: SessionDep, user: CurrentUser) -> str:
    return account(user, await store.users.list(user, current=session))


@app.post("/login", status_code=303)
async def login(session: SessionDep, name: Annotated[str, Form(max_length=40)]) -> str:
    await session.login(name.strip() or "Guest")
    return "/"


@app.post("/logout", status_code=303)
async def logout(session: SessionDep) -> str:
    await session.logout()
    return "/"


@app.post("/devices/{handle}/end", status_code=303)
async def end_device(handle: str, user: CurrentUser) -> str:
    await store.users.revoke(user, handle)  # False for another user's session
    return "/"


@app.post("/devices/end-others", status_code=303, dependencies=[Depends(require_user)])
async def end_others(session: SessionDep) -> str:
    await store.users.revoke_others(session)
    return "/"


@app.get("/delete", response_class=HTMLResponse)
async def ask(user: FreshUser) -> str:
    return DELETE


@app.post("/delete", response_class=HTMLResponse)
async def delete(session: SessionDep, user: FreshUser) -> str:
    await store.users.revoke_others(session)
    await session.logout()
    return DELETED


@app.post("/password", status_code=303)
async def confirm(session: SessionDep, user: CurrentUser, password: Annotated[str, Form()]) -> str:
    await session.login(user)  # a real app checks the password first
    return "/delete"
