"""The demo shop in a real browser: it warns before the session ends."""

import importlib
import sys
import warnings
from typing import Any

import pytest
from playwright.async_api import Browser

from asgi_redis_session.testing import SessionKit

from ..support.serving import serve

pytestmark = pytest.mark.anywhere


async def test_the_shop_warns_before_a_session_ends(
    chromium: Browser, sessions: SessionKit, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes before; the button extends it, and a session that has ended is said to have."""
    monkeypatch.setenv("REDIS_URL", sessions.url)
    monkeypatch.setenv("SESSION_PREFIX", sessions.prefix)
    sys.modules.pop("examples.shop", None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CookiePolicy.for_development")
        app = importlib.import_module("examples.shop").app
    with serve(app) as url:
        page = await (await chromium.new_context()).new_page()
        await page.goto(url)
        assert not await page.is_visible("dialog")
        async with page.expect_response("**/session/left"):
            await page.click("text=Add to cart >> nth=0")
        assert not await page.is_visible("dialog")
        (key,) = sessions.keys()
        admin.expire(key, 100)
        await page.evaluate("look()")
        assert await page.inner_text("dialog p") == "Your session ends in 2 min."
        assert admin.ttl(key) <= 100
        async with page.expect_response("**/session/stay"):
            await page.click("text=Stay signed in")
        await page.wait_for_selector("dialog", state="hidden")
        assert admin.ttl(key) > 1700
        admin.delete(key)
        await page.evaluate("look()")
        assert await page.inner_text("dialog") == "Your session has ended."
