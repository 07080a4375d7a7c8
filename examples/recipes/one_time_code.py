"""
A code by e-mail that works once, for five minutes, and three tries: what keeps count?

    uvicorn examples.recipes.one_time_code:app

The code and the counter are fields that end by Redis' clock. `take` removes the code, so that of
two requests at once, one gets it. $REDIS_URL names your Redis.
"""

import hmac
import os
import secrets
from datetime import timedelta

from fastapi import FastAPI, HTTPException

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

LASTS, TRIES = timedelta(minutes=5), 3

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


def send_mail(address: str, code: str) -> None:
    print(f"To {address}: your code is {code}")


@app.post("/code")
async def send_code(address: str, session: SessionDep) -> None:
    code = f"{secrets.randbelow(10**6):06}"
    session.set("code", [address, code], ttl=LASTS)
    session.set("tries", 0, ttl=LASTS)
    send_mail(address, code)


@app.post("/login")
async def log_in(code: str, session: SessionDep) -> None:
    if await session.increment("tries") > TRIES:
        await session.take("code")
    address, expected = session.get("code", ("", ""))
    if not hmac.compare_digest(code.encode(), expected.encode()) or not expected:
        raise HTTPException(401, "This code is wrong, or has ended.")
    if await session.take("code") is None:
        raise HTTPException(401, "This code was used already.")
    await session.login(address)
