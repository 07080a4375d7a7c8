"""
The seam for encryption: from a value's bytes to those that Redis holds of it, and back.

A `Seal` belongs to one session under one handle. It is asked where bytes come from Redis
(`Reader`, `atomic`), and where they go there (`Hashes.field_args`). Everything between works with
plain bytes. A store without encryption has no `Sealing`, and its sessions have no seal.
"""

from collections.abc import Mapping
from typing import Protocol


class Seal(Protocol):
    """The key of one session, and what Redis holds of it: *held*, as far as this request knows."""

    held: dict[bytes, bytes]

    def opened(self, raws: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Take over what Redis *holds* of the whole session, and return it in plain bytes."""

    def open(self, name: str, raw: bytes) -> bytes:
        """Return one field in plain bytes. Raises `CorruptValue` if it was not sealed here."""

    def closed(self, fields: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """Return what Redis will hold of these fields; None: removed."""


class Sealing(Protocol):
    """What all sessions of a store that encrypts have in common."""

    def of(self, session_id: str | None, handle: str) -> Seal:
        """Return the seal of a session. Raises `SessionSealed` without the id."""
