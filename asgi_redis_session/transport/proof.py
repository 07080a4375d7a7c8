"""
Proving replies that name no key.

The reply to a plain command says nothing about whose it is. So a batch with plain commands ends
with a nonce, and none of their replies is delivered before that has come back in its place: then
their number is right. (Only something that drops one reply and doubles another in the same batch
would pass.) The server's time comes with it, which the other replies don't have.

`Proof` asks for both with PING and TIME. Some servers refuse PING: where the user's rights are
those that version 0.1 documented, for instance, or while the disk is full. `ScriptProof` is for
these. It takes Redis twice the time, because each batch wakes the Lua interpreter for it.
"""

from itertools import count
from secrets import randbits
from typing import Any, ClassVar, NamedTuple

from redis.exceptions import NoScriptError, ResponseError

from .batch import Batch
from .scripts import ASKING, Script, pack

_TIME = pack("TIME")

_TEXT = """local time = redis.call('TIME')
return {KEYS[1], ARGV[1], time[1] * 1000 + math.floor(time[2] / 1000)}"""

PROVE: Script[Any] = Script("prove", _TEXT, tuple)


class Proof:
    """PING with a nonce, and TIME: what a batch with plain commands ends with."""

    __slots__ = ("_nonce",)

    #: How many replies it has.
    replies: ClassVar = 2

    def __init__(self, nonce: int) -> None:
        self._nonce = b"%d" % nonce

    def command(self) -> bytes:
        """Return the packed commands."""
        return b"*2\r\n$4\r\nPING\r\n$%d\r\n%b\r\n%b" % (len(self._nonce), self._nonce, _TIME)

    def time_in(self, answers: list[Any]) -> int | None:
        """Return the server's time in milliseconds; None if these are not the answers."""
        match answers:
            case [self._nonce, [bytes(seconds), bytes(micros)]]:
                return int(seconds) * 1000 + int(micros) // 1000
        return None


class ScriptProof:
    """
    The same in a script, on the key of one of the batch's plain commands.

    *has_asking*: ASKING is sent before it, as before that command. *tried*: keys on which the
    script was refused already. *in_full*: for a server that doesn't know the script yet.
    """

    __slots__ = ("_in_full", "_nonce", "has_asking", "key", "replies", "tried")

    def __init__(
        self,
        key: bytes,
        nonce: int,
        *,
        has_asking: bool,
        tried: frozenset[bytes] = frozenset(),
        in_full: bool = False,
    ) -> None:
        self.key = key
        self.has_asking = has_asking
        self.tried = tried
        self._in_full = in_full
        #: How many replies it has.
        self.replies = 2 if has_asking else 1
        self._nonce = b"%d" % nonce

    def command(self) -> bytes:
        """Return the packed command."""
        packed = (PROVE.in_full if self._in_full else PROVE.packed)((self.key,), (self._nonce,))
        return ASKING + packed if self.has_asking else packed

    def time_in(self, answers: list[Any]) -> int | None:
        """As for `Proof`."""
        match answers[-1]:
            case [self.key, self._nonce, int(now_ms)]:
                return now_ms
        return None


class Refused(NamedTuple):
    """A proof that the server has refused."""

    proof: Proof | ScriptProof
    error: ResponseError


class Proofs:
    """The proofs of one lane."""

    __slots__ = ("_may_ping", "_nonces")

    def __init__(self) -> None:
        # They begin anywhere, so that those of other lanes are different.
        self._nonces = count(randbits(48))
        self._may_ping = True

    def of(self, batch: Batch) -> Proof | ScriptProof | None:
        """Return what proves the plain commands of a batch; None if there are none."""
        if (call := batch.last_plain()) is None:
            return None
        if self._may_ping:
            return Proof(next(self._nonces))
        return ScriptProof(call.key, next(self._nonces), has_asking=call.has_asking)

    def after(self, refused: Refused, batch: Batch) -> ScriptProof | None:
        """
        Return another proof of the same batch: the script, if PING or TIME was refused; the script
        in full, if the server does not know it; else on another key, because that of the first one
        may have moved to another node of a Cluster. None if there is no other.
        """
        proof, nonce = refused.proof, next(self._nonces)
        if isinstance(proof, Proof):
            self._may_ping = False
            call, _ = batch.held[-1]
            return ScriptProof(call.key, nonce, has_asking=call.has_asking)
        if isinstance(refused.error, NoScriptError):
            return ScriptProof(
                proof.key, nonce, has_asking=proof.has_asking, tried=proof.tried, in_full=True
            )
        tried = proof.tried | {proof.key}
        others = [call for call in batch.good_calls() if call.key not in tried]
        if not others:
            return None
        call = others[-1]
        return ScriptProof(call.key, nonce, has_asking=call.has_asking, tried=tried)
