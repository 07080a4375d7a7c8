"""The reason for which a session ends, in the app's own words."""

from ..arguments import refuse_other
from ..errors import SessionValueError

#: It is stored once for each session that ends.
_LENGTH = 200


def checked_reason(option: str, reason: str | None) -> str | None:
    """Return a reason, or raise `TypeError` or `SessionValueError` for what is none."""
    refuse_other(option, reason, str | None, "a str or None")
    if reason is None:
        return None
    if not reason.strip() or len(reason) > _LENGTH or not reason.isprintable():
        raise SessionValueError(
            f"{option}: give a reason of 1 to {_LENGTH} printable characters on one line, as in "
            '"password changed".'
        )
    return str(reason)
