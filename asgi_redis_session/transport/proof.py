"""
Proving replies that name no key.

The reply to a plain command says nothing about whose it is. So a batch with plain commands ends
with a small script that answers a nonce, and none of their replies is delivered before that one has
arrived in its place: then their number is right. (Only something that drops one reply and doubles
another in the same batch would pass.) It answers the server's time, too, which the others don't.
"""

from typing import Any

from .scripts import ASKING, Script

_TEXT = """local time = redis.call('TIME')
return {KEYS[1], ARGV[1], time[1] * 1000 + math.floor(time[2] / 1000)}"""

PROVE: Script[Any] = Script("prove", _TEXT, tuple)


class Proof:
    """
    The last command of a batch. *key*: that of one of its plain commands. *has_asking*: ASKING is
    sent before it, as before that command. *tried*: keys on which the script was refused already.
    """

    __slots__ = ("_nonce", "has_asking", "key", "tried")

    def __init__(
        self, key: bytes, nonce: int, *, has_asking: bool, tried: frozenset[bytes] = frozenset()
    ) -> None:
        self.key = key
        self.has_asking = has_asking
        self.tried = tried
        self._nonce = b"%d" % nonce

    def command(self, *, in_full: bool = False) -> bytes:
        """Return the packed command. *in_full*: for a server that doesn't know the script yet."""
        packed = (PROVE.in_full if in_full else PROVE.packed)((self.key,), (self._nonce,))
        return ASKING + packed if self.has_asking else packed

    def time_in(self, answer: Any) -> int | None:
        """Return the server's time in milliseconds; None if this is not the answer."""
        match answer:
            case [self.key, self._nonce, int(now_ms)]:
                return now_ms
        return None
