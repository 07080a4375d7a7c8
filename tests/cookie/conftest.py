"""What the tests of cookies share."""

from typing import Any

import pytest

from asgi_redis_session import SessionEvent

Headers = list[tuple[bytes, bytes]]


def cookie(*values: bytes) -> Headers:
    return [(b"cookie", value) for value in values]


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


def names_of(events: list[SessionEvent]) -> list[str]:
    return [event.name for event in events]
