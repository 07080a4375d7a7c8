"""The recipe in a real browser: a page warns before its session ends."""

import importlib
import sys
from typing import Any

import pytest
from playwright.async_api import Browser

from asgi_redis_session.testing import SessionKit

from ..support.keyspace import forget, session_keys
from ..support.servers import wait_for
from ..support.serving import serve

pytestmark = pytest.mark.anywhere


async def test_a_page_warns_before_its_session_ends(
    chromium: Browser, sessions: SessionKit, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes before; the button extends it, and a session that has ended is said to have."""
    monkeypatch.setenv("REDIS_URL", sessions.url)
    sys.modules.pop("examples.recipes.session_ends", None)
    app = importlib.import_module("examples.recipes.session_ends").app
    forget(admin, "session")  # other tests use the default prefix, too
    with serve(app) as url:
        page = await (await chromium.new_context()).new_page()
        await page.goto(url)
        assert not await page.is_visible("dialog")
        async with page.expect_response("**/session/left"):
            await page.click("text=Log in")
        assert not await page.is_visible("dialog")
        (key,) = [key for key in session_keys(admin, "session") if b":user:" not in key]
        admin.expire(key, 100)
        await page.evaluate("look()")
        assert await page.inner_text("dialog p") == "Your session ends in 2 min."
        assert admin.ttl(key) <= 100
        async with page.expect_response("**/session/stay"):
            await page.click("text=Stay signed in")
        await page.wait_for_selector("dialog", state="hidden")
        assert wait_for(lambda: admin.ttl(key) > 1700)  # no request waits for that
        admin.delete(key)
        await page.evaluate("look()")
        assert await page.inner_text("dialog") == "Your session has ended."
    forget(admin, "session")
