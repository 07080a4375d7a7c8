"""
Secret ids of sessions, the handles that stand for them, and user ids as text.

The id is in the cookie and nowhere else. A session's key in Redis is made from its handle: the
first 128 bits of the id's SHA-256, or of its HMAC-SHA-256 with one of the store's secrets.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from ..errors import SessionValueError

_SECRET_LENGTH = 16
_HANDLE = re.compile(r"[0-9a-f]{32}")
_USER_ID_BITS = 4096


class SessionIds:
    """
    Makes ids, and derives handles from them.

    *secret*: as in `SessionStore`. Raises `ValueError` for a secret that is too short, or given
    twice.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secret: str | Sequence[str | None] | None) -> None:
        self._secrets = _checked(secret)

    def new(self) -> tuple[str, str]:
        """Draw a new id of 256 random bits; returns it with its handle."""
        session_id = secrets.token_urlsafe(32)
        return session_id, _digest(self._secrets[0], session_id)

    def handles(self, session_id: str) -> tuple[str, ...]:
        """The handles that the session of this id may have, one for each secret, newest first."""
        if len(self._secrets) == 1:
            return (_digest(self._secrets[0], session_id),)
        return tuple([_digest(secret, session_id) for secret in self._secrets])


def is_handle(handle: object) -> bool:
    """Whether this has the form of a handle. It may come from anywhere, such as a form field."""
    return isinstance(handle, str) and _HANDLE.fullmatch(handle) is not None


def check_user_id(user_id: str | int) -> str:
    """Return the user id as text, or raise `SessionValueError`."""
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise SessionValueError(
            f"A user id is a str or an int, not {type(user_id).__name__}. "
            "Use the user's primary key."
        )
    if isinstance(user_id, int) and user_id.bit_length() > _USER_ID_BITS:
        raise SessionValueError("A user id must not be a number of thousands of digits.")
    text = str(user_id)
    if not text:
        raise SessionValueError("A user id must not be empty. Use the user's primary key.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SessionValueError(
            "A user id must not contain lone surrogates. Use the user's primary key."
        ) from None
    return text


def _checked(secret: str | Sequence[str | None] | None) -> tuple[bytes | None, ...]:
    candidates = [secret] if secret is None or isinstance(secret, str) else list(secret)
    if not candidates or len(set(candidates)) < len(candidates):
        raise ValueError("SessionStore(secret=[...]) needs one or more different secrets.")
    for candidate in candidates:
        if candidate is not None and (
            not isinstance(candidate, str) or len(candidate) < _SECRET_LENGTH
        ):
            raise ValueError(
                "SessionStore(secret=...): a secret is a str of at least "
                f"{_SECRET_LENGTH} characters; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
            )
    return tuple(None if candidate is None else candidate.encode() for candidate in candidates)


def _digest(secret: bytes | None, session_id: str) -> str:
    raw = session_id.encode()
    if secret is None:
        return hashlib.sha256(raw).hexdigest()[:32]
    return hmac.digest(secret, raw, "sha256").hex()[:32]
