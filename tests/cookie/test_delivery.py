"""A cookie that will not come back is warned about once."""

from typing import Any

import pytest

from asgi_redis_session import CookiePolicy, SessionStore

from ..support.internals import forget_warnings
from ..support.page import Page


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_warnings(monkeypatch)


async def warnings_of(
    store: SessionStore,
    cookie: CookiePolicy,
    url: str,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str] | None = None,
) -> list[str]:
    """What is logged when two new sessions are made at this URL."""
    page = Page(store, cookie)
    for _ in "12":
        page.client.cookies.clear()
        sent: Any = headers
        response = await page(lambda session: session.update(n=1), sent, url)
        assert response.status_code == 200
        assert "set-cookie" in response.headers
    return [r.getMessage() for r in caplog.records if "session cookie" in r.msg]


async def test_a_secure_cookie_over_plain_http(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with what to do."""
    (warning,) = await warnings_of(store, CookiePolicy(), "http://app.example.com/", caplog)
    assert "plain HTTP" in warning
    assert "for_development" in warning


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("https://app.example.com/", {}),
        ("http://app.example.com/", {"x-forwarded-proto": "https"}),
        ("http://localhost/", {"sec-fetch-site": "none"}),
    ],
)
async def test_a_secure_cookie_that_comes_back(
    store: SessionStore, caplog: pytest.LogCaptureFixture, url: str, headers: dict[str, str]
) -> None:
    """Over HTTPS, behind a proxy that ends TLS, and from a browser to localhost: no warning."""
    assert await warnings_of(store, CookiePolicy(), url, caplog, headers) == []


async def test_a_path_that_does_not_cover_the_request(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with both reasons that there may be."""
    policy = CookiePolicy(name="sid", path="/app")
    url = "https://app.example.com"
    assert await warnings_of(store, policy, f"{url}/app", caplog) == []
    assert await warnings_of(store, policy, f"{url}/app/cart", caplog) == []
    (warning,) = await warnings_of(store, policy, f"{url}/apple", caplog)
    assert "'/app'" in warning
    assert "root_path" in warning
