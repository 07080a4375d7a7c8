"""Lua scripts as commands."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from hiredis import pack_command

__all__ = ["Prepared", "Script", "pack"]


class Script:
    """A Lua script, sent by its SHA-1, and in full only to a server that doesn't know it yet."""

    __slots__ = ("sha", "text")

    def __init__(self, *names: str) -> None:
        folder = files("asgi_redis_session.engine") / "lua"
        self.text = "".join([(folder / f"{name}.lua").read_text() for name in names])
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def packed(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> bytes:
        """The command as Redis reads it."""
        return pack(b"EVALSHA", self.sha, len(keys), *keys, *arguments)

    def in_full(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> bytes:
        """The same, for a server that doesn't know the script."""
        return pack(b"EVAL", self.text, len(keys), *keys, *arguments)


class Prepared(Script):
    """
    A script on one key, with arguments that are always the same: all but the key is packed once,
    because packing is the dearest part of sending.
    """

    __slots__ = ("_after", "_arguments", "_before")

    def __init__(self, script: Script, arguments: Sequence[Any]) -> None:
        self.text, self.sha = script.text, script.sha
        self._arguments = arguments
        key = b"\0the key\0"
        packed = script.packed((key,), arguments)
        self._before, self._after = packed.split(b"$%d\r\n%b" % (len(key), key))

    def packed(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> bytes:
        """As that of a script, with its own arguments."""
        (key,) = keys
        return b"%b$%d\r\n%b%b" % (self._before, len(key), key, self._after)

    def in_full(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> bytes:
        """As that of a script, with its own arguments."""
        return super().in_full(keys, self._arguments)


def pack(*parts: Any) -> bytes:
    """One command as Redis reads it."""
    packed: bytes = pack_command(parts)
    return packed
