"""Sessions that nobody can read."""

from collections.abc import Callable

import pytest
import redis

from asgi_redis_session import SessionStore

from .evidence import EVERYTHING, Evidence


@pytest.fixture
def plant(admin: redis.Redis, store: SessionStore) -> Callable[[str], Evidence]:
    def place(what: str) -> Evidence:
        evidence = Evidence(admin, store)
        EVERYTHING[what](evidence)
        evidence.seal()
        return evidence

    return place
