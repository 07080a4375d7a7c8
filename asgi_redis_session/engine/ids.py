"""
Secret ids of sessions, the handles that are derived from them, and user ids as text.

The id is in the cookie and nowhere else. A session's key in Redis is made from its handle: the
first 128 bits of the id's SHA-256, or of its HMAC-SHA-256 with one of the store's secrets.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from uuid import UUID

from ..errors import SessionValueError
from .codec import to_base

_SECRET_LENGTH = 16
_HANDLE = re.compile(r"[0-9a-f]{32}")
_USER_ID_BITS = 4096
_USER_ID_LENGTH = 16_384


class SessionIds:
    """
    Makes ids, and derives handles from them.

    *secret*: as in `SessionStore`. Raises `ValueError` for a secret that is too short, or given
    twice.
    """

    __slots__ = ("_secrets", "has_one_secret")

    def __init__(self, secret: str | Sequence[str | None] | None) -> None:
        self._secrets = _checked(secret)
        #: Whether each id leads to one handle.
        self.has_one_secret = len(self._secrets) == 1

    def new(self) -> tuple[str, str]:
        """Draw a new id of 256 random bits; returns it with its handle."""
        session_id = secrets.token_urlsafe(32)
        return session_id, _digest(self._secrets[0], session_id)

    def handles(self, session_id: str) -> tuple[str, ...]:
        """The handles that the session of this id may have, one for each secret, newest first."""
        if self.has_one_secret:
            return (_digest(self._secrets[0], session_id),)
        return tuple([_digest(secret, session_id) for secret in self._secrets])


def is_handle(handle: object) -> bool:
    """Whether this has the form of a handle. It may come from anywhere, such as a form field."""
    return isinstance(handle, str) and _HANDLE.fullmatch(handle) is not None


def check_new_user_id(user_id: str | int | UUID) -> str:
    """Return the user id as text, as `check_user_id` does, but refuse a long one, too."""
    text = check_user_id(user_id)
    if len(text) > _USER_ID_LENGTH:
        raise SessionValueError(
            f"A user id must not be longer than {_USER_ID_LENGTH} characters. Use the user's "
            "primary key."
        )
    return text


def check_actor(what: str, actor: str | int | UUID, user_id: str | int | UUID) -> str:
    """Return the id of who acts for the user, as text. *what*: for errors."""
    try:
        text = check_new_user_id(actor)
    except SessionValueError as error:
        raise SessionValueError(f"{what} is the user who acts. {error}") from None
    if text == check_new_user_id(user_id):
        raise SessionValueError(
            f"{what} is the user who acts for another one, and this is the same. Leave it out."
        )
    return text


def check_user_id(user_id: str | int | UUID) -> str:
    """
    Return the user id as text, or raise `SessionValueError`.

    Its length is not checked: the sessions that a user already has can always be listed and ended.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, str | int | UUID):
        raise SessionValueError(
            f"A user id is a str, an int or a UUID, not {type(user_id).__name__}. Use the user's "
            "primary key; if that is another type with an exact text, use str(user.id)."
        )
    user_id = to_base(user_id)  # a member of an enum is not always its own text
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
    if not isinstance(secret, str | list | tuple | None):
        raise TypeError(
            f"SessionStore(secret=...) takes a str, or a list of them, newest first, not "
            f"{type(secret).__name__}."
        )
    candidates = [secret] if secret is None or isinstance(secret, str) else list(secret)
    encoded = [None if candidate is None else _encoded(candidate) for candidate in candidates]
    if not encoded or len(set(encoded)) < len(encoded):
        raise ValueError("SessionStore(secret=[...]) needs one or more different secrets.")
    return tuple(encoded)


def _encoded(candidate: object) -> bytes:
    """Return a secret as bytes. The error does not repeat it."""
    if (
        not isinstance(candidate, str)
        or len(candidate.strip()) < _SECRET_LENGTH
        or any("\ud800" <= character <= "\udfff" for character in candidate)
    ):
        raise ValueError(
            "SessionStore(secret=...): a secret is a str of at least "
            f"{_SECRET_LENGTH} characters; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
        )
    return candidate.encode()


def _digest(secret: bytes | None, session_id: str) -> str:
    raw = session_id.encode()
    if secret is None:
        return hashlib.sha256(raw).hexdigest()[:32]
    return hmac.digest(secret, raw, "sha256").hex()[:32]
