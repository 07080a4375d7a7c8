"""
Encryption of values: from a field's bytes to those that Redis holds of it, and back.

A `Seal` belongs to one session under one handle. It is asked where bytes come from Redis (`Reader`,
`atomic`) and where they go there (`Hashes.field_args`). Everything between works with plain bytes.
A store without encryption has no `Sealing`, and its sessions have no seal.

Each value is encrypted by AES-256-GCM (NIST SP 800-38D) with a random nonce, under a key that is
derived from the session's id by HKDF-SHA-256 (RFC 5869). Redis never sees the id. The version of
the layout, the handle and the field's name are authenticated with each value, so that a value is
refused anywhere else. What Redis holds:

    FE 01 | nonce: 12 bytes | ciphertext | tag: 16 bytes

No plain value begins with FE, because that is never valid UTF-8. No I/O here.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from ..arguments import refuse_other, shown
from ..errors import SessionSealed, SessionValueError
from .codec import SEALED_MARK, CorruptValue, check_name

Encryption = Literal["read", "migrate"] | bool
"""`SessionStore(encryption=...)`."""

_STEPS = ("read", "migrate")
_VERSION, _NONCE, _TAG = b"\x01", 12, 16
_HEAD = SEALED_MARK + _VERSION
#: What a sealed value takes more than the plain one.
OVERHEAD = len(_HEAD) + _NONCE + _TAG
_LAYOUT = b"1"
_INFO = b"asgi-redis-session: the values of a session, layout 1"
_AT = b"@"
#: In front of the name of a field that ends sooner than its session (see `timed`).
_WITH_TTL = b"@="


def is_sealed(raw: bytes) -> bool:
    """Whether these bytes of a field are encrypted."""
    return raw[:1] == SEALED_MARK


class Sealing:
    """
    What all sessions of a store that encrypts have in common.

    *encryption*: True, `"read"` or `"migrate"`, as in `SessionStore`. *plain*: the fields that are
    never encrypted.
    """

    __slots__ = ("_make_cipher", "_plain", "refuses_plain", "writes")

    def __init__(self, encryption: Encryption, plain: Iterable[str]) -> None:
        self.writes = encryption != "read"
        self.refuses_plain = encryption is True
        self._plain = frozenset(name.encode() for name in plain)
        self._make_cipher = _ciphers()

    def of(self, session_id: str | None, handle: str) -> "Seal":
        """Return the seal of a session. Raises `SessionSealed` where its id is needed."""
        if session_id is None and self.writes:
            raise SessionSealed
        return Seal(self, session_id, handle)

    def refuse_sum(self, name: str) -> None:
        """Raise `SessionValueError` for a field to which Redis can't add."""
        if not self.is_plain(name.encode()):
            raise SessionValueError(
                f"session[{name!r}] can't be incremented: its value is encrypted, and Redis adds "
                f"to plain numbers only. Use transform, or SessionStore(plain=[{name!r}])."
            )

    def cipher(self, session_id: str) -> Any:
        """Return what encrypts under the key of this id."""
        return self._make_cipher(session_id.encode())

    def is_plain(self, name: bytes) -> bool:
        """Whether this field is never encrypted: the app has named it, or it is the library's."""
        if name[:2] == _WITH_TTL:
            return name[2:] in self._plain
        return name in self._plain or name[:1] == _AT


class Seal:
    """
    The key of one session, and what Redis holds of it.

    *held*: the values by name, as far as this request knows. *unsettled*: the names of those that
    this store would write in the other form.
    """

    __slots__ = ("_cipher", "_place", "_sealing", "_session_id", "held", "unsettled")

    def __init__(self, sealing: Sealing, session_id: str | None, handle: str) -> None:
        self._sealing = sealing
        self._session_id = session_id
        self._place = b"%b%b%b" % (_HEAD, _LAYOUT, handle.encode())
        self._cipher: Any = None
        self.held: dict[bytes, bytes] = {}
        self.unsettled: list[bytes] = []

    def opened(self, raws: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Take over what Redis holds of the whole session, and return it in plain bytes."""
        self.held = raws
        return {
            name: raw if name[:1] == _AT and name[:2] != _WITH_TTL else self._open(name, raw)
            for name, raw in raws.items()
        }

    def open(self, name: str, raw: bytes) -> bytes:
        """
        Take over what Redis holds of a field, and return it in plain bytes.

        Raises `CorruptValue` for a value that was not sealed here, and for a plain one if the store
        accepts none.
        """
        self.held[name.encode()] = raw
        return self._open(name.encode(), raw)

    def closed(self, fields: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """Return what Redis will hold of these fields; None: they are removed."""
        closed: dict[str, bytes | None] = {}
        for name, raw in fields.items():
            key = name.encode()
            if raw is None:
                self.held.pop(key, None)
            else:
                if self._seals(key):
                    raw = self._close(key, raw)  # noqa: PLW2901
                self.held[key] = raw
            closed[name] = raw
        return closed

    def as_held(self, name: str, raw: bytes) -> bytes:
        """Return what Redis holds of a field whose plain bytes are *raw*, if that is known."""
        held = self.held.get(name.encode(), raw)
        return held if is_sealed(held) else raw

    def bound(self) -> dict[str, bytes]:
        """
        Return the values that can't follow the session to another key, as Redis holds them.

        They are encrypted under this key, or will be under the other one.
        """
        held = self.held.items()
        return {name.decode(): raw for name, raw in held if is_sealed(raw) or self._seals(name)}

    def _seals(self, name: bytes) -> bool:
        return self._sealing.writes and not self._sealing.is_plain(name)

    def _open(self, name: bytes, raw: bytes) -> bytes:
        sealing = self._sealing
        if raw[:1] != SEALED_MARK:
            if sealing.writes and not sealing.is_plain(name):
                if sealing.refuses_plain:
                    raise CorruptValue("a field is not encrypted, and its name is not in plain=")
                self.unsettled.append(name)
            return raw
        if sealing.writes and sealing.is_plain(name):
            self.unsettled.append(name)
        try:
            if raw[:2] != _HEAD or len(raw) < OVERHEAD:
                raise ValueError  # noqa: TRY301
            nonce, sealed = raw[2 : 2 + _NONCE], raw[2 + _NONCE :]
            plain: bytes = self._ready().decrypt(nonce, sealed, self._place + name)
        except SessionSealed:
            raise
        except Exception:  # noqa: BLE001  (InvalidTag, which is imported only where it is needed)
            raise CorruptValue(
                "an encrypted field was not written under this handle and name"
            ) from None
        return plain

    def _close(self, name: bytes, raw: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return b"%b%b%b" % (_HEAD, nonce, self._ready().encrypt(nonce, raw, self._place + name))

    def _ready(self) -> Any:
        """Return the cipher, whose key is derived when it is first needed."""
        if self._cipher is None:
            if self._session_id is None:
                raise SessionSealed
            self._cipher = self._sealing.cipher(self._session_id)
        return self._cipher


def sealing_for(encryption: Any, plain: Any, indexed: Iterable[str]) -> Sealing | None:
    """
    Return what `SessionStore` is asked for; None without encryption.

    *indexed*: the fields that Redis Search reads. Raises `ValueError` or `TypeError`.
    """
    is_step = isinstance(encryption, str) and encryption in _STEPS
    if not is_step and not isinstance(encryption, bool):
        raise ValueError(
            f"SessionStore(encryption={shown(encryption)}): use True, 'read', 'migrate' or False."
        )
    refuse_other("SessionStore(plain)", plain, list | tuple | set | frozenset, "a list of names")
    names = [check_name(name) for name in plain]
    if not encryption:
        if names:
            raise ValueError(
                "SessionStore(plain=[...]) names fields that are not encrypted, so it needs "
                "encryption=True, 'read' or 'migrate'."
            )
        return None
    return Sealing(encryption, [*names, *indexed])


def _ciphers() -> Callable[[bytes], Any]:
    """Import what encrypts, and return what makes a cipher of a secret of enough random bits."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  (an extra)
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
    except ImportError:
        raise ImportError(
            "SessionStore(encryption=...) needs the package cryptography. "
            "Install it: pip install 'asgi-redis-session[encryption]'."
        ) from None

    def cipher(secret: bytes) -> Any:
        return AESGCM(HKDF(SHA256(), 32, None, _INFO).derive(secret))

    return cipher
