"""What can be sent: Lua scripts and plain commands, packed the way Redis reads them."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from hiredis import pack_command
from redis.exceptions import ResponseError

R = TypeVar("R")


class Command(Generic[R]):
    """
    Something to send, on one or several keys.

    *name*: for traces and tests; Redis never sees it. *result* turns the reply into what a call
    returns: `result(*reply)`, mostly a named tuple.
    """

    __slots__ = ("name", "result")

    #: Whether the replies name no key, so that the lane has to prove them (see `lane`).
    is_plain: ClassVar[bool]

    def __init__(self, name: str, result: Callable[..., R]) -> None:
        self.name = name
        self.result = result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @abstractmethod
    def packed(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> Sequence[bytes]:
        """Return what to send; Redis answers each part with one reply."""

    def in_full(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> Sequence[bytes]:
        """Return what to send to a server that doesn't know the command by its short form."""
        return self.packed(keys, arguments)

    def accepts(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether this error is a result: it says something about the data, not the server."""
        return False

    @property
    def nothing(self) -> list[Any]:
        """What *result* gets in place of such an error."""
        raise NotImplementedError


class Script(Command[R]):
    """
    A Lua script. It is sent by its SHA-1, and in full only to a server that doesn't know it yet.

    *text* must return a list that begins with `KEYS[1]`: the lane compares that with the key it
    sent, so that no reply reaches another caller.
    """

    __slots__ = ("sha", "text")

    is_plain = False

    def __init__(self, name: str, text: str, result: Callable[..., R]) -> None:
        super().__init__(name, result)
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def packed(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> Sequence[bytes]:
        """Return the EVALSHA command."""
        return (pack(b"EVALSHA", self.sha, len(keys), *keys, *arguments),)

    def in_full(self, keys: Sequence[bytes], arguments: Sequence[Any]) -> Sequence[bytes]:
        """Return the EVAL command, for a server that doesn't know the script."""
        return (pack(b"EVAL", self.text, len(keys), *keys, *arguments),)

    def prepare(self, *arguments: Any) -> "PreparedScript[R]":
        """Return this script with *arguments* that are the same in every call, and one key."""
        return PreparedScript(self, arguments)


class PreparedScript(Script[R]):
    """
    A script on one key, whose arguments are always the same (see `Script.prepare`).

    Packing is the most expensive part of sending, so all but the key is packed only once. The
    arguments of a call are ignored.
    """

    __slots__ = ("_arguments", "_frame")

    def __init__(self, script: Script[R], arguments: Sequence[Any]) -> None:
        self.name, self.text, self.sha = script.name, script.text, script.sha
        self.result = script.result
        self._arguments = arguments
        self._frame = _Frame(lambda key: script.packed((key,), arguments)[0])

    def packed(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> Sequence[bytes]:
        """Return the EVALSHA command for one key."""
        (key,) = keys
        return (self._frame.around(key),)

    def in_full(self, keys: Sequence[bytes], _arguments: Sequence[Any] = ()) -> Sequence[bytes]:
        """Return the EVAL command for one key."""
        return super().in_full(keys, self._arguments)


class Plain(Command[R]):
    """
    Plain commands on one key, such as HGETALL: cheaper for Redis than any script.

    *commands*: their names. Arguments, if a call has any, go to the last one. *result* gets their
    replies, and then the server's time in milliseconds since 1970. Only for commands that read, or
    whose reply nobody waits for.

    If the key holds something of another type, Redis answers WRONGTYPE: then *result* gets None
    for each reply, and 0.
    """

    __slots__ = ("_commands", "_frames")

    is_plain = True

    def __init__(self, commands: Sequence[str], result: Callable[..., R]) -> None:
        super().__init__("+".join(commands).lower(), result)
        self._commands = commands
        self._frames = [_Frame(partial(pack, name)) for name in commands]

    def packed(self, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> Sequence[bytes]:
        """Return the commands for one key."""
        (key,) = keys
        if arguments:
            *others, last = self._commands
            return (*[pack(name, key) for name in others], pack(last, key, *arguments))
        return [frame.around(key) for frame in self._frames]

    def accepts(self, error: Exception) -> bool:
        """Whether the key holds something of another type."""
        return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")

    @property
    def nothing(self) -> list[Any]:
        """What *result* gets for a key of another type."""
        return [*[None for _ in self._commands], 0]


class _Frame:
    """A packed command with a gap for its key: packing is the most expensive part of sending."""

    __slots__ = ("_after_key", "_before_key")

    def __init__(self, pack_with: Callable[[bytes], bytes]) -> None:
        placeholder = b"\0the key\0"
        self._before_key, self._after_key = pack_with(placeholder).split(
            b"$%d\r\n%b" % (len(placeholder), placeholder)
        )

    def around(self, key: bytes) -> bytes:
        """Return the command for this key."""
        return b"%b$%d\r\n%b%b" % (self._before_key, len(key), key, self._after_key)


def pack(*parts: Any) -> bytes:
    """Return one command as bytes, in the Redis protocol."""
    packed: bytes = pack_command(parts)
    return packed
