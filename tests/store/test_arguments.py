"""What a SessionStore refuses."""

from typing import Any

import pytest
import redis

from asgi_redis_session import SessionStore

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize("prefix", ["", "a b", "a:", ":a", "a::b", "a*", "ü", "{a}", 5])
def test_unusable_prefixes_are_refused(prefix: Any) -> None:
    """A prefix is plain words joined by colons."""
    with pytest.raises(ValueError, match="shop:session"):
        SessionStore.from_url("redis://", prefix=prefix)


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://x", "", "postgres://x", "redis://x:port"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """The sentence shows what a Redis URL looks like."""
    with pytest.raises(ValueError, match="redis://host:6379/0"):
        SessionStore.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "reddis://user:hunter2@host",
        "redis://:hunter2/x@localhost:6379/0",
        "redis://:hunter2#x@localhost:6379/0",
        "redis://:hunter2@localhost:6379/abc",
        "redis://:hunter2@localhost:6379/0?bogus=1",
    ],
)
def test_a_url_is_never_shown_with_its_password(url: str) -> None:
    """A mistyped URL with a password in it is refused, and the message leaves that out."""
    with pytest.raises(ValueError, match="Redis URL") as refusal:
        SessionStore.from_url(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_another_client_is_refused() -> None:
    """A synchronous client, say: the sentence names what is needed instead."""
    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        SessionStore(redis.Redis())  # type: ignore[arg-type]
