"""Log records that programs can read: each has a name, and says in attributes what it concerns."""

import logging

from .pages import see

__all__ = ["about"]


def about(event: str, **attributes: object) -> dict[str, object]:
    """Return the `extra` of a record. `docs/observability.md` lists the events."""
    return {"event": event, **attributes}


def _lead_on(record: logging.LogRecord) -> bool:
    """Let the text of a record that has a name end with the address of its explanation."""
    if (event := getattr(record, "event", None)) is not None:
        record.msg = f"{record.msg} {see(event)}"
    return True


logging.getLogger("asgi_redis_session").addFilter(_lead_on)
