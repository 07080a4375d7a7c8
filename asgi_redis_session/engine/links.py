"""What a session ends with: one of an identity provider (OpenID Connect), or the user who acts."""

import hashlib

import msgspec
from msgspec.structs import replace

from ..errors import SessionValueError

_LONGEST = 1000


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What a session is tied to, so that it ends with that.

    *sid*, *sub*: digests of what a provider calls its session and its user; "" if it has given
    none. *actor*: a digest of the user who acts for this session's user; "" if nobody does.
    *entered_ms*: when the login has entered the keys, by the clock of each.
    """

    sid: str = ""
    sub: str = ""
    actor: str = ""
    entered_ms: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.entered_ms) not in (0, len(self.names)):
            raise ValueError("a time for each key")

    @property
    def names(self) -> list[str]:
        """The names of its keys."""
        named = (("sid", self.sid), ("sub", self.sub), ("actor", self.actor))
        return [f"{kind}:{digest}" for kind, digest in named if digest]

    def ends(self, other: "Link") -> bool:
        """Whether an end of this ends the session that is tied to *other*."""
        if self.actor:
            return self.actor == other.actor
        if self.sid and other.sid:
            return self.sid == other.sid
        return bool(self.sub) and self.sub == other.sub


def link_to_actor(user_id: str, link: Link | None = None) -> Link:
    """Return a link to who acts, in addition to *link*. *user_id*: as text."""
    return replace(link or Link(), actor=digest_of("actor", user_id))


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
    """Return the digest that Redis holds of a name. *issuer*: who gave it, or what it names."""
    text = f"{issuer}\0{value}".encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]
