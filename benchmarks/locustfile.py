"""
Users with a browser each: of the example shop, or of an app of your own.

    locust -f benchmarks/locustfile.py --headless -u 200 -r 20 -t 2m --host http://127.0.0.1:8000

In the shop they browse, fill a cart, log in, check out and log out. Each remembers what they put
into their cart, and fails loudly if the shop shows anything else: after each change, over the login
that gives the session a new id, and after the logout.

Any other app is named by its requests (a form follows the path, as `name=value&…`; `{user}` is
somebody else for each user). A user logs in, sends the pages in turn, and logs out:

    locust … --login "POST /login name={user}&password=secret" --page "GET /account" \\
        --page "POST /settings theme=dark" --expect "Hello {user}" --logout "POST /logout"

*--expect* is a text that each answer to a GET must contain while the user is logged in, so that
somebody else's session is noticed.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
from locust import HttpUser, events, task

PRODUCTS = ("tea", "bread", "honey", "pears", "cheese", "jug")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    own = parser.add_argument_group("Users", "The shop's, or those of an app of your own")
    own.add_argument("--think", type=float, default=0.5, help="seconds between two requests")
    own.add_argument("--login", default="", help='for instance "POST /login name={user}"')
    own.add_argument("--page", action="append", default=[], help='for instance "GET /account"')
    own.add_argument("--expect", default="", help="what each page must show: a text with {user}")
    own.add_argument("--logout", default="", help='for instance "POST /logout"')
    own.add_argument("--stop", action="store_true", help="end at the first failure")


@events.init.add_listener  # type: ignore[untyped-decorator]
def stop_at_failure(environment: Any, **_: Any) -> None:
    def look(exception: object, **_: Any) -> None:
        if exception is not None and environment.parsed_options.stop:
            gevent.spawn(environment.runner.quit)  # it waits for this user, too

    environment.events.request.add_listener(look)


class Customer(HttpUser):
    """One customer with a browser of their own (its cookie jar)."""

    def wait_time(self) -> float:
        """Some people are quicker than others."""
        think: float = self.options.think
        return random.uniform(0.4, 1.6) * think

    @property
    def options(self) -> Any:
        return self.environment.parsed_options

    def on_start(self) -> None:
        self.visit = self.own_app() if self.options.page else self.shop()

    @task
    def step(self) -> None:
        """The next request of this visit; when it is over, another begins."""
        try:
            next(self.visit)()
        except StopIteration:
            self.on_start()

    # --- An app of your own ---

    def own_app(self) -> Iterator[Callable[[], object]]:
        self.name = f"user-{random.randrange(10**9)}"
        if self.options.login:
            yield partial(self.send, self.options.login)
        for _ in range(10):
            for page in self.options.page:
                yield partial(self.send, page, expect=self.options.expect)
        if self.options.logout:
            yield partial(self.send, self.options.logout)
        self.client.cookies.clear()

    def send(self, line: str, expect: str = "") -> None:
        """Send "METHOD /path form", and look whether the answer is this user's."""
        method, path, *form = line.replace("{user}", self.name).split(maxsplit=2)
        if method not in METHODS:
            raise SystemExit(f'"{line}" is no request: write it as "GET /path".')
        name = " ".join(line.split()[:2])
        headers = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        with self.client.request(
            method, path, data="".join(form), name=name, headers=headers, catch_response=True
        ) as response:
            text = expect.replace("{user}", self.name)
            if response.status_code >= 400 or response.status_code == 0:
                response.failure(f"{name} answered {response.status_code}")
            elif method == "GET" and text not in response.text:
                response.failure(f"{name} does not show what this user expects")

    # --- The example shop ---

    def shop(self) -> Iterator[Callable[[], object]]:
        """A visit, from the first page to the logout."""
        self.cart: dict[str, int] = {}
        self.name = f"shopper-{random.randrange(10**9)}"
        yield partial(self.client.get, "/")
        yield partial(self.sees, None)
        for _ in range(random.randint(1, 6)):
            yield partial(self.put, random.choice(PRODUCTS), 1)
        yield partial(self.post, "/login", name=self.name)
        yield partial(self.sees, self.name)  # the cart has come along into the new session
        for sku in random.sample(sorted(self.cart), k=len(self.cart) // 2):
            yield partial(self.put, sku, -1)
        yield partial(self.post, "/preferences", theme="dark", currency="USD")
        yield partial(self.sees, self.name)
        for sku in [sku for sku, number in self.cart.items() for _ in range(number)]:
            yield partial(self.put, sku, -1)  # checked out: the cart is empty again
        yield partial(self.sees, self.name)
        yield partial(self.post, "/logout")
        self.cart = {}
        yield partial(self.sees, None)
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
