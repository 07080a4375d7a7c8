"""Staging a field that ends sooner than its session."""

from typing import Any

from ..errors import SessionValueError
from .codec import check_name
from .state import SessionState
from .timed_fields import TimedFields


def set_for(state: SessionState, name: str, value: Any, ttl_ms: int) -> None:
    """Stage a value that ends *ttl_ms* after the commit. Raises `SessionValueError`."""
    name = check_name(name)
    fields = state.writable()
    if state.engine.shadows.of(name) is not None:
        raise SessionValueError(
            f"session.set({name!r}, ttl=...): the field is indexed, and Redis Search would still "
            "find it when it has ended. Store when it ends beside it, or leave it out of index=."
        )
    timed = TimedFields.taking_over(fields)
    timed.set_for(name, value, ttl_ms)
    state.fields = timed
