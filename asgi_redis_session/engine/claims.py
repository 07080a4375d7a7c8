"""
What an app records of a login beside the user: by which methods they have proven who they are.

The hash of the session holds it in `@claims`: the time of that login, then JSON. A process of
version 0.1 knows nothing of it, and leaves it when a user logs in anew; the time tells that it is
of an earlier login. No I/O here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ..arguments import shown
from ..errors import SessionValueError
from .links import Link

#: How many methods a login may have, and how long the name of one may be.
_MOST, _LONGEST = 16, 64


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    The claims of one login.

    *amr*: the methods by which the user has proven who they are (RFC 8176). *actor*: the user who
    acts for them, as text. *link*: what ends the session besides. *persistent*: whether the cookie
    outlives the browser; None: as the `CookiePolicy` says.
    """

    amr: tuple[str, ...] = ()
    actor: str | None = None
    link: Link | None = None
    persistent: bool | None = None

    @classmethod
    def of(cls, stored: str | None, auth_ms: int | None) -> "Claims":
        """Return what a hash holds for its login at *auth_ms*; nothing if that is damaged."""
        if stored is None:
            return NONE
        since, _, text = stored.partition(" ")
        if auth_ms is None or since != str(auth_ms):
            return NONE
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return NONE

    @property
    def text(self) -> str | None:
        """What a script writes after the time of the login; None: nothing."""
        return None if self == NONE else msgspec.json.encode(self).decode()


NONE: Final = Claims()


def checked_amr(what: str, amr: Sequence[str]) -> tuple[str, ...]:
    """Return authentication methods, or raise `SessionValueError`. *what*: for errors."""
    if type(amr) is tuple and not amr:
        return ()
    if not isinstance(amr, list | tuple):
        raise SessionValueError(
            f'{what} is a list or tuple of authentication methods, such as ("pwd", "otp"), not '
            f"{shown(amr)}."
        )
    if len(amr) > _MOST or not all(_is_method(method) for method in amr):
        raise SessionValueError(
            f"{what} has at most {_MOST} methods, each a text of 1 to {_LONGEST} characters "
            'without blanks, such as "pwd" or "otp" (RFC 8176).'
        )
    return tuple(amr)


def _is_method(method: object) -> bool:
    return (
        isinstance(method, str)
        and 0 < len(method) <= _LONGEST
        and method.isprintable()
        and " " not in method
    )
