"""
A shop: how does an app keep logins, carts and preferences in its sessions?

    python -m examples.shop [--port N]    starts a private redis-server, unless $REDIS_URL is set
    uvicorn examples.shop:app             uses $REDIS_URL; any number of instances can share it

Keys begin with $SESSION_PREFIX. With SHOP_HTTPS=1, browsers send the cookie over HTTPS only.
"""

import os
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Form, HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from asgi_redis_session import CookiePolicy, SessionMiddleware, SessionStore
from asgi_redis_session.fastapi import SessionDep
from examples.demo import run
from examples.recipes import session_ends as ends
from examples.shop_page import PRODUCTS, Currency, Theme, render

routes = APIRouter(default_response_class=RedirectResponse)


@routes.get("/", response_class=HTMLResponse)
async def page(session: SessionDep) -> str:
    return render(session)


@routes.get("/api/session", response_class=JSONResponse)
async def show(session: SessionDep) -> dict[str, Any]:
    return {"user": session.user_id, **session}


@routes.post("/login", status_code=303)
async def login(session: SessionDep, name: Annotated[str, Form(max_length=40)]) -> str:
    await session.login(name.strip() or "Guest")
    return "/"


@routes.post("/logout", status_code=303)
async def logout(session: SessionDep) -> str:
    await session.logout()
    return "/"


@routes.post("/cart/{sku}", status_code=303)
async def put(session: SessionDep, sku: str, by: Annotated[Literal["1", "-1"], Form()]) -> str:
    if sku not in PRODUCTS:
        raise HTTPException(404, "There is no such product.")
    session.setdefault("cart", {}).setdefault(sku, 0)
    session["cart"][sku] += int(by)
    if session["cart"][sku] < 1:
        del session["cart"][sku]
    return "/"


@routes.post("/preferences", status_code=303)
async def prefer(
    session: SessionDep, theme: Annotated[Theme, Form()], currency: Annotated[Currency, Form()]
) -> str:
    session.update(theme=theme, currency=currency)
    return "/"


def make_app(redis_url: str) -> FastAPI:
    store = SessionStore.from_url(redis_url, prefix=os.environ.get("SESSION_PREFIX", "shop"))
    policy = CookiePolicy if os.environ.get("SHOP_HTTPS") == "1" else CookiePolicy.for_development
    app = FastAPI(title="Shop")
    app.add_middleware(SessionMiddleware, store=store, cookie=policy(), refresh=ends.refresh)
    app.include_router(routes)
    app.include_router(ends.routes)
    return app


if __name__ == "__main__":
    run(make_app)
else:
    app = make_app(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
