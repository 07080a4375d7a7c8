"""The app of the shop: `uvicorn --factory` serves it anywhere, any number of times."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from ..cookie import CookiePolicy
from ..middleware import SessionMiddleware
from . import customers, live, office
from .asked import Recording
from .pages import STATIC
from .shop import Place, Shop

__all__ = ["make_app"]


def make_app(
    redis_url: str,
    *,
    prefix: str = "shop",
    cookie: CookiePolicy | None = None,
    place: Place = Place(),  # noqa: B008  (frozen)
) -> FastAPI:
    """
    Return the shop as an ASGI app. *redis_url* and *prefix*: of its store.

    *cookie*: None: one that plain HTTP may carry, for the loopback interface. *place*: which of
    several processes this is, to be shown.
    """
    shop = Shop(redis_url, prefix, place)
    app = FastAPI(lifespan=shop.open, openapi_url=None)
    app.state.shop = shop
    app.add_middleware(
        SessionMiddleware,
        store=shop.store,
        cookie=cookie or CookiePolicy(name="session", secure=False),
        refresh=live.refresh,
        cross_origin="refuse",
    )
    app.add_middleware(Recording, recorder=shop.asked)
    app.exception_handler(401)(_sign_in)
    for part in (customers, live, office):
        app.include_router(part.routes)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


async def _sign_in(_request: Any, _error: Exception) -> RedirectResponse:
    return RedirectResponse("/login", 303)
