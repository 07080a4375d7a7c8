"""Secrets: newest first, older ones still accepted."""

from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import cookie_change, handle_of, open_session
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster


def secret(letter: str) -> str:
    return letter * 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (secret("a"), [secret("b"), secret("a")]),
        (None, [secret("b"), None]),
        ([secret("a"), None], [secret("c"), secret("b"), secret("a")]),
    ],
)
async def test_older_secrets_are_still_read(
    session_redis_url: str, prefix: str, old: Any, new: Any
) -> None:
    """A session keeps its key under the old secret until it is renewed, then takes the newest."""
    before = SessionStore.from_url(session_redis_url, prefix=prefix, secret=old)
    after = SessionStore.from_url(session_redis_url, prefix=prefix, secret=new)
    newest = SessionStore.from_url(session_redis_url, prefix=prefix, secret=new[0])
    async with before, after, newest:
        ended = await create(before, n=1)
        await open_session(after, ended).logout()
        assert not await open_session(before, ended).still_valid()
        session_id = await create(before, n=1)
        assert await open_session(after, session_id).increment("n") == 2
        assert await open_session(after, session_id).fetch("n") == {"n": 2}
        session = await open_session(after, session_id).load()
        assert session.handle == handle_of(before, session_id)
        assert await session.still_valid()
        session["n"] = 3
        session.renew()
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert (await open_session(newest, change.session_id).load())["n"] == 3
        assert not await open_session(before, session_id).still_valid()
        await open_session(after, change.session_id).logout()
        assert not await open_session(newest, change.session_id).still_valid()


async def test_another_secret_finds_nothing(session_redis_url: str, prefix: str) -> None:
    """HMAC keys: without the secret a known id leads to no session."""
    one = SessionStore.from_url(session_redis_url, prefix=prefix, secret=secret("a"))
    other = SessionStore.from_url(session_redis_url, prefix=prefix, secret=secret("b"))
    async with one, other:
        session_id = await create(one, n=1)
        assert len(await open_session(other, session_id).load()) == 0
        await open_session(one, session_id).logout()


@pytest.mark.parametrize("nonsense", ["short", [], ["a" * 20, "a" * 20], [5], ["a" * 20, "x"]])
def test_unusable_secrets_are_refused(nonsense: Any) -> None:
    """Too short, none at all, twice the same: one sentence, and the secret is not in it."""
    with pytest.raises(ValueError, match="secret") as refusal:
        SessionStore.from_url("redis://", secret=nonsense)
    assert "a" * 20 not in str(refusal.value)
