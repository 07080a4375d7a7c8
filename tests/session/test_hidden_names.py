"""A field that a template would not find is warned about."""

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import open_session


async def test_a_field_named_like_an_attribute_is_warned_about_once(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """`session.expires_at` is ours in Jinja; the warning shows how to reach the field."""
    session = await open_session(store).load()
    for _ in range(2):
        session["expires_at"] = "never"
        session["title"] = "no attribute"
    (record,) = caplog.records
    assert 'session["expires_at"]' in record.getMessage()
    assert "never" not in record.getMessage()
