"""The page of the example shop: `shop.html`, filled in from the session."""

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Literal, get_args

from asgi_redis_session import Session

PAGE = Template(Path(__file__).with_name("shop.html").read_text("utf-8"))
PRODUCTS = {  # prices in euro cents
    "tea": ("🍵", "Green tea", "Sencha, 100 g", 850),
    "bread": ("🍞", "Rye bread", "Baked this morning", 420),
    "honey": ("🍯", "Honey", "Lime blossom, 250 g", 690),
    "pears": ("🍐", "Pears", "Ripe, 1 kg", 380),
    "cheese": ("🧀", "Cheese", "Aged for a year, 200 g", 740),
    "jug": ("🏺", "Jug", "Stoneware, one litre", 3200),
}
Theme = Literal["auto", "light", "dark"]
Currency = Literal["EUR", "GBP", "USD"]
CURRENCIES = {"EUR": ("€", 1.0), "GBP": ("£", 0.86), "USD": ("$", 1.17)}

LOGIN = """<form method="post" action="/login"><label>Your name
<input name="name" required maxlength="40" autocomplete="given-name"></label>
<button>Log in</button></form>"""
LOGOUT = """<form method="post" action="/logout"><p>Hello, <strong>{}</strong></p>
<button>Log out</button></form>"""
PRODUCT = """<li><span class="picture" aria-hidden="true">{1}</span><h3>{2}</h3><p>{3}</p>
<form method="post" action="/cart/{0}"><strong>{4}</strong>
<button name="by" value="1" aria-label="Add to cart: {2}">Add to cart</button></form></li>"""
ROW = """<tr><th scope="row">{1}<td>{2}<td><form method="post" action="/cart/{0}">
<button name="by" value="-1" aria-label="One less: {1}">&minus;</button> {3}
<button name="by" value="1" aria-label="One more: {1}">+</button></form>"""


def render(session: Session) -> str:
    cart = session.get("cart", {})
    symbol, rate = CURRENCIES[session.get("currency", "EUR")]

    def price(cents: int) -> str:
        return f"{symbol}&nbsp;{cents / 100:.2f}"

    prices = {sku: round(cents * rate) for sku, (_, _, _, cents) in PRODUCTS.items()}
    inside = [(sku, name, cart[sku]) for sku, (_, name, _, _) in PRODUCTS.items() if sku in cart]
    return PAGE.substitute(
        theme=session.get("theme", "auto"),
        account=LOGOUT.format(escape(session.user_id)) if session.user_id else LOGIN,
        products="\n".join(
            PRODUCT.format(sku, picture, name, about, price(prices[sku]))
            for sku, (picture, name, about, _) in PRODUCTS.items()
        ),
        rows="\n".join(
            ROW.format(sku, name, price(prices[sku] * number), number)
            for sku, name, number in inside
        ),
        total=price(sum(prices[sku] * number for sku, _, number in inside)),
        number=sum(number for *_, number in inside),
        themes=options(get_args(Theme), session.get("theme")),
        currencies=options(CURRENCIES, session.get("currency")),
        session=facts(session),
    )


def options(choices: Iterable[str], chosen: str | None) -> str:
    return "".join(
        f"<option{' selected' if choice == chosen else ''}>{choice}</option>" for choice in choices
    )


def facts(session: Session) -> str:
    if session.expires_at is None:
        return "<p>Nothing yet: a session begins with the first thing to remember.</p>"
    known = {"user": session.user_id or "nobody is logged in"}
    known |= {name: json.dumps(value, ensure_ascii=False) for name, value in session.items()}
    known["handle"] = f"{session.handle} (names the session; only the browser knows its id)"
    known["ends"] = f"{session.expires_at:%d %B %Y, %H:%M:%S} UTC, or later if it is used"
    return f"<dl>{''.join(f'<dt>{n}</dt><dd>{escape(v)}</dd>' for n, v in known.items())}</dl>"
