"""
A shopping cart: how does a FastAPI endpoint get its session?

    uvicorn examples.fastapi_cart:app

It declares a parameter of the type `SessionDep`. Try it at http://127.0.0.1:8000/docs. Changes
inside nested values are noticed and saved. The items are one field: if two requests change them at
once, the later one wins (docs/guide.md says how to avoid that). $REDIS_URL names your Redis.
"""

import os
from typing import Any

from fastapi import FastAPI

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

app = FastAPI(title="Cart")
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


@app.get("/cart")
async def show(session: SessionDep) -> dict[str, Any]:
    return {"items": session.get("items", []), "voucher": session.get("voucher")}


@app.post("/cart/items/{sku}")
async def add(sku: str, session: SessionDep, quantity: int = 1) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = session.setdefault("items", [])
    for item in items:
        if item["sku"] == sku:
            item["quantity"] += quantity
            break
    else:
        items.append({"sku": sku, "quantity": quantity})
    return items


@app.put("/cart/voucher/{code}")
async def redeem(code: str, session: SessionDep) -> None:
    session["voucher"] = code


@app.delete("/cart")
async def empty(session: SessionDep) -> None:
    session.pop("items", None)
    session.pop("voucher", None)
