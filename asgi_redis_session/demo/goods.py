"""What the shop sells, where, and for how much; and what is in a cart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "BRANCHES",
    "CURRENCIES",
    "PRODUCTS",
    "THEMES",
    "Branch",
    "Currency",
    "Product",
    "Theme",
    "cart_of",
    "field_of",
    "in_currency",
    "price",
]

Theme = Literal["auto", "light", "dark"]
Currency = Literal["EUR", "GBP", "USD"]
Branch = Literal["harbour", "market", "station"]

THEMES: dict[Theme, str] = {"auto": "as the system", "light": "light", "dark": "dark"}
CURRENCIES: dict[Currency, str] = {"EUR": "€ euro", "GBP": "£ pound", "USD": "$ dollar"}
#: The tenants of the shop's sessions.
BRANCHES: dict[Branch, str] = {
    "harbour": "Harbour",
    "market": "Market square",
    "station": "Station",
}
_SYMBOLS: dict[str, tuple[str, float]] = {"EUR": ("€", 1.0), "GBP": ("£", 0.86), "USD": ("$", 1.17)}


@dataclass(frozen=True, slots=True)
class Product:
    """*cents*: its price in euro cents."""

    sku: str
    name: str
    about: str
    cents: int


PRODUCTS = {
    product.sku: product
    for product in (
        Product("tea", "Green tea", "Sencha, 100 g", 850),
        Product("bread", "Rye bread", "Baked this morning", 420),
        Product("honey", "Honey", "Lime blossom, 250 g", 690),
        Product("pears", "Pears", "Ripe, 1 kg", 380),
        Product("cheese", "Cheese", "Aged for a year, 200 g", 740),
        Product("jug", "Jug", "Stoneware, one litre", 3200),
    )
}


def field_of(sku: str) -> str:
    """Return the field of a session that counts this product; each has its own."""
    return f"cart:{sku}"


def cart_of(fields: Mapping[str, Any]) -> dict[str, int]:
    """Return what is in the cart of a session with these fields, by product."""
    counted = {sku: fields.get(field_of(sku), 0) for sku in PRODUCTS}
    return {sku: number for sku, number in counted.items() if number > 0}


def in_currency(cents: int, currency: str) -> int:
    """Return a number of euro cents in the cents of another currency."""
    return round(cents * _SYMBOLS[currency][1])


def price(cents: int, currency: str) -> str:
    """Write a number of cents of this currency as a price."""
    return f"{_SYMBOLS[currency][0]}\N{NO-BREAK SPACE}{cents / 100:.2f}"
