"""
The demo shop in a real browser: two browsers, two instances, one Redis.

With $SCREENSHOTS, each page is kept there as a picture; `make screenshots` refreshes README.md's.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, expect

from asgi_redis_session.demo.app import make_app
from asgi_redis_session.demo.shop import Place

from ..support.keyspace import forget, session_keys
from ..support.servers import wait_for
from ..support.serving import serve

pytestmark = pytest.mark.anywhere

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "is_mobile": True, "has_touch": True},
}
PATIENCE = 100_000  # ms, for what will never come
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)

#: What has the focus: its id, or what it is called; and whether one sees that.
FOCUSED = """() => {
    const element = document.activeElement
    const {outlineStyle, outlineWidth} = getComputedStyle(element)
    const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2
    return [element.id || element.ariaLabel || element.textContent.trim(), seen]
}"""


@pytest.fixture
def prefix(admin: Any) -> Iterator[str]:
    """That of the demo: the pictures show it."""
    forget(admin, "shop")
    yield "shop"
    forget(admin, "shop")


@pytest.fixture
def shops(session_redis_url: str, prefix: str) -> Iterator[tuple[str, ...]]:
    """Two instances of the shop over one Redis."""
    with ExitStack() as stack:
        apps = [make_app(session_redis_url, prefix=prefix) for _ in range(2)]
        served = [serve(app, timeout_graceful_shutdown=1) for app in apps]
        urls = tuple(stack.enter_context(each) for each in served)
        for number, app in enumerate(apps, 1):
            app.state.shop.place = Place(number, urls)
        yield urls


class Visitor:
    """A browser of its own. Whatever it complains of is kept."""

    def __init__(self, context: BrowserContext, page: Page, shop: str) -> None:
        self.context, self.page, self.shop = context, page, shop
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complain("error", str(error)))

    def complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    async def open(self, path: str) -> None:
        await self.page.goto(self.shop + path)

    async def press(self, name: str) -> None:
        """Press the button of this name, and wait for the page that it leads to."""
        async with self.page.expect_navigation():
            await self.page.get_by_role("button", name=name).first.click()

    async def add(self, product: str) -> None:
        await self.press(f"Add to cart: {product}")

    async def sign_in(self, name: str, *, remember: bool = False) -> None:
        await self.open("/login")
        await self.page.get_by_label("Your name").fill(name)
        if remember:
            await self.page.get_by_label("Remember me").check()
        async with self.page.expect_navigation():
            await self.page.locator("main").get_by_role("button", name="Sign in").click()

    async def told(self) -> str:
        """What the dialog says, once it is open."""
        await self.page.wait_for_selector("dialog[open]")
        return await self.page.inner_text("#notice-text")

    async def cookie(self) -> Any:
        (cookie,) = await self.context.cookies()
        return cookie


@pytest.fixture
async def visit(chromium: Browser) -> AsyncIterator[Any]:
    """Start a browser at a shop. At the end, none may have complained of anything."""
    visitors: list[Visitor] = []
    expect.set_options(timeout=PATIENCE)

    async def start(shop: str, **options: Any) -> Visitor:
        agent = CHROME.format(chromium.version)  # not "HeadlessChrome"
        context = await chromium.new_context(user_agent=agent, **options)
        visitors.append(Visitor(context, await context.new_page(), shop))
        return visitors[-1]

    yield start
    assert [visitor.complaints for visitor in visitors] == [[] for _ in visitors]


async def test_the_journey_of_two_browsers(
    shops: tuple[str, ...], visit: Any, admin: Any, prefix: str
) -> None:
    """Cart, preferences, sign-in, devices that come and go, a warning, and a recall."""
    ann, other = await visit(shops[0]), await visit(shops[1])
    await fill_a_cart(ann)
    await look_into_redis(ann, admin, prefix)
    await sign_in_twice(ann)
    await end_the_other_device(ann, other)
    await sign_out_everywhere(ann, other)
    await be_warned(ann, admin, prefix)
    await recall(ann, other)


async def fill_a_cart(ann: Visitor) -> None:
    """The cart counts, and preferences change the page at once."""
    page = ann.page
    await ann.open("/")
    await expect(page.locator(".inside")).to_contain_text("Nothing yet")
    await ann.add("Green tea")
    await ann.add("Green tea")
    await ann.add("Jug")
    await expect(page.locator(".basket")).to_contain_text("3")
    await expect(page.locator("tfoot")).to_contain_text("49.00")
    await ann.press("One less: Jug")
    await expect(page.locator("tfoot")).to_contain_text("17.00")

    await page.get_by_label("Prices in").select_option("USD")
    await page.get_by_label("Colours").select_option("dark")
    await ann.press("Save")
    await expect(page.locator("tfoot")).to_contain_text("$")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def look_into_redis(ann: Visitor, admin: Any, prefix: str) -> None:
    """The panel shows what Redis holds, and counts its TTL down."""
    page = ann.page
    (key,) = session_keys(admin, prefix)
    panel = page.locator("#redis")
    await expect(panel).to_contain_text(f"HGETALL {key.decode()}")
    await expect(panel.get_by_role("row").filter(has_text="cart:tea")).to_contain_text("2")
    await expect(panel).to_contain_text("EVALSHA increment.lua")
    before = await page.inner_text("#ttl")
    await expect(page.locator("#ttl")).not_to_have_text(before)


async def sign_in_twice(ann: Visitor) -> None:
    """The cookie outlives the browser if one asks for it; the cart comes along."""
    page = ann.page
    await ann.sign_in("Ann")
    assert (await ann.cookie())["expires"] == -1  # it ends with the browser
    await ann.sign_in("Ann", remember=True)
    assert (await ann.cookie())["expires"] > 0
    await expect(page.locator(".hello")).to_have_text("Hello, Ann")
    await expect(page.locator("tfoot")).to_contain_text("$")


async def end_the_other_device(ann: Visitor, other: Visitor) -> None:
    """It appears by itself, at another instance; it is ended, and says why."""
    page = ann.page
    await ann.open("/devices")
    await other.sign_in("Ann")
    await expect(page.locator("#news")).to_contain_text("has signed in")
    await expect(page.locator(".devices li")).to_have_count(2)
    end = page.get_by_role("button", name="End: ")
    await end.focus()
    await other.add("Green tea")
    await expect(page.locator("#redis")).to_contain_text("GET /devices")
    assert (await page.evaluate(FOCUSED))[0].startswith("end-")  # the list may have been replaced
    await end.press("Enter")
    assert await other.told() == "This device was signed out: ended on another device."
    async with other.page.expect_navigation():
        await other.page.keyboard.press("Enter")  # the dialog's only button has the focus
    await other.open("/login")
    await expect(other.page.locator(".why")).to_contain_text("ended on another device")


async def sign_out_everywhere(ann: Visitor, other: Visitor) -> None:
    """It reaches the instance that did not do it."""
    page = ann.page
    await other.sign_in("Ann")
    await expect(page.locator(".devices li")).to_have_count(2)
    await ann.press("Sign out everywhere")
    assert await other.told() == "This device was signed out: signed out everywhere."
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()


async def be_warned(ann: Visitor, admin: Any, prefix: str) -> None:
    """A session that is not used ends; the page warns before, and the button keeps it."""
    page = ann.page
    await ann.sign_in("Ann")
    await ann.open("/devices")
    await ann.press("Let this session end in 90 s")
    (key,) = [key for key in session_keys(admin, prefix) if b":user:" not in key]
    assert admin.ttl(key) <= 90
    admin.expire(key, 50)
    assert (await ann.told()).startswith("Your session ends in")
    async with page.expect_response("**/session/stay"):
        await page.get_by_role("button", name="Stay signed in").click()
    await page.wait_for_selector("dialog", state="hidden")
    assert wait_for(lambda: admin.ttl(key) > 50)  # no request waits for that


async def recall(ann: Visitor, other: Visitor) -> None:
    """The operator counts, and ends the sessions of those who have a product in the cart."""
    page = ann.page
    await other.open("/")
    await other.add("Rye bread")
    await ann.open("/operator")
    await ann.press("Let 200 shoppers in")
    await expect(page.locator("#figures .big")).to_have_text("202 sessions")
    await page.get_by_label("Recall").select_option("Rye bread")
    await ann.press("End the sessions that hold it")
    await ann.press("End ")
    assert await other.told() == "This device was signed out: Rye bread was recalled."
    row = page.locator(".bars tr").filter(has_text="Rye bread")
    await expect(row.locator("td").first).to_have_text("0")


@pytest.mark.parametrize("look", LOOKS)
async def test_all_can_read_the_pages(shops: tuple[str, ...], visit: Any, look: str) -> None:
    """axe finds nothing: names, roles, labels, contrast. No page is wider than its screen."""
    visitor: Visitor = await visit(shops[0], **LOOKS[look])
    page = visitor.page
    await visitor.open("/")
    for product in ("Green tea", "Green tea", "Honey", "Jug"):
        await visitor.add(product)
    await _look_at(page, "login", look, shops[0] + "/login")
    await visitor.sign_in("Ann")
    async with httpx.AsyncClient(headers={"user-agent": IPHONE}, timeout=PATIENCE) as phone:
        await phone.post(f"{shops[1]}/login", data={"name": "Ann", "remember": "true"})
    for name, path in {"shop": "/", "devices": "/devices"}.items():
        await _look_at(page, name, look, shops[0] + path)
    await visitor.open("/operator")
    await visitor.press("Let 200 shoppers in")
    await _look_at(page, "operator", look, shops[0] + "/operator")
    await _look_at(page, "recall", look, shops[0] + "/operator/recall?sku=tea")


async def _look_at(page: Page, name: str, look: str, url: str) -> None:
    await page.goto(url)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder, f"{name}-{look}.png"), full_page=True)


async def test_the_shop_works_by_keyboard(shops: tuple[str, ...], visit: Any) -> None:
    """The focus goes from top to bottom, and is seen; Enter adds to the cart."""
    visitor: Visitor = await visit(shops[0])
    page = visitor.page
    await visitor.open("/")
    order: list[str] = []
    while not order or not order[-1].startswith("Add to cart: Rye"):
        await page.keyboard.press("Tab")
        name, is_seen = await page.evaluate(FOCUSED)
        assert is_seen, name
        order.append(name)
    links = ["Corner shop", "Shop", "Your devices", "Operator", "Cart0 in it", "Sign in"]
    buttons = ["Add to cart: Green tea", "Add to cart: Rye bread"]
    assert order == ["Skip to the content", *links, *buttons]
    async with page.expect_navigation():
        await page.keyboard.press("Enter")
    await expect(page.locator(".basket")).to_contain_text("1")
    await page.keyboard.press("Tab")  # from where one was, not from the top
    assert (await page.evaluate(FOCUSED))[0] in buttons


async def test_the_shop_works_without_javascript(shops: tuple[str, ...], visit: Any) -> None:
    """Forms and links do all but what changes by itself."""
    visitor: Visitor = await visit(shops[0], java_script_enabled=False)
    await visitor.open("/")
    await visitor.add("Honey")
    await visitor.sign_in("Ann")
    await visitor.open("/devices")
    await expect(visitor.page.locator(".devices li")).to_have_count(1)
    await visitor.press("Sign out")
    await expect(visitor.page.get_by_role("link", name="Sign in")).to_be_visible()
