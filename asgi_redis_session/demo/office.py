"""The operator's pages. In a real shop, they ask for an operator's login first."""

import asyncio
import random
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Response

from ..fastapi import SessionDep
from .goods import BRANCHES, PRODUCTS, field_of
from .pages import back, page
from .shop import Shop, ShopDep

__all__ = ["routes"]

routes = APIRouter(prefix="/operator")

_SHOPPERS, _USERS = 200, 50


@routes.get("")
async def overview(shop: ShopDep, session: SessionDep) -> Response:
    """Show how many sessions there are, of which branch, with what in their carts."""
    figures, rates = await shop.operator.figures(), shop.rates.all()
    return await page("operator", shop, session, figures=figures, rates=rates)


@routes.post("/fill")
async def fill(shop: ShopDep) -> Response:
    """Let shoppers come in, so that there is something to see."""
    await asyncio.gather(*[_come_in(shop) for _ in range(_SHOPPERS)])
    return back("/operator")


@routes.get("/recall")
async def ask(shop: ShopDep, session: SessionDep, sku: str) -> Response:
    """Ask whether the sessions shall end whose carts hold a product."""
    number = await shop.operator.holding(_known(sku))
    return await page("recall", shop, session, product=PRODUCTS[sku], number=number)


@routes.post("/recall")
async def recall(shop: ShopDep, sku: Annotated[str, Form()]) -> Response:
    """End them."""
    name = PRODUCTS[_known(sku)].name
    await shop.operator.recall(sku, f"{name} was recalled")
    return back("/operator")


@routes.post("/end/{handle}")
async def end(shop: ShopDep, handle: str) -> Response:
    """End one session."""
    await shop.store.revoke(handle, reason="ended by the operator")
    return back("/operator")


async def _come_in(shop: Shop) -> None:
    async with shop.store.open(None) as opened:
        session = opened.session
        session["branch"] = random.choice(list(BRANCHES))  # noqa: S311  (no secret)
        for sku in random.sample(list(PRODUCTS), random.randint(0, 4)):  # noqa: S311
            session[field_of(sku)] = random.randint(1, 3)  # noqa: S311
        if random.random() < 0.5:  # noqa: PLR2004, S311
            await session.login(f"shopper-{random.randrange(_USERS)}")  # noqa: S311


def _known(sku: str) -> str:
    if sku not in PRODUCTS:
        raise HTTPException(404, "There is no such product.")
    return sku
