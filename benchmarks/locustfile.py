"""
Shoppers in the example shop: browse, fill a cart, log in, check out, log out.

    locust -f benchmarks/locustfile.py --headless --host http://127.0.0.1:8000

Each shopper remembers what they put into their cart, and fails loudly if the shop shows anything
else: after each change, over the login that gives the session a new id, and after the logout.
$SHOPPERS (40) and $SECONDS (60) say how many come, and for how long.
"""

import os
import random
from typing import Any

from locust import HttpUser, LoadTestShape, between, task

PRODUCTS = ("tea", "bread", "honey", "pears", "cheese", "jug")
SHOPPERS = int(os.environ.get("SHOPPERS", "40"))
SECONDS = float(os.environ.get("SECONDS", "60"))


class Shopper(HttpUser):
    """One customer with a browser of their own (its cookie jar)."""

    wait_time = between(0.01, 0.1)

    @task
    def journey(self) -> None:
        """A visit, from the first page to the logout."""
        self.cart: dict[str, int] = {}
        self.name = f"shopper-{random.randrange(10**9)}"
        self.client.get("/")
        self.sees(None)
        for _ in range(random.randint(1, 6)):
            self.put(random.choice(PRODUCTS), 1)
        self.post("/login", name=self.name)
        self.sees(self.name)  # the cart has come along into the new session
        for sku in random.sample(sorted(self.cart), k=len(self.cart) // 2):
            self.put(sku, -1)
        self.post("/preferences", theme="dark", currency="USD")
        self.sees(self.name)
        for sku in [sku for sku, number in self.cart.items() for _ in range(number)]:
            self.put(sku, -1)  # checked out: the cart is empty again
        self.sees(self.name)
        self.post("/logout")
        self.cart = {}
        self.sees(None)
        self.client.cookies.clear()

    def put(self, sku: str, by: int) -> None:
        """Add one to the cart, or take one out."""
        self.post(f"/cart/{sku}", by=str(by))
        self.cart[sku] = self.cart.get(sku, 0) + by
        if self.cart[sku] < 1:
            del self.cart[sku]

    def post(self, path: str, **form: str) -> None:
        """Send a form as the page does; the shop redirects to its first page."""
        name = "/cart/{sku}" if path.startswith("/cart") else path
        with self.client.post(
            path, data=form, name=name, allow_redirects=False, catch_response=True
        ) as response:
            if response.status_code != 303:
                response.failure(f"{path} answered {response.status_code}")

    def sees(self, user: str | None) -> None:
        """What the shop knows of this customer is what they did."""
        with self.client.get("/api/session", catch_response=True) as response:
            shown: dict[str, Any] = response.json() if response.status_code == 200 else {}
            expected = (user, self.cart)
            if (shown.get("user"), shown.get("cart", {})) != expected:
                response.failure(f"the shop shows {shown}, the customer expects {expected}")


class OpeningHours(LoadTestShape):
    """Calm, then a rush of everybody at once, then calm again."""

    def tick(self) -> tuple[int, float] | None:
        """How many shoppers there are now, and how many come in a second."""
        now: float = self.get_run_time() / SECONDS  # type: ignore[no-untyped-call]
        if now >= 1:
            return None
        share = 0.25 if now < 0.3 or now > 0.8 else 1.0
        return max(1, round(SHOPPERS * share)), SHOPPERS
