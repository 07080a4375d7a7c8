"""
Proving replies that name no key.

The reply to a plain command says nothing about whose it is. So a batch with plain commands ends
with a small script that answers a nonce, and none of their replies is delivered before that one has
arrived in its place: then their number is right. (Only something that drops one reply and doubles
another in the same batch would pass.)
"""

from typing import Any

from .scripts import Script

PROVE: Script[Any] = Script("prove", "return {KEYS[1], ARGV[1]}", tuple)


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
        return (PROVE.in_full if in_full else PROVE.packed)((self.key,), (self._nonce,))

    def is_met(self, answer: Any) -> bool:
        """Whether this is the answer to the command."""
        return bool(answer == [self.key, self._nonce])
