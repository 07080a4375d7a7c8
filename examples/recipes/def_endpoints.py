"""
`def` endpoints: how does code that runs in a thread await the session's verbs?

    uvicorn examples.recipes.def_endpoints:app

FastAPI runs `def` endpoints in threads. `SessionDep` has loaded the session before, so reading and
writing it needs no await; `anyio.from_thread.run` awaits the rest in the event loop. $REDIS_URL
names your Redis.
"""

import os
from typing import Any

from anyio import from_thread
from fastapi import FastAPI

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


@app.get("/")
def me(session: SessionDep) -> dict[str, Any]:
    return {"user": session.user_id, **session}


@app.put("/theme/{theme}")
def choose(session: SessionDep, theme: str) -> None:
    session["theme"] = theme  # written when the response starts


@app.post("/visits")
def visit(session: SessionDep) -> int:
    return from_thread.run(session.increment, "visits")


@app.post("/login/{name}")
def login(session: SessionDep, name: str) -> None:
    from_thread.run(session.login, name)


@app.post("/logout")
def logout(session: SessionDep) -> None:
    from_thread.run(session.logout)
