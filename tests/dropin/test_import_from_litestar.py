"""Sessions that Litestar itself has stored are taken over."""

from typing import Any

import pytest
from litestar import Litestar, Request, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore
from litestar.testing import TestClient

from asgi_redis_session.dropin import LitestarSessions
from asgi_redis_session.testing import SessionKit

from .swapped import browsing

pytestmark = pytest.mark.one_node

ADA = {"user": "ada", "cart": ["tea"]}


@post("/")
async def log_in(request: Request[Any, Any, Any]) -> None:
    request.set_session(dict(ADA))


@pytest.fixture
def cookies(sessions: SessionKit) -> dict[str, str]:
    """The cookie of somebody who is logged in to the app as it was."""
    # Litestar's client does not know our name of an option.
    store = RedisStore.with_client(sessions.url.partition("?")[0], namespace=sessions.prefix)
    app = Litestar(
        [log_in],
        middleware=[ServerSideSessionConfig().middleware],
        stores={"sessions": store},
    )
    with TestClient(app) as client:
        client.post("/")
        return {"session": client.cookies["session"]}


def test_a_session_of_litestar_is_taken_over(
    sessions: SessionKit, cookies: dict[str, str], admin: Any
) -> None:
    """Read once under its key, which is deleted; after a logout it does not come back."""
    key = f"{sessions.prefix}:{cookies['session']}"
    assert admin.exists(key)
    source = LitestarSessions(prefix=f"{sessions.prefix}:")
    with browsing(sessions.store, cookies, import_from=source) as browser:
        assert browser(dict) == ADA
        assert not admin.exists(key)
        assert browser(dict) == ADA
        browser(lambda session: session.clear())
    with browsing(sessions.store, cookies, import_from=source) as replayed:
        assert replayed(dict) == {}


@pytest.mark.parametrize("value", ["a:b" * 10, "x" * 8, "*" * 32])
def test_what_is_no_id_leads_to_no_key(sessions: SessionKit, admin: Any, value: str) -> None:
    """A cookie can't name any key that begins with the prefix."""
    admin.set(f"{sessions.prefix}:{value}", '{"user": "eve"}')
    source = LitestarSessions(prefix=f"{sessions.prefix}:")
    with browsing(sessions.store, import_from=source) as browser:
        assert browser(dict, headers={"cookie": f"session={value}"}) == {}
