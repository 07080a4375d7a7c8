"""The pages, made of the templates beside this file. Everything that users can type is escaped."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..info import SessionInfo
from ..session import Session
from .goods import BRANCHES, CURRENCIES, PRODUCTS, THEMES, cart_of, in_currency, price
from .inside import look_inside
from .shop import Shop

__all__ = ["STATIC", "back", "fragment", "page", "redis_panel"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
#: Scripts, styles and pictures come from the shop itself only.
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_MINUTE, _HOUR = 60, 3600


def ago(instant: datetime) -> str:
    """Say how long ago an instant was."""
    seconds = max(0, round((datetime.now(UTC) - instant).total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s ago"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    return f"{instant:%d %B, %H:%M} UTC"


def device(info: SessionInfo) -> str:
    """Name the device of a session."""
    return info.label or info.user_agent or "unknown device"


_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_TEMPLATES.globals.update(
    branches=BRANCHES, currencies=CURRENCIES, products=PRODUCTS, themes=THEMES, price=price
)
_TEMPLATES.filters.update(ago=ago, device=device)


async def page(
    name: str, shop: Shop, session: Session, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """Return a page of the shop, with what Redis holds of the session below it."""
    cart, currency = cart_of(session), session.get("currency", "EUR")
    html = fragment(
        name,
        session=session,
        cart=cart,
        in_cart=sum(cart.values()),
        currency=currency,
        prices={sku: in_currency(each.cents, currency) for sku, each in PRODUCTS.items()},
        place=shop.place,
        page=name,
        **await redis_panel(shop, session),
        **context,
    )
    return HTMLResponse(html, status, _HEADERS)


async def redis_panel(shop: Shop, session: Session) -> dict[str, Any]:
    """Return what the panel shows of a session."""
    requests = shop.asked.last_of(session.handle) if session.handle else ()
    return {"inside": await look_inside(shop.redis, shop.store, session), "requests": requests}


def fragment(name: str, **context: Any) -> str:
    """Return a template, filled in."""
    return _TEMPLATES.get_template(f"{name}.html").render(**context)


def back(path: str) -> RedirectResponse:
    """Answer a form: the browser gets this page."""
    return RedirectResponse(path, 303)
