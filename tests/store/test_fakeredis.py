"""The real fakeredis package, which people know from other tests."""

import fakeredis
import pytest

from asgi_redis_session import SessionStore


@pytest.mark.parametrize(
    "make", [fakeredis.FakeAsyncRedis, fakeredis.FakeRedis], ids=["async", "sync"]
)
def test_fakeredis_is_refused_in_one_sentence(make: type) -> None:
    """It can't carry a lane; the sentence names what starts a real server for tests."""
    with pytest.raises(TypeError, match=r"asgi_redis_session\.testing starts a private server"):
        SessionStore(make())
