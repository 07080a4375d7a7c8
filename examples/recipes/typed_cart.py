"""
A cart with a type: how does a session hold more than JSON?

    uvicorn examples.recipes.typed_cart:app

`CART` has the field's name and its type. The dependency gives the cart, and what changes inside is
saved with the response. $REDIS_URL names your Redis.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI

from asgi_redis_session import CookiePolicy, Key, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep, SessionValue

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


@dataclass
class Item:
    sku: str
    price: Decimal
    added: datetime


@dataclass
class Cart:
    items: list[Item] = field(default_factory=list)


def from_names(old: Any) -> Any:
    """The first version of this shop stored a list of names."""
    return Cart([Item(sku, Decimal(0), datetime.now(UTC)) for sku in old])


CART = Key("cart", Cart, default=Cart(), upgrade=from_names)
CartDep = Annotated[Cart, SessionValue(CART)]


@app.post("/cart/{sku}")
async def add(sku: str, price: Decimal, cart: CartDep) -> Cart:
    cart.items.append(Item(sku, price, datetime.now(UTC)))
    return cart


@app.get("/cart")
async def total(cart: CartDep) -> Decimal:
    return sum((item.price for item in cart.items), Decimal(0))


@app.delete("/cart")
async def empty(session: SessionDep) -> None:
    session.pop(CART, None)
