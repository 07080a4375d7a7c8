"""The tests of fastapi-redis-sdk without a Redis, by their names."""

from typing import Any

import pytest

from asgi_redis_session import (
    SessionStore,
    SessionUnavailable,
)

from ..support.internals import open_session
from ..support.page import Page
from ..support.sessions import create, is_live
from .acts import renew, write

pytestmark = pytest.mark.anywhere


# --- unit/test_session_failures.py ---


def away(broken: SessionStore, **options: Any) -> Page:
    """A browser with a session, while Redis is away."""
    page = Page(broken, **options)
    page.client.cookies.set("session", "A" * 43)
    return page


async def test_a_failed_load_yields_no_session(broken: SessionStore) -> None:
    """With `unavailable="anonymous"`."""
    page = away(broken, unavailable="anonymous")
    assert (await page(dict)).status_code == 200
    assert page.seen == {}


async def test_a_failed_load_logs_a_warning(
    broken: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    await away(broken, unavailable="anonymous")(dict)
    assert "Sessions are unavailable" in caplog.text


async def test_a_failed_count_raises_rather_than_answering_zero(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await broken.users.count(42)


async def test_a_failed_load_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await open_session(broken, "A" * 43).load()
    assert (await away(broken)(dict)).status_code == 503


async def test_save_raises(broken: SessionStore) -> None:
    session = await open_session(broken).load()
    session["user_id"] = 42
    with pytest.raises(SessionUnavailable):
        await session.save()


async def test_touch_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await open_session(broken, "A" * 43).touch()


async def test_delete_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await open_session(broken, "A" * 43).logout()


async def test_indexing_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await (await open_session(broken).load()).login(42)


async def test_revoke_all_raises(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await broken.users.revoke_all(42)


async def test_revoke_id_raises_rather_than_reporting_success(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await broken.users.revoke(42, "0" * 32)


async def test_a_write_still_raises_under_fail_open(broken: SessionStore) -> None:
    assert (await away(broken, unavailable="anonymous")(write)).status_code == 503


async def test_an_oserror_is_handled_like_a_redis_error(broken: SessionStore) -> None:
    """A port where nobody listens: ECONNREFUSED."""
    with pytest.raises(SessionUnavailable):
        await open_session(broken, "A" * 43).load()


async def test_revoke_surfaces_the_failure(broken: SessionStore) -> None:
    with pytest.raises(SessionUnavailable):
        await broken.revoke("0" * 32)


async def test_rotate_surfaces_the_failure(
    session_redis_url: str, prefix: str, store: SessionStore, broken: SessionStore
) -> None:
    """A renewal needs the session, so the load fails first."""
    session_id = await create(store, n=1)
    page = away(broken)
    page.client.cookies.set("session", session_id)
    assert (await page(renew)).status_code == 503
    assert await is_live(store, session_id)
