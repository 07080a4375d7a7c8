"""What a login records of where it came from: the client's address, and its user agent."""

from collections.abc import Callable
from typing import NamedTuple

from ..arguments import refuse_no_function
from .record import PeerInfo

_OPTION = "SessionStore(record_origin)"
_LENGTH = 512


class Origin(NamedTuple):
    """The client's address and user agent; None: not known, or not recorded."""

    address: str | None
    agent: str | None


#: True: both, as the ASGI server reports them. False: neither. A function takes address and user
#: agent, and returns what is recorded instead.
RecordOrigin = bool | Callable[[str | None, str | None], tuple[str | None, str | None]]


def checked(record_origin: RecordOrigin) -> RecordOrigin:
    """Return the option. Raises `TypeError` for anything but a bool or a plain function."""
    if not isinstance(record_origin, bool):
        takes = "True, False, or a function of address and user agent"
        refuse_no_function(_OPTION, record_origin, takes)
    return record_origin


def origin_of(peer: PeerInfo, record_origin: RecordOrigin) -> Origin:
    """
    Return what a login of this client records, each text cut at 512 characters.

    Raises `TypeError` if the app's function returns anything but two texts or Nones, and what that
    function raises.
    """
    if record_origin is False:
        return Origin(None, None)
    client, headers = peer
    agent = next((value for name, value in headers if name == b"user-agent"), None)
    origin = Origin(
        str(client[0])[:_LENGTH] if client else None,
        None if agent is None else agent[:_LENGTH].decode("latin-1"),
    )
    return origin if record_origin is True else _recorded(record_origin(*origin))


def _recorded(returned: object) -> Origin:
    """Check what the app's function has returned. It may be an address, so it isn't shown."""
    if not isinstance(returned, tuple) or len(returned) != len(Origin._fields):
        raise TypeError(
            f"{_OPTION}: the function returned {_kind(returned)}; return (address, user_agent), "
            "each a str or None."
        )
    for part in returned:
        if not isinstance(part, str | None):
            raise TypeError(
                f"{_OPTION}: the function returned a tuple with {_kind(part)}; return "
                "(address, user_agent), each a str or None."
            )
    address, agent = [None if part is None else _storable(part) for part in returned]
    return Origin(address, agent)


def _storable(text: str) -> str:
    """Cut a text, and make it one that UTF-8 can hold."""
    return text[:_LENGTH].encode(errors="replace").decode()


def _kind(value: object) -> str:
    return f"<{type(value).__name__}>"
