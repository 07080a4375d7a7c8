"""
Proving replies that name no key.

The reply to a plain command says nothing about whose it is. So a batch with plain commands ends
with a small script that answers a nonce, and none of their replies is delivered before that one has
arrived in its place: then their number is right. (Only something that drops one reply and doubles
another in the same batch would pass.) The script also answers the server's time.
"""

from typing import Any

from .commands import Script

PROVE: Script[Any] = Script(
    "prove",
    """
local time = redis.call('TIME')
return {KEYS[1], ARGV[1], time[1] * 1000 + math.floor(time[2] / 1000)}
""",
    tuple,
)


class Proof:
    """
    The last command of a batch. *key*: that of one of its plain commands. *tried*: keys on which
    the script was refused already.
    """

    __slots__ = ("_nonce", "key", "tried")

    def __init__(self, key: bytes, nonce: int, tried: frozenset[bytes] = frozenset()) -> None:
        self.key = key
        self.tried = tried
        self._nonce = b"%d" % nonce

    def command(self, *, in_full: bool = False) -> bytes:
        """Return the packed command. *in_full*: for a server that doesn't know the script yet."""
        packed = (PROVE.in_full if in_full else PROVE.packed)((self.key,), (self._nonce,))
        return packed[0]

    def time_of(self, answer: Any) -> int | None:
        """Return the server's time in milliseconds; None if the answer proves nothing."""
        if type(answer) is list and answer[:2] == [self.key, self._nonce]:
            return int(answer[2])
        return None
