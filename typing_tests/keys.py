"""Typed fields, for type checkers only, like `app.py`."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, TypedDict, assert_type

from fastapi import FastAPI
from msgspec import Struct
from pydantic import BaseModel

from asgi_redis_session import Key, Session
from asgi_redis_session.fastapi import SessionValue


class Cart(Struct):
    items: list[str]


@dataclass
class Address:
    city: str


class Flash(TypedDict):
    text: str


class Profile(BaseModel):
    name: str


CART = Key("cart", Cart, default=Cart([]))
ADDRESS = Key("address", Address, on_misfit="raise")
FLASHES = Key("flashes", list[Flash], default=[])
PROFILE = Key("profile", Profile)
TAGS = Key("tags", set[str], default=set())
PLACE = Key("place", tuple[float, float])
SINCE = Key("since", datetime)
BORN = Key[date | None]("born", date | None, default=None)
OLD = Key("cart", Cart, upgrade=lambda old: {"items": old})


async def use(session: Session) -> None:
    assert_type(session[CART], Cart)
    assert_type(session.get(CART), Cart | None)
    assert_type(session.get(CART, None), Cart | None)
    assert_type(session.get(CART, Cart([])), Cart)
    assert_type(session[ADDRESS].city, str)
    assert_type(session[FLASHES], list[Flash])
    assert_type(session[PROFILE], Profile)
    assert_type(session[TAGS], set[str])
    assert_type(session[PLACE], tuple[float, float])
    assert_type(session[SINCE], datetime)
    assert_type(session[BORN], date | None)
    assert_type(session.pop(CART), Cart)
    assert_type(session.pop(CART, None), Cart | None)
    assert_type(CART in session, bool)
    del session[CART]
    session[CART] = Cart(["tea"])
    session[CART] = ["tea"]  # type: ignore[misc]
    session[SINCE] = date(2026, 1, 1)  # type: ignore[misc]
    assert_type(session["cart"], Any)
    session.set("otp", 7, ttl=60)
    session.set(CART, Cart([]), ttl=60.5)
    session.set(CART, 7, ttl=60)  # type: ignore[misc]
    assert_type(await session.transform(CART, lambda cart: cart), Cart)
    assert_type(await session.take(CART), Cart | None)
    assert_type(await session.take("cart"), Any)


app = FastAPI()


@app.post("/cart")
async def add(sku: str, cart: Annotated[Cart, SessionValue(CART)]) -> None:
    assert_type(cart, Cart)
    cart.items.append(sku)


Key("cart", Cart, on_misfit="ignore")  # type: ignore[call-overload]
Key(7, Cart)  # type: ignore[call-overload]
SessionValue("cart")  # type: ignore[arg-type]
