"""What ties one of our sessions to that of an identity provider (OpenID Connect)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from ..errors import SessionValueError

_LONGEST = 1000
#: No time in milliseconds has more.
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Link:
    """
    What ties a session to a provider's. *sid*, *sub*: digests; "" if the provider has given none.

    *entered_ms*: when the login has entered the keys, by the clock of each.
    """

    sid: str
    sub: str
    entered_ms: Sequence[int] = ()

    @property
    def names(self) -> list[str]:
        """The names of its keys."""
        named = (("sid", self.sid), ("sub", self.sub))
        return [f"{kind}:{digest}" for kind, digest in named if digest]

    @classmethod
    def of(cls, stored: str) -> Self:
        """Return the link that a session's hash holds; damaged times count as the earliest."""
        sid, sub, *entered = [*stored.split(" "), ""]
        link = cls(sid, sub)
        times = [int(text) for text in entered if text.isdecimal() and len(text) < _DIGITS]
        if len(times) != len(link.names):
            times = [0] * len(link.names)
        return replace(link, entered_ms=tuple(times))

    def stored(self) -> str:
        """Return it as the session's hash holds it."""
        return " ".join([self.sid, self.sub, *map(str, self.entered_ms)])

    def ends(self, stored: str) -> bool:
        """Whether an end of this ends the session whose hash holds *stored*."""
        sid, sub, *_ = [*stored.split(" "), ""]
        if self.sid and sid:
            return self.sid == sid
        return bool(self.sub) and self.sub == sub


def link_of(what: str, issuer: object, sid: object, sub: object) -> Link | None:
    """Return the link of these, or None if there are none. *what*: for errors."""
    given = {"issuer": issuer, "sid": sid, "sub": sub}
    for name, value in given.items():
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= _LONGEST):
            raise SessionValueError(
                f"{what}: {name} is a text of 1 to {_LONGEST} characters, as in the ID token."
            )
    if issuer is None and sid is None and sub is None:
        return None
    if issuer is None or (sid is None and sub is None):
        raise SessionValueError(
            f"{what} needs the issuer together with sid, sub or both, as in the ID token."
        )
    digests = ["" if value is None else digest_of(issuer, value) for value in (sid, sub)]
    return Link(digests[0], digests[1])


def digest_of(issuer: object, value: object) -> str:
    """Return what stands for a provider's name of something in Redis."""
    text = f"{issuer}\0{value}".encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]
