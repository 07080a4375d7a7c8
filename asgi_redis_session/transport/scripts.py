"""Lua scripts as commands, packed the way Redis reads them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from hiredis import pack_command

R = TypeVar("R")


class Script(Generic[R]):
    """
    A Lua script. It is sent by its SHA-1, and in full only to a server that doesn't know it yet.

    *name*: for traces and tests; Redis never sees it. *text* must return a list that begins with
    `KEYS[1]`: the lane compares that with the key it sent, so that no reply reaches another caller.
    *result* turns the reply into what a call returns: `result(*reply)`, mostly a named tuple.
    """

    __slots__ = ("name", "result", "sha", "text")

    is_plain: ClassVar = False

    def __init__(self, name: str, text: str, result: Callable[..., R]) -> None:
        self.name = name
        self.text = text
        self.result = result
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def packed(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> bytes:
        """Return the EVALSHA command."""
        return pack(b"EVALSHA", self.sha, len(keys), *keys, *arguments)

    def in_full(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> bytes:
        """Return the EVAL command, for a server that doesn't know the script."""
        return pack(b"EVAL", self.text, len(keys), *keys, *arguments)

    def prepare(self, *arguments: Any) -> "PreparedScript[R]":
        """Return this script with *arguments* that are the same in every call, and one key."""
        return PreparedScript(self, arguments)


class PreparedScript(Script[R]):
    """
    A script on one key, whose arguments are always the same (see `Script.prepare`).

    Packing is the most expensive part of sending, so all but the key is packed only once. The
    arguments of a call are ignored.
    """

    __slots__ = ("_after_key", "_arguments", "_before_key")

    def __init__(self, script: Script[R], arguments: Sequence[Any]) -> None:
        self.name, self.text, self.sha = script.name, script.text, script.sha
        self.result = script.result
        self._arguments = arguments
        placeholder = b"\0the key\0"
        packed = script.packed((placeholder,), arguments)
        self._before_key, self._after_key = packed.split(
            b"$%d\r\n%b" % (len(placeholder), placeholder)
        )

    def packed(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> bytes:
        """Return the EVALSHA command for one key."""
        (key,) = keys
        return b"%b$%d\r\n%b%b" % (self._before_key, len(key), key, self._after_key)

    def in_full(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> bytes:
        """Return the EVAL command for one key."""
        return super().in_full(keys, self._arguments)


def pack(*parts: Any) -> bytes:
    """Return one command as bytes, in the Redis protocol."""
    packed: bytes = pack_command(parts)
    return packed


#: What a node of a Cluster wants to hear before a command on a key that is moving to it.
ASKING = pack("ASKING")
