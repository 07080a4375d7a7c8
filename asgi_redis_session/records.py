"""Log records that programs can read: each has a name, and says in attributes what it concerns."""

__all__ = ["about"]


def about(event: str, **attributes: object) -> dict[str, object]:
    """Return the `extra` of a record. `docs/observability.md` lists the events."""
    return {"event": event, **attributes}
