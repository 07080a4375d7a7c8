"""Plain commands: for Redis, they are much cheaper than scripts."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

#: A part of a command in the Redis protocol: its length, and itself.
_PART = b"$%d\r\n%b\r\n"

R = TypeVar("R")


class Plain(Generic[R]):
    """
    A command on one key that is no script. Only for one that may be executed twice.

    Packing is the most expensive part of sending, so all but the arguments is packed only once.

    *name*: for traces and tests. *command*: what Redis calls it. *result* turns the reply, and the
    server's time in milliseconds since 1970, into what a call returns. The reply is None if the key
    holds another type.
    """

    __slots__ = ("_alone", "_with_one", "command", "name", "result")

    is_plain: ClassVar = True

    def __init__(self, name: str, command: str, result: Callable[[Any, int], R]) -> None:
        self.name = name
        self.command = command
        self.result = result
        self._alone = b"*2\r\n$%d\r\n%b\r\n" % (len(command), command.encode()) + _PART
        self._with_one = self._alone.replace(b"*2", b"*3", 1) + _PART

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def packed(self, keys: Sequence[bytes], arguments: Sequence[int] = ()) -> bytes:
        """Return the command. It takes one argument at most, a number."""
        (key,) = keys
        if not arguments:
            return self._alone % (len(key), key)
        (argument,) = arguments
        text = b"%d" % argument
        return self._with_one % (len(key), key, len(text), text)

    in_full = packed
